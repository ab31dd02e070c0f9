"""The ingests of a store: found, listed, held, moved and dropped."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple

from store import disk, locks
from store.errors import Busy, Invalid, NotFound, NotRegular, StoreError
from store.ingest import Ingest, Status
from store.layout import DATA, LOCK, REF, is_ingest_folder_name
from store.refs import Ref
from store.sharedsync import SharedSync

if TYPE_CHECKING:
    from collections.abc import Iterator

    from store.layout import Layout

__all__ = ["Held", "Ingests"]


class Held(NamedTuple):
    """An ingest and our lock on it."""

    ingest: Ingest
    lock: locks.Lock

    def release(self) -> None:
        """Let go of both."""
        try:
            self.lock.release()
        finally:
            self.ingest.close()


class Ingests:
    """The ingests of one store.  Safe from many threads."""

    __slots__ = ("_layout", "_root_durable", "_sync")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sync = SharedSync(layout.ingests)
        # Guarded by: the interpreter lock; at worst it is made durable twice.
        self._root_durable = False

    # ---------------------------------------------------------------------------------- looking

    def open(self, ref: Ref) -> Ingest:
        """The ingest of a ref.

        Raises:
            NotFound: there is none, or what stands in its place is no folder.
        """
        return self._live(ref)[0]

    def _live(self, ref: Ref) -> tuple[Ingest, os.stat_result]:
        try:
            ingest = Ingest(ref, self._layout)
        except (FileNotFoundError, NotRegular):
            raise NotFound("ingest", ref.text) from None
        data = None
        try:
            data = ingest.live()
        finally:
            if data is None:
                ingest.close()
        if data is None:
            raise NotFound("ingest", ref.text)
        return ingest, data

    def stat(self, ref: Ref) -> os.stat_result:
        """The stat of an ingest's data.

        Raises:
            NotFound: there is none.
        """
        ingest, data = self._live(ref)
        ingest.close()
        return data

    def open_data(self, ref: Ref) -> int:
        """A descriptor for reading the bytes that an ingest holds.

        Raises:
            NotFound: there is none.
            NotRegular: its data is no file.
        """
        ingest = self.open(ref)
        try:
            return disk.open_regular(DATA, os.O_RDONLY, dir_fd=ingest.fd)
        except FileNotFoundError:
            raise NotFound("ingest", ref.text) from None
        finally:
            ingest.close()

    def status(self, ref: Ref) -> Status:
        """All that is known of an ingest.

        Raises:
            NotFound: there is none.
        """
        return self._status(ref, locks.Holders())

    def _status(self, ref: Ref, holders: locks.Holders) -> Status:
        ingest, data = self._live(ref)
        try:
            return ingest.status(data, holders)
        finally:
            ingest.close()

    def refs(self) -> Iterator[Ref]:
        """The refs of all folders that may be ingests, as they come."""
        try:
            entries = os.scandir(self._layout.ingests)
        except (FileNotFoundError, NotADirectoryError):
            return
        with entries:
            for entry in entries:
                if is_ingest_folder_name(entry.name) and entry.is_dir(follow_symlinks=False):
                    ref = self.ref_of(entry.name)
                    if ref is not None:
                        yield ref

    def ref_of(self, folder: str) -> Ref | None:
        """The ref that the folder of this name says it is of, if that is true."""
        try:
            fd = disk.open_dir(self._layout.ingest_folder(folder))
        except (OSError, NotRegular):
            return None
        try:
            content = disk.read_small(REF, fd)
            ref = None if content is None else Ref(content.decode())
        except (OSError, UnicodeDecodeError, Invalid):
            return None
        finally:
            os.close(fd)
        if ref is None or self._layout.ingest(ref) != self._layout.ingest_folder(folder):
            return None
        return ref

    def all(self) -> Iterator[Status]:
        """What is known of every ingest, as they come.

        One that goes meanwhile, or cannot be read, is passed over.
        """
        holders = locks.Holders()
        for ref in self.refs():
            with contextlib.suppress(OSError, StoreError):
                yield self._status(ref, holders)

    # ---------------------------------------------------------------------------------- holding

    def hold(self, ref: Ref, *, create: bool) -> Held:
        """Take the lock on an ingest.

        Args:
            ref: the ingest's key.
            create: whether to make the folder where there is none, and to take it without data.

        Raises:
            Busy: somebody else holds it.
            NotFound: ``create`` is False and there is no ingest.
            NotRegular: something else stands in a place of ours.
            OSError: as of mkdir(2) and open(2).
        """
        while True:
            held = self._try_hold(ref, create=create)
            if held is not None and self._is_fit(held, create=create):
                return held
            # It was dropped between our opening and our locking, or had to be dropped by us.

    def _is_fit(self, held: Held, *, create: bool) -> bool:
        """Whether an ingest is fit for a writer; if not, or on an error, it is let go of."""
        fit = False
        ingest = held.ingest
        try:
            data = ingest.stat(DATA)
            if data is None:
                if not create:
                    raise NotFound("ingest", ingest.ref.text)
                ingest.forget()
                fit = True
            elif ingest.published(data):
                self._bury(ingest)
            else:
                fit = True
        finally:
            if not fit:
                held.release()
        return fit

    def _bury(self, ingest: Ingest) -> None:
        """Finish a commit that was cut short after its blob had become visible."""
        expected = ingest.expected()
        if expected is not None:
            # The blob's name may not be durable yet, and the data is the only other one.
            disk.fsync_dir(self._layout.algorithm(expected.algorithm))
        ingest.drop()

    def _try_hold(self, ref: Ref, *, create: bool) -> Held | None:
        """As `hold`, once; None where the ingest went meanwhile."""
        if create:
            self._make_folder(self._layout.ingest(ref))
        try:
            ingest = Ingest(ref, self._layout)
        except (FileNotFoundError, NotRegular) as error:
            if not create:
                raise NotFound("ingest", ref.text) from None
            if isinstance(error, NotRegular):
                raise
            return None
        held = None
        try:
            if not create and ingest.stat(DATA) is None:
                raise NotFound("ingest", ref.text)
            held = self._lock(ingest)
        except OSError:
            if create:
                # No space for a lock: leave no folder either, if it is still empty.
                with contextlib.suppress(OSError):
                    disk.rmdir(ingest.path)
            raise
        finally:
            if held is None:
                ingest.close()
        return held

    @staticmethod
    def give_up(held: Held) -> None:
        """Let go of an ingest that could not be begun; if it has no data yet, leave no folder."""
        try:
            with contextlib.suppress(OSError):
                if DATA not in os.listdir(held.ingest.fd):
                    held.ingest.drop()
        finally:
            held.release()

    def _lock(self, ingest: Ingest) -> Held | None:
        try:
            lock = locks.acquire(ingest.fd)
        except FileNotFoundError:
            return None
        if lock is None:
            raise Busy(ingest.ref.text, self._holder(ingest))
        current = False
        try:
            current = self._is_current(ingest, lock)
        finally:
            if not current:
                lock.release()
        return Held(ingest, lock) if current else None

    @staticmethod
    def _holder(ingest: Ingest) -> int | None:
        lock = ingest.stat(LOCK)
        return None if lock is None else locks.Holders().pid(lock)

    @staticmethod
    def _is_current(ingest: Ingest, lock: locks.Lock) -> bool:
        """Whether the names still lead to what we hold: a dropped folder's lock means nothing."""
        try:
            folder = os.lstat(ingest.path)
        except FileNotFoundError:
            return False
        found = ingest.stat(LOCK)
        return (
            found is not None
            and os.path.samestat(folder, os.fstat(ingest.fd))
            and os.path.samestat(found, lock.stat())
        )

    def _make_folder(self, path: str) -> None:
        try:
            disk.make_dir(path)
        except FileNotFoundError:
            disk.make_dir(self._layout.root)
            disk.make_dir(self._layout.ingests)
            disk.make_dir(path)

    # --------------------------------------------------------------------------------- changing

    def sync(self) -> None:
        """Make the names of all ingests durable.

        Raises:
            OSError: they may not survive a power loss.
        """
        if not self._root_durable:
            disk.fsync_root(self._layout.root)
            self._root_durable = True
        self._sync()

    def abort(self, ref: Ref) -> None:
        """Remove an ingest and its bytes.

        Raises:
            NotFound: there is none.
            Busy: a writer holds it.
            OSError: not all of it is gone; if the bytes are, there is no such ingest any more.
        """
        held = self.hold(ref, create=False)
        try:
            held.ingest.drop()
        finally:
            held.release()

    def move(self, source: Held, ref: Ref) -> Held:
        """Give an ingest another ref, in one step: its data moves, by one rename(2).

        What was set of it goes along; what stood under the new ref is replaced.

        Returns:
            The lock on it under its new ref; that under the old one is released.

        Raises:
            Busy: a writer holds the new ref.
            NotRegular: something else stands in a place of ours there.
            OSError: both are as they were.
        """
        target = self.hold(ref, create=True)
        try:
            self._move(source.ingest, target.ingest)
        except BaseException:
            target.release()
            raise
        # Without its data it is no ingest any more, whatever of it cannot be removed.
        with contextlib.suppress(OSError):
            source.ingest.drop()
        source.release()
        return target

    def _move(self, source: Ingest, target: Ingest) -> None:
        before = target.description()
        stood = target.stat(DATA) is not None
        try:
            target.prepare()
            target.describe(source.description_for(target.ref))
            # The names that make the moved bytes findable must not be lost where they are not.
            disk.fsync_name(REF, target.fd)
            disk.fsync_folder(target.fd)
            self.sync()
            disk.move(DATA, source.fd, target.fd)
        except BaseException:
            with contextlib.suppress(OSError, NotRegular):
                if stood:
                    target.describe(before)
                else:
                    target.drop()
            raise
