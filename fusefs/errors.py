"""The one place where exceptions become errno.

pyfuse3 lets only `FUSEError` out of a handler: anything else ends the whole mount, for everybody
(pyfuse3#45).  So every handler of `fusefs.operations` is wrapped in `answering`.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

from pyfuse3 import FUSEError

import store

__all__ = ["ERRNO", "answering", "errno_of"]

_log = logging.getLogger(__name__)

ERRNO: Final[dict[type[store.StoreError], int]] = {
    store.UnsupportedAlgorithm: errno.EOPNOTSUPP,
    store.RefTooLong: errno.ENAMETOOLONG,
    store.Invalid: errno.EINVAL,
    store.NotFound: errno.ENOENT,
    store.Busy: errno.EBUSY,
    store.Closed: errno.EPERM,
    store.ReadOnly: errno.EROFS,
    store.NotAppend: errno.EPERM,
    store.BeyondSize: errno.EFBIG,
    store.Rejected: errno.EBADMSG,
    store.NotRegular: errno.EIO,
}
"""What a client gets for each error of the store; a subclass not named here counts as its base."""


def errno_of(error: store.StoreError | OSError) -> int:
    """The errno that stands for an error of the store or of the disk.

    ENOSYS is never one: a single one would have the kernel stop asking, for the whole mount.
    """
    if isinstance(error, store.StoreError):
        for kind in type(error).__mro__:
            if kind in ERRNO:
                return ERRNO[kind]
        return errno.EIO
    if error.errno is None or error.errno == errno.ENOSYS:
        return errno.EIO
    return error.errno


# What no client can mend: whoever looks after the store has to see it.
_WORTH_A_LINE: Final = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def answering(
    handler: Callable[_Args, Coroutine[Any, Any, _Result]],
) -> Callable[_Args, Coroutine[Any, Any, _Result]]:
    """A handler that answers every exception with an errno.

    What is foreseen (`StoreError`, `OSError`) becomes its errno; anything else is a fault of ours:
    EIO to this one caller, and a traceback in the log.  `trio.Cancelled` passes.
    """

    @functools.wraps(handler)
    async def answer(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except (store.StoreError, OSError) as error:
            number = errno_of(error)
            if number in _WORTH_A_LINE:
                _log.error("%s: %s", handler.__name__, error)
            raise FUSEError(number) from error
        except Exception as error:  # anything at all, or the whole mount ends
            _log.exception("a fault in %s; the caller gets EIO", handler.__name__)
            raise FUSEError(errno.EIO) from error

    return answer
