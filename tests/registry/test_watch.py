"""How transfers are counted and told, apart from any registry."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from store import Digest
from store.dist.registry.media import Descriptor
from store.dist.watch import Lines, Watch, report

LAYERS = [Descriptor(Digest.of(bytes([i])), 1000 * (i + 1), "layer") for i in range(3)]


@pytest.fixture
def watch() -> Watch:
    """One that expects three layers, of 1000, 2000 and 3000 bytes."""
    watch = Watch()
    watch.expect(LAYERS)
    return watch


def test_counting(watch: Watch) -> None:
    """Held bytes count as there, transferred ones as moved too, and each blob once."""
    watch.expect(LAYERS[:1])
    watch.end(LAYERS[0], brought=False)
    watch.begin(LAYERS[1], 500)
    watch.advance(LAYERS[1], 1000)
    watch.begin(LAYERS[1], 0)
    watch.advance(LAYERS[1], 2000)
    watch.end(LAYERS[1], brought=True)
    watch.begin(LAYERS[2], 10)

    assert (watch.size, watch.there, watch.moved) == (6000, 3010, 3000)
    assert (watch.blobs, watch.ended, watch.brought) == (3, 2, 1)


def test_many_threads(watch: Watch) -> None:
    """Nothing is lost when layers come in parallel."""

    def bring(what: Descriptor) -> None:
        watch.begin(what, 0)
        for _ in range(what.size):
            watch.advance(what, 1)
        watch.end(what, brought=True)

    threads = [threading.Thread(target=bring, args=(layer,)) for layer in LAYERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (watch.there, watch.moved, watch.ended) == (6000, 6000, 3)


class Reader(io.StringIO):
    """A standard error that somebody waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.come = threading.Event()

    def write(self, text: str) -> int:
        """Take a line; the second one is what is waited for."""
        count = super().write(text)
        if self.getvalue().count("\n") == 2:
            self.come.set()
        return count


def test_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal a plain line comes now and then, also while nothing moves."""
    reader = Reader()
    monkeypatch.setattr(sys, "stderr", reader)
    with Lines("image", 0.05) as lines:
        lines.expect(LAYERS)
        lines.begin(LAYERS[0], 400)
        assert reader.come.wait(10)

    assert reader.getvalue().splitlines()[1] == "dist: image: 0 of 3 blobs, 400B of 6kB, 0B/s"


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (0, "3 blobs, 6kB; nothing was to be transferred, 3 missing"),
        (2, "3 blobs, 6kB; 2 and 3kB transferred in 0.0s, 1 missing"),
        (3, "3 blobs, 6kB; 3 and 6kB transferred in 0.0s"),
    ],
)
def test_summaries(watch: Watch, capsys: pytest.CaptureFixture[str], ended: int, says: str) -> None:
    """The last line says what there is, what was transferred and what is missing."""
    for layer in LAYERS[:ended]:
        watch.begin(layer, 0)
        watch.advance(layer, layer.size)
        watch.end(layer, brought=True)

    report("image", LAYERS[0], watch, failed=ended < 3, json=False)

    assert capsys.readouterr().err == f"dist: image: {says}\n"
