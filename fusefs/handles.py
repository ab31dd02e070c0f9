"""What a client has open, as the handlers see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from fusefs.reading import FileReader

__all__ = ["Handle"]


class Handle(ABC):
    """An open file.

    Attributes:
        direct_io: whether the kernel keeps no pages of it.
        keep_cache: whether the pages that the kernel has from earlier are still good.
    """

    direct_io: ClassVar[bool] = False
    keep_cache: ClassVar[bool] = False

    @abstractmethod
    async def read(self, reader: FileReader, offset: int, size: int) -> bytes | memoryview:
        """Bytes from ``offset`` on, ``size`` of them or all that there are."""

    async def flush(self) -> None:  # noqa: B027 - for readers there is nothing to do
        """One of the descriptors was closed; only a writer's close carries a verdict."""

    async def sync(self) -> None:  # noqa: B027 - likewise
        """What was written through it is to be durable; only a writer writes."""

    @abstractmethod
    async def release(self) -> None:
        """The last of the descriptors was closed."""
