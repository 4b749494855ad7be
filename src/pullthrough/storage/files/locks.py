"""Named locks between the processes of one machine: byte ranges of one file.

They are locked by open file description (fcntl(2), F_OFD_SETLK). The kernel drops a lock when its owner dies, however it
dies; no lock file is ever left over.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

#: How often a lock that another holds is tried again.
POLL_SECONDS = 0.005
#: `struct flock` of 64-bit Linux: type, whence, start, length, pid; padded to 32 bytes by the trailing `0q`.
_FLOCK = struct.Struct("@hhqqi0q")


class FileLock:
    """A lock that is held, until `release` or the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()


class FileLocks:
    """All locks of one data folder.

    Each lock has a file description of its own: two holders of one key exclude each other inside a process too. A process
    that is forked without exec shares the locks that its parent held at that moment; programs that are executed do not.
    """

    def __init__(self, path: Path, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._path = path
        self._sleep = sleep

    def try_lock(self, key: str) -> FileLock | None:
        """Takes the lock now; None where somebody holds it. Never waits."""
        lock = self._open()
        if _try(lock, key):
            return FileLock(lock)
        os.close(lock)
        return None

    @contextmanager
    def held_within(
        self, key: str, patience_seconds: float, sleep: Callable[[float], object] = time.sleep
    ) -> Iterator[bool]:
        """Tries at once, then every 5 ms for so long; says whether the lock is held for the block. For threads."""
        lock = self.try_lock(key)
        while lock is None and patience_seconds > 0:
            sleep(POLL_SECONDS)
            patience_seconds -= POLL_SECONDS
            lock = self.try_lock(key)
        with lock or nullcontext():
            yield lock is not None

    @asynccontextmanager
    async def hold_within(self, key: str, patience_seconds: float) -> AsyncIterator[bool]:
        """The same for the event loop."""
        lock = self.try_lock(key)
        while lock is None and patience_seconds > 0:
            await self._sleep(POLL_SECONDS)
            patience_seconds -= POLL_SECONDS
            lock = self.try_lock(key)
        with lock or nullcontext():
            yield lock is not None

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[FileLock]:
        """Waits for the lock, and holds it for the block. It is tried at once, then every 5 ms."""
        descriptor = self._open()
        lock = FileLock(descriptor)
        try:
            while not _try(descriptor, key):
                await self._sleep(POLL_SECONDS)
            yield lock
        finally:
            lock.release()

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try(descriptor: int, key: str) -> bool:
    # 62 bits: start + length must stay a positive off_t. Two keys that meet there only wait for each other.
    offset = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 2
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, offset, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
