"""``dist push``: an image from the store to a registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import NotFound, Store
from store.dist import output
from store.dist.arguments import add_json
from store.dist.images import Tree, describe, grow, read_manifest
from store.dist.registry.errors import Refused, Unsound
from store.dist.registry.media import choose
from store.dist.registry.reference import Image, Repository
from store.dist.remote import Work, add_connection, add_jobs, add_platform, connect
from store.dist.watch import report, watch_for
from store.errors import StoreError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from typing import BinaryIO, Self

    from store.digest import Digest
    from store.dist.registry.destination import Destination
    from store.dist.registry.media import Descriptor, Manifest, Platform
    from store.dist.watch import Watch


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist push`` takes."""
    parser.description = """\
Bring an image from the store to a registry, with everything below its index or manifest, and print
its digest.  IMAGE names the repository, by its digest the manifest in the store, and the tag that
it gets there, if any.  What the registry has already is not uploaded.  An index goes with all that
it lists; with --platform, the one manifest goes in its place."""
    parser.epilog = """\
examples:
  dist push localhost:5000/app:v1@sha256:6ca1…
  dist push --platform linux/arm64 localhost:5000/app:v1-arm64@sha256:6ca1…
  dist push --mount-from app localhost:5000/fork:v1@sha256:6ca1…
  dist push localhost:5000/redis:7@"$(dist pull --all-platforms docker.io/library/redis:7)"
"""
    parser.add_argument("image", metavar="IMAGE", help="HOST[:PORT]/REPOSITORY[:TAG]@DIGEST")
    add_platform(parser, "push that manifest of the index, not the index")
    parser.add_argument(
        "--mount-from",
        metavar="REPOSITORY",
        action="append",
        default=[],
        help="of the same registry, that may have the blobs: it takes them over without an upload",
    )
    add_jobs(parser)
    add_json(parser, "digest, size, mediaType, transferred; of the image last, with its image")
    add_connection(parser)


def run(options: Namespace, root: str) -> int:
    """Push from the store in ``root``."""
    image = Image.parse(options.image)
    if image.digest is None:
        raise output.UsageError("push: say by @DIGEST what of the store to push")
    work = Work(options.jobs)
    store = Store(root, read_only=True)
    with (
        watch_for(str(image), json=options.json) as watch,
        connect(options, work, watch.say) as client,
    ):
        destination = client.destination(image.repository)
        others = [_beside(image.repository, name) for name in options.mount_from]
        push = _Push(destination, store, watch, work, others)
        tree = push.tree(image.digest, options.platform)
        failures = push.blobs(tree)
        if not failures:
            work.one(lambda: push.manifests(tree, image.tag))
    for failure in failures:
        output.complain(failure)
    report(str(image), describe(tree.manifests[0]), watch, failed=bool(failures), json=options.json)
    return int(bool(failures))


def _beside(repository: Repository, name: str) -> Repository:
    """The repository ``name``, with or without its registry's name, of the same registry."""
    prefix = f"{repository.domain}/"
    return Repository.parse(prefix + name.removeprefix(prefix))


class _Push:
    """One push: from where, where to, and how it goes."""

    def __init__(
        self,
        destination: Destination,
        store: Store,
        watch: Watch,
        work: Work,
        others: Sequence[Repository],
    ) -> None:
        self._destination = destination
        self._store = store
        self._watch = watch
        self._work = work
        self._others = others

    def tree(self, digest: Digest, platform: Platform | None) -> Tree:
        """What is to be pushed; all of it must be in the store.

        Raises:
            NotFound: the manifest or something that it lists is not.
            Unsound: it is no manifest.
        """
        top = read_manifest(self._store, digest)
        if platform is not None and top.is_index:
            top = self._load(choose(top, platform))
        tree = grow(top, self._load, None)
        for what in tree.blobs:
            found = self._store.info(what.digest).size
            if found != what.size:
                reason = f"has {found} bytes in the store, {what.size} in its manifest"
                raise Unsound(f"blob {what.digest}", reason)
        self._watch.expect(tree.blobs)
        self._watch.expect(map(describe, tree.manifests))
        return tree

    def _load(self, what: Descriptor) -> Manifest:
        try:
            return read_manifest(self._store, what.digest, what.media_type)
        except NotFound:
            reason = f"lists {what.digest} ({what.platform}), which is not in the store"
            hint = "pull it with --all-platforms, or push one with --platform"
            raise Unsound("the index", f"{reason}; {hint}") from None

    def blobs(self, tree: Tree) -> list[Exception]:
        """Bring the blobs, as many as the registry takes; what failed is returned."""
        failures: list[Exception] = []
        for result in self._work.each(self._blob, tree.blobs):
            try:
                result()
            except (StoreError, OSError) as error:
                failures.append(error)
        return failures

    def manifests(self, tree: Tree, tag: str | None) -> None:
        """Bring the manifests, each after those that it lists, the top one by its tag."""
        top = tree.manifests[0]
        for manifest in reversed(tree.manifests):
            name = str(manifest.digest) if tag is None or manifest is not top else tag
            what = describe(manifest)
            there = self._destination.has_manifest(name, manifest)
            if not there:
                self._destination.put_manifest(name, manifest)
                self._watch.advance(what, what.size)
            self._watch.end(what, brought=not there)

    def _blob(self, what: Descriptor) -> None:
        if self._destination.has_blob(what.digest):
            self._watch.end(what, brought=False)
            return
        if any(self._mounted(what, other) for other in self._others):
            self._watch.end(what, brought=True)
            return

        def open_body() -> _Watched:
            return _Watched(self._store.open(what.digest), what, self._watch)

        self._destination.put_blob(what.digest, what.size, open_body)
        self._watch.end(what, brought=True)

    def _mounted(self, what: Descriptor, other: Repository) -> bool:
        try:
            return self._destination.mount(what.digest, other)
        except Refused as error:
            # Not to be let in there is no reason not to upload.
            self._watch.say(f"nothing can be taken over from {other}: {error}")
            return False


class _Watched:
    """A blob as the body of a request, whose reading is watched.  A context manager."""

    def __init__(self, file: BinaryIO, what: Descriptor, watch: Watch) -> None:
        self._file = file
        self._what = what
        self._watch = watch

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self._watch.advance(self._what, len(data))
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        found = self._file.seek(offset, whence)
        self._watch.begin(self._what, found)
        return found
