"""Turns that clients get one after the other, however many of them one client asks for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoPlace(Exception):
    """So many are waiting that this one may not."""


class _Queue:
    """Those of one client that wait."""

    def __init__(self) -> None:
        self.turns: deque[asyncio.Future[None]] = deque()
        self._newest_next = False

    def pop(self) -> asyncio.Future[None]:
        """The one that has waited longest and the one that came last, by turns: among many that come again and again, one
        that comes once need not wait for all, and none waits for ever."""
        turn = self.turns.pop() if self._newest_next else self.turns.popleft()
        self._newest_next = not self._newest_next
        return turn


class FairTurns:
    """At most `turns` holders at once, and `places` that wait for it. Belongs to an event loop.

    Clients that wait get a turn in rotation. Where no place is free, whoever has most of them loses one to a client that
    has fewer.
    """

    def __init__(self, turns: int, places: int) -> None:
        self._free = turns
        self._places = places
        #: By client; the next one first. Of clients that wait only.
        self._waiting: OrderedDict[str, _Queue] = OrderedDict()
        self._count = 0

    @asynccontextmanager
    async def take(self, client: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it. Raises NoPlace, at once or when the place is lost to another client."""
        if self._free > 0:
            self._free -= 1
        else:
            turn = self._enqueue(client)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    if turn.exception() is None:
                        self._pass_on()  # given the turn and cancelled at the same moment
                else:
                    self._remove(client, turn)
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _enqueue(self, client: str) -> asyncio.Future[None]:
        mine = self._waiting.get(client)
        if self._count >= self._places:
            greediest, queue = max(self._waiting.items(), key=lambda item: len(item[1].turns))
            if len(queue.turns) <= 1 + (len(mine.turns) if mine else 0):
                raise NoPlace
            loser = queue.turns[-1]
            self._remove(greediest, loser)
            if not loser.done():
                loser.set_exception(NoPlace())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, _Queue()).turns.append(turn)
        self._count += 1
        return turn

    def _remove(self, client: str, turn: asyncio.Future[None]) -> None:
        queue = self._waiting.get(client)
        if queue is None or turn not in queue.turns:
            return  # it came to its end in the same moment
        queue.turns.remove(turn)
        self._count -= 1
        if not queue.turns:
            del self._waiting[client]

    def _pass_on(self) -> None:
        while self._waiting:
            client, queue = self._waiting.popitem(last=False)
            turn = queue.pop()
            self._count -= 1
            if queue.turns:
                self._waiting[client] = queue
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
