"""Turns: a semaphore with two classes of waiters. Who is wanted by a client goes before who is not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """At most `limit` holders at once; first come, first served within a class."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._ahead: deque[asyncio.Future[None]] = deque()
        self._behind: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def take(self, *, behind: bool = False) -> AsyncIterator[None]:
        """Wait for a turn and hold it. `behind`: only when nobody of the other class waits."""
        if self._free > 0:
            self._free -= 1
        else:
            queue = self._behind if behind else self._ahead
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()  # given the turn and cancelled at the same moment
                else:
                    queue.remove(turn)
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        for queue in (self._ahead, self._behind):
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
