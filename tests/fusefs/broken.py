"""`contentfs` with one function that fails, or dawdles, as long as a file is there.

usage: broken.py MODULE:NAME[.NAME] FILE DEED contentfs' own arguments…

DEED is ``raise`` (something that nobody has foreseen) or a number of seconds to wait before the
function does its work.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from typing import Any

from fusefs.cli import main


def break_it(target: str, trigger: str, deed: str) -> None:
    """Put a function in the place of another, which it calls as long as there is no trigger."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    whole = getattr(owner, name)

    @functools.wraps(whole)
    def broken(*arguments: Any, **words: Any) -> Any:
        if os.path.exists(trigger):
            if deed == "raise":
                raise ZeroDivisionError("nobody has foreseen this")
            time.sleep(float(deed))
        return whole(*arguments, **words)

    setattr(owner, name, broken)


if __name__ == "__main__":
    break_it(*sys.argv[1:4])
    sys.exit(main(sys.argv[4:]))
