"""``dist pull``: an image from a registry into the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from store import Store
from store.dist import output
from store.dist.arguments import add_json
from store.dist.bring import Bringer
from store.dist.images import Tree, check_size, describe, grow, read_manifest
from store.dist.registry.errors import Unsound
from store.dist.registry.media import Platform, parse_manifest
from store.dist.registry.reference import Image
from store.dist.remote import Work, add_connection, add_jobs, add_mirror, add_platform, connect
from store.dist.watch import report, watch_for
from store.errors import StoreError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from store.dist.registry.media import Descriptor, Manifest
    from store.dist.registry.source import Source
    from store.dist.watch import Watch


def add_arguments(parser: ArgumentParser) -> None:
    """Add what ``dist pull`` takes."""
    parser.description = """\
Bring an image into the store: its index or manifest, config and layers, and print the digest of
what IMAGE names.  What is there already is not transferred.  Each blob on its way is an ingest
whose ref is its digest (dist active shows it); after ^C or a crash the next pull goes on at the
byte where it stopped."""
    parser.epilog = """\
examples:
  dist pull docker.io/library/redis
  dist pull --platform linux/arm64 docker.io/library/redis:7
  dist pull --all-platforms localhost:5000/app@sha256:6ca1…
  dist get "$(dist pull localhost:5000/app:v1)" | jq .
"""
    parser.add_argument("image", metavar="IMAGE", help="[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]")
    which = parser.add_mutually_exclusive_group()
    add_platform(which, "which manifest of an index to bring (default: that for this machine)")
    which.add_argument("--all-platforms", action="store_true", help="all that an index lists")
    add_jobs(parser)
    add_json(parser, "digest, size, mediaType, transferred; of the image last, with its image")
    add_mirror(parser)
    add_connection(parser)


def run(options: Namespace, root: str) -> int:
    """Pull into the store in ``root``."""
    image = Image.parse(options.image)
    try:
        return _pull(image, options, root)
    except KeyboardInterrupt:
        output.note("interrupted; what came is kept, and the next pull goes on from there")
        raise


def _pull(image: Image, options: Namespace, root: str) -> int:
    work = Work(options.jobs)
    with (
        watch_for(str(image), json=options.json) as watch,
        connect(options, work, watch.say) as client,
    ):
        pull = _Pull(client.source(image.repository), Store(root), watch, work)
        tree = work.one(lambda: pull.manifests(image, options))
        failures = pull.blobs(tree)
    for failure in failures:
        output.complain(failure)
    report(str(image), describe(tree.manifests[0]), watch, failed=bool(failures), json=options.json)
    return int(bool(failures))


class _Pull:
    """One pull: from where, where to, and how it goes."""

    def __init__(self, source: Source, store: Store, watch: Watch, work: Work) -> None:
        self._source = source
        self._store = store
        self._watch = watch
        self._work = work
        self._bringer = Bringer(store, watch, work.cancel)

    def manifests(self, image: Image, options: Namespace) -> Tree:
        """Bring the manifests, and say what else there is to bring."""
        asked: Platform | None = options.platform
        platform = None if options.all_platforms else asked or Platform.here()
        top = self._top(image)
        tree = grow(top, self._listed, platform)
        self._watch.expect(tree.blobs)
        if asked is not None and not top.is_index:
            self._check_platform(top, asked)
        return tree

    def blobs(self, tree: Tree) -> list[Exception]:
        """Bring the rest, as much of it as can be had; what failed is returned."""
        failures: list[Exception] = []
        results = self._work.each(lambda what: self._bringer.blob(self._source, what), tree.blobs)
        for result in results:
            try:
                result()
            except (StoreError, OSError) as error:
                failures.append(error)
        return failures

    def _top(self, image: Image) -> Manifest:
        """What the image's tag or digest stands for."""
        digest = image.digest or self._source.resolve(image.object)
        if digest is not None and self._store.exists(digest):
            manifest = read_manifest(self._store, digest)
            self._keep(manifest)
            return manifest
        data, said = self._source.manifest(image.object)
        algorithm = digest.algorithm if digest is not None else "sha256"
        manifest = parse_manifest(data, said, algorithm)
        self._keep(manifest)
        return manifest

    def _listed(self, what: Descriptor) -> Manifest:
        """What an index lists."""
        if self._store.exists(what.digest):
            manifest = read_manifest(self._store, what.digest, what.media_type)
        else:
            data, _ = self._source.manifest(str(what.digest))
            check_size(what, data)
            manifest = parse_manifest(data, what.media_type, what.digest.algorithm)
        self._keep(manifest)
        return manifest

    def _keep(self, manifest: Manifest) -> None:
        what = describe(manifest)
        self._watch.expect([what])
        self._bringer.bytes(what, manifest.data)

    def _check_platform(self, manifest: Manifest, asked: Platform) -> None:
        """Whether an image that has one platform only has the right one.

        Raises:
            Unsound: it has another.
        """
        config = manifest.blobs[0]
        self._bringer.blob(self._source, config)
        with self._store.open(config.digest) as file:
            try:
                found = Platform.of(json.load(file))
            except ValueError:
                return  # no image's config, so for no platform
        if found is not None and found != asked:
            raise Unsound(f"manifest {manifest.digest}", f"is for {found}, not for {asked}")
