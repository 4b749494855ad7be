"""Answers of the catalog kept in memory, trusted only while no process has committed a change.

Each commit of any worker changes the stamp. One look at it decides, so that a hit costs no system call, and a write in
one worker is seen by all at once.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pullthrough.storage.interfaces import Changes


class Memory:
    """A bounded map, emptied whenever the catalog has changed. Used from the event loop's thread only."""

    def __init__(self, changes: Changes, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._changes = changes
        self._max_bytes = max_bytes
        self._entries: OrderedDict[object, tuple[Any, int]] = OrderedDict()
        self._bytes = 0
        self._stamp = changes.read()

    def get(self, key: object) -> Any | None:
        if self._changes.read() != self._stamp:
            self._entries.clear()
            self._bytes = 0
            self._stamp = self._changes.read()
            return None
        entry = self._entries.get(key)
        return entry[0] if entry is not None else None

    def stamp(self) -> bytes:
        """To be taken before the catalog is read, and given to `put` with what was read."""
        return self._changes.read()

    def put(self, key: object, value: object, stamp: bytes, size_bytes: int = 256) -> None:
        """Keep `value`, unless the catalog has changed since `stamp`. `size_bytes` is about what it takes."""
        if stamp != self._changes.read() or size_bytes > self._max_bytes:
            return
        if stamp != self._stamp:
            self._entries.clear()
            self._bytes = 0
            self._stamp = stamp
        if (old := self._entries.pop(key, None)) is not None:
            self._bytes -= old[1]
        self._entries[key] = (value, size_bytes)
        self._bytes += size_bytes
        while self._bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed
