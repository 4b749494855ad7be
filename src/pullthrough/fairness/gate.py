"""Tasks that wait for what a `FairQueue` shares out. For one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

from pullthrough.fairness.queue import FairQueue, QueueFull, Ticket, TicketState

#: Shares that join one wait, at most: of so many, one will not wait for long.
MAX_JOINED = 16


class Line:
    """A wait that shares of the first level come to have in common: it stands in the row of each, and the first of these
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
    """Lets through whom its queue says. A task that is cancelled leaves nothing behind."""

    def __init__(self, queue: FairQueue) -> None:
        self._queue = queue
        self._waiters: dict[Ticket, asyncio.Future[None]] = {}

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    @property
    def is_idle(self) -> bool:
        """Whether nobody is inside or waits, so that nothing is remembered of anybody."""
        return self._queue.is_idle and not self._waiters

    def is_open(self, *shares: Hashable) -> bool:
        """Whether one may be had without waiting."""
        return self._queue.may_have(shares)

    @asynccontextmanager
    async def hold(
        self, *shares: Hashable, amount: int = 1, behind: bool = False, line: Line | None = None
    ) -> AsyncIterator[None]:
        """Wait for so much and hold it until the block ends.

        Raises QueueFull where too many wait, at once or when the place goes to another. `line`: others may join the wait.
        """
        ticket = Ticket(shares, amount, behind=behind)
        await self._enter(ticket, line or Line())
        try:
            yield
        finally:
            self._leave(ticket)

    def refuse(self, error: Callable[[], Exception]) -> None:
        """All who wait now end with an error of their own."""
        for ticket in list(self._waiters):
            if ticket.state is TicketState.WAITING:
                self._leave(ticket)
                self._wake(ticket, error())

    async def _enter(self, ticket: Ticket, line: Line) -> None:
        loser = self._queue.enter(ticket)
        if loser is not None:
            self._wake(loser, QueueFull())
        if ticket.state is TicketState.HOLDING:
            return

        def stand(share: Hashable) -> None:
            self._queue.join(ticket, share)
            if ticket.state is TicketState.HOLDING:
                self._wake(ticket)

        waiter = self._waiters[ticket] = asyncio.get_running_loop().create_future()
        try:
            with line.standing(stand):
                await waiter
        except BaseException:
            self._leave(ticket)  # also what it was given in this very moment
            if waiter.done() and not waiter.cancelled():
                waiter.exception()  # marks it as seen: asyncio would log it
            raise
        finally:
            del self._waiters[ticket]

    def _leave(self, ticket: Ticket) -> None:
        for given in self._queue.leave(ticket):
            self._wake(given)

    def _wake(self, ticket: Ticket, error: Exception | None = None) -> None:
        waiter = self._waiters[ticket]
        if waiter.done():
            return
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)
