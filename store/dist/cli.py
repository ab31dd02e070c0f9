"""The ``dist`` command: which commands there are, their parsers, and the exit codes.

Each command is a module of its own, named in `COMMANDS` and imported only when it is used or
asked for its ``--help``.  To add one, write the module and its line in that table.  A command
module exports two functions::

    def add_arguments(parser: argparse.ArgumentParser) -> None
        Sets ``parser.description`` and ``parser.epilog`` (laid out as written; end with
        examples) and adds the arguments, except --root, which every command has from here.

    def run(options: argparse.Namespace, root: str) -> int
        Does the work on the store in the folder ``root`` (which need not exist) and returns
        an exit code.

Results are written with the functions of `store.dist.output`, never with print; a complaint
about one of many things with its `complain`, and the command then goes on and returns 1.  What
ends a command is raised: `UsageError` (exit 2), a `store.errors.StoreError` or an `OSError`
(exit 1, told in one line).  A closed standard output and ^C are dealt with here.

Start-up counts: a command module imports at its top only what each of its runs needs.
"""

from __future__ import annotations

import gc
import os
import sys
from argparse import SUPPRESS, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from store.dist import output
from store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT and 128 + SIGPIPE: what a shell shows for a command that the
STDOUT_CLOSED = 141  # signal itself ended


class Command(NamedTuple):
    """One line of the table of commands.

    Attributes:
        name: the first word on the command line.
        help: one line for ``dist --help``.
        module: where its ``add_arguments`` and ``run`` are.
        aliases: other words for it.
    """

    name: str
    help: str
    module: str
    aliases: tuple[str, ...] = ()


COMMANDS = (
    Command("ingest", "take standard input into the store", "store.dist.ingest"),
    Command("active", "show the ingests in progress", "store.dist.active"),
    Command("list", "list blobs", "store.dist.list", ("ls",)),
    Command("path", "show where blobs are on disk", "store.dist.path"),
    Command("get", "write a blob to standard output", "store.dist.get", ("cat",)),
    Command("delete", "delete blobs", "store.dist.delete", ("del", "rm")),
    Command("abort", "drop ingests in progress", "store.dist.abort"),
    Command("fetch", "write an object of a registry to standard output", "store.dist.fetch"),
    Command("pull", "bring an image from a registry into the store", "store.dist.pull"),
    Command("push", "bring an image from the store to a registry", "store.dist.push"),
    Command("verify", "hash everything again and check the layout", "store.dist.verify"),
    Command("prune", "drop abandoned ingests", "store.dist.prune"),
)

_COLUMNS = 100  # of help where there is no terminal, and at most

_USAGE = "dist [--root DIR] COMMAND [ARGUMENT...]"

_EPILOG = """\
The store is the folder --root DIR (before or after the command), else $DIST_ROOT, else
.content.  Results are on standard output, all else on standard error; --json turns tables into
JSON Lines.  Exit status: 0 done, 1 something failed, 2 the command line makes no sense.

examples:
  dist ingest --expected-digest sha256:6ca1… < layer.tar    verified, or not there at all
  dist ingest layer-1 < layer.tar                           any other name will do as well
  dist list
  dist get sha256:6ca1… | tar -t
  dist COMMAND --help                                       more, with examples
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``dist`` and return its exit code; nothing but that is raised.

    Args:
        argv: the arguments without the program's name; those of the process when None.
    """
    try:
        code = _guarded(list(sys.argv[1:] if argv is None else argv))
        output.flush()
    except output.StdoutClosed:
        return STDOUT_CLOSED
    except output.Failed as error:
        output.complain(error)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        gc.freeze()  # the interpreter's last collections, of modules, cost 2 ms and free nothing
    return code


def _guarded(arguments: list[str]) -> int:
    """Run the command and turn what it raises into an exit code; results so far still go out."""
    try:
        return _dispatch(arguments)
    except output.UsageError as error:
        output.complain(error)
        return USAGE
    except (StoreError, OSError, output.Failed) as error:
        output.complain(error)
        return FAILED


def _dispatch(arguments: list[str]) -> int:
    root, word, rest = _split(arguments)
    if word is None:
        output.write_text(_overview())
        return DONE
    command = _find(word)
    module = import_module(command.module)
    parser = _parser(command)
    module.add_arguments(parser)
    try:
        options, left = parser.parse_known_args(rest)
        if left:  # options between the words, or what nobody knows; this one costs more
            options = parser.parse_intermixed_args(rest)
        return int(module.run(options, _root(options, root)))
    except SystemExit:  # --help; what is wrong is raised as UsageError
        return DONE
    except output.UsageError as error:
        raise output.UsageError(f"{error}; see {parser.prog} --help") from None


def _split(arguments: list[str]) -> tuple[str | None, str | None, list[str]]:
    """The --root before the command, the command (None: help is asked for), and the rest."""
    root = None
    position = 0
    while position < len(arguments):
        word = arguments[position]
        position += 1
        if word in {"-h", "--help"}:
            return root, None, []
        if word == "--root" and position < len(arguments):
            root = arguments[position]
            position += 1
        elif word.startswith("--root="):
            root = word.removeprefix("--root=")
        elif word == "--root":
            raise output.UsageError("--root needs a folder; see dist --help")
        elif word.startswith("-"):
            raise output.UsageError(f"unknown option {word} before the command; see dist --help")
        else:
            return root, word, arguments[position:]
    raise output.UsageError(f"no command; usage: {_USAGE}; see dist --help")


def _find(word: str) -> Command:
    for command in COMMANDS:
        if word == command.name or word in command.aliases:
            return command
    names = ", ".join(command.name for command in COMMANDS)
    raise output.UsageError(f"unknown command {word}; there are {names}; see dist --help")


def _root(options: Namespace, before: str | None) -> str:
    root: str | None = getattr(options, "root", before)
    if root == "":
        raise output.UsageError("--root needs a folder, not an empty word")
    return root or os.environ.get("DIST_ROOT") or ".content"


def _overview() -> str:
    names = [", ".join((command.name, *command.aliases)) for command in COMMANDS]
    width = max(map(len, names))
    table = "\n".join(
        f"  {name:<{width}}  {command.help}" for name, command in zip(names, COMMANDS, strict=True)
    )
    about = "Blobs by digest, and the ingests that bring them in."
    return f"usage: {_USAGE}\n\n{about}\n\ncommands:\n{table}\n\n{_EPILOG}"


class _Parser(ArgumentParser):
    """An argparse parser whose output and complaints go the way of all others."""

    def error(self, message: str) -> NoReturn:
        """Raise `UsageError`, instead of writing two lines and ending the process."""
        raise output.UsageError(f"{self.prog.partition(' ')[2]}: {message}")

    def print_help(self, file: object = None) -> None:
        """Write the help as a result is written."""
        del file
        output.write_text(self.format_help())


class _Formatter(RawDescriptionHelpFormatter):
    """Finds the width of the terminal without shutil, which argparse imports at every start."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size().columns
        except OSError:
            columns = _COLUMNS
        super().__init__(prog, width=min(columns, _COLUMNS) - 2)


def _parser(command: Command) -> ArgumentParser:
    parser = _Parser(
        prog=f"dist {command.name}",
        formatter_class=_Formatter,
        allow_abbrev=False,  # a script must not break when an option is added
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        default=SUPPRESS,  # so that one before the command, found elsewhere, can be told from none
        help="the folder of the store (default: $DIST_ROOT, else .content)",
    )
    return parser
