"""What storage promises to those who use it, whatever it is made of.

Each Protocol has one suite in `tests/contracts`, which every implementation passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Protocol, Self


class Changes(Protocol):
    """Tells all processes that something was changed which they may have kept.

    Who keeps what it has read takes the stamp *before* it reads, and keeps both: what it has read is true as long as the
    stamp is the same.
    """

    def read(self) -> bytes:
        """The stamp: equal to an earlier one only if nobody told of a change in between. Makes no system call."""
        ...

    def bump(self) -> None:
        """Tells of a change, once it is committed; from then on every process reads another stamp."""
        ...


class Lock(Protocol):
    """A lock that is held; the end of its process releases it too."""

    def release(self) -> None:
        """May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Releases it."""
        ...


class Locks(Protocol):
    """Named locks between all processes. Two holders of one name exclude each other in one process too."""

    def try_lock(self, key: str) -> Lock | None:
        """Takes the lock now; None where somebody holds it. Never waits."""
        ...

    def held_within(
        self, key: str, patience_seconds: float, sleep: Callable[[float], object] = time.sleep
    ) -> AbstractContextManager[bool]:
        """Tries for so long; says whether the lock is held for the block. For threads."""
        ...

    def hold_within(self, key: str, patience_seconds: float) -> AbstractAsyncContextManager[bool]:
        """The same for the event loop."""
        ...

    def hold(self, key: str) -> AbstractAsyncContextManager[Lock]:
        """Waits for the lock, however long, and holds it for the block."""
        ...
