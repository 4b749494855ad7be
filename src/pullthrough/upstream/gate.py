"""A queue for a number of slots, shared fairly between those who want them. For one event loop."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

#: Who waits for slots of one gate, at most; further ones are refused.
MAX_WAITING = 1000
#: Shares that join one wait, at most: of so many, one will not wait for long.
MAX_JOINED = 16

#: What an entrant belongs to, a value a level: a client's address and an image, say.
Shares = tuple[Hashable, ...]
#: Who waits is told by its future which shares hold its slot.
_Queues = dict[Shares, deque[asyncio.Future[Shares]]]


class GateFull(Exception):
    """More wait than may, or more of one share than leave room for others."""


class Line:
    """A wait that shares of the first level come to have in common: it stands in the queue of each, and the first of these
    to come to its turn ends it. For one wait after another.
    """

    def __init__(self) -> None:
        self._joined: dict[Hashable, None] = {}
        self._stand: Callable[[Hashable], None] | None = None

    def join(self, share: Hashable) -> None:
        """From now on the wait is this share's as well."""
        if share in self._joined or len(self._joined) >= MAX_JOINED:
            return
        self._joined[share] = None
        if self._stand is not None:
            self._stand(share)

    @contextmanager
    def standing(self, stand: Callable[[Hashable], None]) -> Iterator[None]:
        """Tell `stand` of each share that has joined, or does meanwhile."""
        self._stand = stand
        try:
            for share in self._joined:
                stand(share)
            yield
        finally:
            self._stand = None


#: That of the work that is done in this context, where others may come to wait for it.
LINE: ContextVar[Line | None] = ContextVar("line", default=None)


class Gate:
    """`slots` at once. Free slots go to the share that holds the fewest, first come, first served within a share; `behind`
    waits until nobody else does.

    `ratios`, one for each level of the shares: a share that holds a slot gets another one only while it holds fewer than
    so many times the slots that are free, so that others find one free however many it wants
    (Choudhury and Hahne's dynamic thresholds, https://doi.org/10.1109/90.664262). `guaranteed`: a share of the first level
    that holds none gets one though all are taken.

    A waiter that is cancelled leaves nothing behind.
    """

    def __init__(
        self,
        slots: int,
        *,
        ratios: Sequence[float] = (math.inf,),
        guaranteed: bool = False,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._slots = slots
        self._ratios = tuple(ratios)
        self._guaranteed = guaranteed
        self._max_waiting = max_waiting
        self._taken = 0
        self._held: Counter[tuple[int, Hashable]] = Counter()
        self._ahead: _Queues = {}
        self._behind: _Queues = {}
        self._waiting: Counter[Hashable] = Counter()

    @property
    def waiting(self) -> int:
        return self._waiting.total()

    @asynccontextmanager
    async def slot(self, *shares: Hashable, behind: bool = False, line: Line | None = None) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises GateFull where too many wait already.

        `line`: others may join the wait, in whose queues it stands then too.
        """
        assert len(shares) == len(self._ratios)
        taken = await self._enter(shares, behind=behind, line=line or Line())
        try:
            yield
        finally:
            self._give_back(taken)

    def is_open(self, *shares: Hashable) -> bool:
        """Whether there is a slot to be had without waiting."""
        return self._may_take(shares)

    def refuse(self, error: Callable[[], Exception]) -> None:
        """All who wait now end with an error of their own."""
        for queues in (self._ahead, self._behind):
            for waiter in [waiter for queue in queues.values() for waiter in queue]:
                if not waiter.done():
                    waiter.set_exception(error())

    async def _enter(self, shares: Shares, *, behind: bool, line: Line) -> Shares:
        """The shares that hold the slot."""
        # Nobody who may have a slot waits while one is free: it was given out when it became free.
        if self._may_take(shares):
            self._take(shares)
            return shares
        first = shares[0]
        if self._waiting[first] >= max(1, self._max_waiting - self.waiting):
            raise GateFull
        queues = self._behind if behind else self._ahead
        waiter: asyncio.Future[Shares] = asyncio.get_running_loop().create_future()
        stands = [shares]
        queues.setdefault(shares, deque()).append(waiter)
        self._waiting[first] += 1

        def stand(share: Hashable) -> None:
            others = (share, *shares[1:])
            if waiter.done() or others in stands:
                return
            if self._may_take(others):
                self._take(others)
                waiter.set_result(others)
                return
            stands.append(others)
            queues.setdefault(others, deque()).append(waiter)

        try:
            with line.standing(stand):
                return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give_back(waiter.result())  # the slot was given in the moment of cancellation
            raise
        finally:
            self._waiting[first] -= 1
            if not self._waiting[first]:
                del self._waiting[first]
            for each in stands:
                queue = queues.get(each)
                if queue is not None:
                    if waiter in queue:
                        queue.remove(waiter)
                    if not queue:
                        del queues[each]

    def _may_take(self, shares: Shares) -> bool:
        free = self._slots - self._taken
        held = [self._held[level, share] for level, share in enumerate(shares)]
        if free > 0 and all(not count or count < ratio * free for count, ratio in zip(held, self._ratios, strict=True)):
            return True
        return self._guaranteed and not held[0]

    def _take(self, shares: Shares) -> None:
        self._taken += 1
        self._held.update(enumerate(shares))

    def _give_back(self, shares: Shares) -> None:
        self._taken -= 1
        for entry in enumerate(shares):
            self._held[entry] -= 1
            if not self._held[entry]:
                del self._held[entry]
        for queues in (self._ahead, self._behind):
            while self._give(queues):
                pass

    def _give(self, queues: _Queues) -> bool:
        """Take a slot for the waiter whose turn it is; False where nobody may have one."""
        best: Shares | None = None
        fewest: list[int] = []
        for shares, queue in queues.items():
            while queue and queue[0].done():
                queue.popleft()
            if queue and self._may_take(shares):
                held = [self._held[level, share] for level, share in enumerate(shares)]
                if best is None or held < fewest:
                    best, fewest = shares, held
        if best is None:
            return False
        self._take(best)
        queue = queues.pop(best)
        queues[best] = queue  # of those that hold as few, it comes last from now on
        queue.popleft().set_result(best)
        return True
