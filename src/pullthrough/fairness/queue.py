"""Who holds how much of something scarce, and who gets what becomes free. Pure: no I/O, no clock, no waiting.

Slots for transfers, turns for password checks and memory for requests are all shared out by this one queue; they differ
in their `SharingRule`, and in what happens when too many wait.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Protocol

#: Who waits for one queue, at most; further ones are refused.
MAX_WAITING = 1000

#: What a ticket belongs to, a value a level: a client's address and an image, say.
Shares = tuple[Hashable, ...]


class SharingRule(Protocol):
    """Whether a ticket may have `amount` more, where its shares hold `held` (one number a level) and `free` is left."""

    def __call__(self, held: Sequence[int], amount: int, free: int, /) -> bool: ...


def whatever_is_free(held: Sequence[int], amount: int, free: int) -> bool:
    return amount <= free


def thresholds(*ratios: float, guaranteed: bool = False) -> SharingRule:
    """A share that holds some gets more only while it holds less than so many times what is free, one ratio a level: so
    others find some free however much it wants (Choudhury and Hahne's dynamic thresholds,
    https://doi.org/10.1109/90.664262).

    `guaranteed`: a share of the first level that holds nothing gets one though all are taken.
    """

    def rule(held: Sequence[int], amount: int, free: int) -> bool:
        if amount <= free and all(not each or each < ratio * free for each, ratio in zip(held, ratios, strict=True)):
            return True
        return guaranteed and not held[0]

    return rule


#: Each share may always have one.
one_each = thresholds(math.inf, guaranteed=True)


class QueueFull(Exception):
    """More wait than may, or more of one share than leave room for others."""


class TicketState(Enum):
    WAITING = auto()
    HOLDING = auto()
    #: It has given back what it held, waits no longer, or has not come yet.
    GONE = auto()


class Ticket:
    """One wish for some of it. Made by who wants it, kept by the queue until it leaves."""

    __slots__ = ("amount", "behind", "shares", "stands", "state")

    def __init__(self, shares: Shares, amount: int = 1, *, behind: bool = False) -> None:
        #: Once it holds: the shares that it was given as.
        self.shares = shares
        self.amount = amount
        self.behind = behind
        self.state = TicketState.GONE
        #: All the shares in whose rows it stands.
        self.stands = [shares]


class _Row:
    """The tickets of the same shares that wait, in the order of their coming."""

    __slots__ = ("_newest_next", "_swings", "tickets")

    def __init__(self, *, swings: bool) -> None:
        self.tickets: dict[Ticket, None] = {}
        self._swings = swings
        self._newest_next = False

    def next(self, fits: Callable[[int], bool]) -> Ticket | None:
        """The one whose turn it is among those whose amounts fit."""
        too_much = math.inf
        for ticket in reversed(self.tickets) if self._newest_next else iter(self.tickets):
            if ticket.amount < too_much:
                if fits(ticket.amount):
                    return ticket
                too_much = ticket.amount
        return None

    def swing(self) -> None:
        self._newest_next = self._swings and not self._newest_next


_Rows = dict[Shares, _Row]


class FairQueue:
    """`capacity` is shared out: what is free goes to the shares that hold the least, first come, first served within the
    same shares. Tickets that are `behind` get what no other wants.

    `newest_by_turns`: within the same shares the ticket that came last goes every other time, so that among many that
    come again and again one that comes once need not wait for all, and none waits for ever.

    Where more than `places` wait: `displaces` takes the newest place of whoever has most from it, for one that has fewer;
    else the newcomer is refused, while its share waits with as many as there are places left.
    """

    def __init__(
        self,
        capacity: int,
        rule: SharingRule = whatever_is_free,
        *,
        places: int = MAX_WAITING,
        displaces: bool = False,
        newest_by_turns: bool = False,
    ) -> None:
        self.free = capacity
        self._rule = rule
        self._places = places
        self._displaces = displaces
        self._swings = newest_by_turns
        self._held: Counter[tuple[int, Hashable]] = Counter()
        self._ahead: _Rows = {}
        self._behind: _Rows = {}
        #: Of each share of the first level.
        self._waiting: Counter[Hashable] = Counter()

    @property
    def waiting(self) -> int:
        return self._waiting.total()

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds anything or waits, so that nothing is remembered of anybody."""
        return not (self._held or self._waiting or self._ahead or self._behind)

    def may_have(self, shares: Shares, amount: int = 1) -> bool:
        """Whether there is so much to be had without waiting."""
        return self._fits(self._holdings(shares), amount)

    def enter(self, ticket: Ticket) -> Ticket | None:
        """The ticket holds what it wants, or waits for it. Gives the one that has lost its place to it, if any.

        Raises QueueFull.
        """
        # Nobody who may have it waits while some is free: it was given out when it became free.
        if self.may_have(ticket.shares, ticket.amount):
            self._give(ticket, ticket.shares)
            return None
        loser = self._make_place(ticket.shares[0])
        ticket.state = TicketState.WAITING
        self._waiting[ticket.shares[0]] += 1
        self._stand(ticket, ticket.shares)
        return loser

    def join(self, ticket: Ticket, share: Hashable) -> None:
        """The wish is another share's of the first level too: the ticket stands in that one's row as well, and the first
        of its rows to come to its turn ends the wait."""
        shares = (share, *ticket.shares[1:])
        if ticket.state is not TicketState.WAITING or shares in ticket.stands:
            return
        if self.may_have(shares, ticket.amount):
            self._withdraw(ticket)
            self._give(ticket, shares)
        else:
            ticket.stands.append(shares)
            self._stand(ticket, shares)

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """The ticket gives back what it holds, or waits no longer; nothing happens to one that is gone. Gives the tickets
        that hold something now."""
        given: list[Ticket] = []
        if ticket.state is TicketState.WAITING:
            self._withdraw(ticket)
        elif ticket.state is TicketState.HOLDING:
            self.free += ticket.amount
            for entry in enumerate(ticket.shares):
                self._held[entry] -= ticket.amount
                if not self._held[entry]:
                    del self._held[entry]
            for rows in (self._ahead, self._behind):
                while (following := self._give_next(rows)) is not None:
                    given.append(following)
        ticket.state = TicketState.GONE
        return given

    # -- giving

    def _holdings(self, shares: Shares) -> list[int]:
        return [self._held[entry] for entry in enumerate(shares)]

    def _fits(self, held: Sequence[int], amount: int) -> bool:
        return self._rule(held, amount, self.free)

    def _give(self, ticket: Ticket, shares: Shares) -> None:
        ticket.state, ticket.shares = TicketState.HOLDING, shares
        self.free -= ticket.amount
        for entry in enumerate(shares):
            self._held[entry] += ticket.amount

    def _give_next(self, rows: _Rows) -> Ticket | None:
        """The ticket whose turn it is has what it wants now; None where nobody may have it."""
        best: tuple[Shares, Ticket] | None = None
        least: list[int] = []
        for shares, row in rows.items():
            held = self._holdings(shares)
            if best is None or held < least:
                ticket = row.next(partial(self._fits, held))
                if ticket is not None:
                    best, least = (shares, ticket), held
        if best is None:
            return None
        shares, ticket = best
        row = rows[shares]
        row.swing()
        self._withdraw(ticket)
        if row.tickets:
            rows[shares] = rows.pop(shares)  # of those that hold as little, it comes last from now on
        self._give(ticket, shares)
        return ticket

    # -- waiting

    def _stand(self, ticket: Ticket, shares: Shares) -> None:
        rows = self._behind if ticket.behind else self._ahead
        row = rows.get(shares)
        if row is None:
            row = rows[shares] = _Row(swings=self._swings)
        row.tickets[ticket] = None

    def _withdraw(self, ticket: Ticket) -> None:
        rows = self._behind if ticket.behind else self._ahead
        for shares in ticket.stands:
            row = rows[shares]
            del row.tickets[ticket]
            if not row.tickets:
                del rows[shares]
        first = ticket.stands[0][0]
        self._waiting[first] -= 1
        if not self._waiting[first]:
            del self._waiting[first]

    def _make_place(self, share: Hashable) -> Ticket | None:
        """The ticket that has lost its place, where one had to. Raises QueueFull where there is none for this share."""
        left = self._places - self.waiting
        mine = self._waiting[share]
        if not self._displaces:
            if mine >= max(1, left):
                raise QueueFull
            return None
        if left > 0:
            return None
        greediest, most = max(self._waiting.items(), key=lambda entry: entry[1], default=(share, 0))
        if most <= 1 + mine:
            raise QueueFull
        loser = next(
            ticket
            for rows in (self._behind, self._ahead)
            for shares, row in rows.items()
            if shares[0] == greediest
            for ticket in reversed(row.tickets)
        )
        self._withdraw(loser)
        loser.state = TicketState.GONE
        return loser
