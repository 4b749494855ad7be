"""Counters in shared memory that tell each worker of one machine whether any of them has changed something."""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

_SLOT_BYTES = 8
_LAST = (1 << 64) - 1


class Generation:
    """The counters, as one process has them. It writes its own slot only, so that no increment is lost to another's.

    Making one counts as a change: the last owner of the slot may have died between its commit and its increment.
    """

    def __init__(self, path: Path, slot: int, slots: int) -> None:
        if not 0 <= slot < slots:
            raise ValueError(f"slot {slot} is not one of {slots}")
        self._slot = slot
        self._guard = threading.Lock()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Never made smaller: another process may have the rest mapped.
            if os.fstat(descriptor).st_size < slots * _SLOT_BYTES:
                os.ftruncate(descriptor, slots * _SLOT_BYTES)
            self._map = mmap.mmap(descriptor, slots * _SLOT_BYTES)
        finally:
            os.close(descriptor)
        # One aligned 8-byte store: a reader sees the old number or the new one.
        self._counters = memoryview(self._map).cast("Q")
        self.bump()

    def read(self) -> bytes:
        """All counters."""
        return self._map[:]

    def bump(self) -> None:
        """Tells of a change, once it is committed; every worker sees it at once."""
        with self._guard:
            self._counters[self._slot] = (self._counters[self._slot] + 1) & _LAST

    def close(self) -> None:
        """May be called twice."""
        self._counters.release()
        self._map.close()
