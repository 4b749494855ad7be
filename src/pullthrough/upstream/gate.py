"""A queue for a number of slots, first come, first served. For one event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Gate:
    """`behind` waits until nobody else does. A waiter that is cancelled leaves nothing behind."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._behind: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        return sum(not waiter.done() for waiter in (*self._ahead, *self._behind))

    @asynccontextmanager
    async def slot(self, *, behind: bool = False) -> AsyncIterator[None]:
        await self._enter(behind=behind)
        try:
            yield
        finally:
            self._leave()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """All who wait now end with an error of their own."""
        for waiter in (*self._ahead, *self._behind):
            if not waiter.done():
                waiter.set_exception(error())

    async def _enter(self, *, behind: bool) -> None:
        if self._free and not self.waiting:
            self._free -= 1
            return
        queue = self._behind if behind else self._ahead
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave()  # the slot was given in the moment of cancellation
            raise
        finally:
            if waiter in queue:
                queue.remove(waiter)

    def _leave(self) -> None:
        for queue in (self._ahead, self._behind):
            while queue:
                waiter = queue.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._free += 1
