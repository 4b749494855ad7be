"""Whether a part of a file is in the page cache: sendfile of pages that are not would block the event loop."""

from __future__ import annotations

import ctypes
import os

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: cachestat(2), Linux 6.5; one number on all architectures that joined after 2019's unification.
_SYS_CACHESTAT = 451


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Stat(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently_evicted")
    )


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_works = True


def is_resident(fd: int, offset: int, count: int) -> bool:
    """True where every page of the part is in memory and may be read at once, as far as the kernel tells.

    Pages that a read ahead has only asked the disk for count as cached; it goes forward, so the last one tells.
    """
    global _works
    if _works:
        wanted, found = _Range(offset, count), _Stat()
        if _syscall(_SYS_CACHESTAT, fd, ctypes.byref(wanted), ctypes.byref(found), 0) == 0:
            pages = (offset + count - 1) // _PAGE_BYTES - offset // _PAGE_BYTES + 1
            return int(found.cached) >= pages and _has(fd, offset + count - 1)
        _works = False  # an older kernel, or a container that forbids the call: ask for samples instead
    return _has(fd, offset) and _has(fd, offset + count - 1)


def _has(fd: int, offset: int) -> bool:
    try:
        return os.preadv(fd, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without RWF_NOWAIT: nothing can be told


def read_in(fd: int, offset: int, count: int) -> None:
    """Bring the part into the page cache. Blocking."""
    view = memoryview(bytearray(min(count, 1024 * 1024)))
    end = offset + count
    while offset < end and (got := os.preadv(fd, [view[: end - offset]], offset)):
        offset += got
