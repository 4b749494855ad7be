"""The queue decides, and nothing else: told who comes and goes, it says who holds what."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.fairness.queue import FairQueue, QueueFull, Ticket, TicketState, thresholds


def test_who_needs_less_than_is_free_does_not_wait_behind_who_needs_more() -> None:
    queue = FairQueue(10)
    first, large, small = Ticket(("a",), 8), Ticket(("b",), 9), Ticket(("b",), 3)
    for ticket in (first, large, small):
        queue.enter(ticket)
    assert (large.state, small.state) == (TicketState.WAITING, TicketState.WAITING)
    # The large one came first, and still does not fit beside the rest of the first.
    filler = Ticket(("c",), 2)
    queue.enter(filler)
    assert queue.leave(first) == [small]
    assert queue.leave(small) == []
    assert queue.leave(filler) == [large]


def test_a_ticket_that_is_gone_gives_nothing_back_twice() -> None:
    queue, ticket = FairQueue(1), Ticket(("a",))
    queue.enter(ticket)
    queue.leave(ticket)
    assert queue.leave(ticket) == []
    assert queue.free == 1
    queue.join(ticket, "b")
    assert queue.is_idle


def test_who_is_refused_leaves_nothing_behind() -> None:
    queue = FairQueue(1, places=1)
    holder, waiter, third = (Ticket(("a",)) for _ in range(3))
    queue.enter(holder)
    queue.enter(waiter)
    with pytest.raises(QueueFull):
        queue.enter(third)
    assert queue.leave(third) == []
    assert queue.leave(holder) == [waiter]
    assert queue.leave(waiter) == []
    assert queue.is_idle


@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.integers(1, 6), st.booleans(), st.booleans()), max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_what_is_given_out_is_never_more_than_there_is_and_comes_back(
    steps: list[tuple[str, int, bool, bool]], displaces: bool, newest_by_turns: bool
) -> None:
    """Each step: a ticket comes, and the oldest one leaves, if so."""
    queue = FairQueue(10, thresholds(2.0), places=4, displaces=displaces, newest_by_turns=newest_by_turns)
    tickets: list[Ticket] = []
    for share, amount, behind, leaves in steps:
        ticket = Ticket((share,), amount, behind=behind)
        try:
            loser = queue.enter(ticket)
        except QueueFull:
            continue
        tickets.append(ticket)
        if loser is not None:
            assert loser.state is TicketState.GONE
            tickets.remove(loser)
        if leaves:
            for given_now in queue.leave(tickets.pop(0)):
                assert given_now.state is TicketState.HOLDING
        holding = [each for each in tickets if each.state is TicketState.HOLDING]
        assert queue.free == 10 - sum(each.amount for each in holding)
        assert queue.free >= 0
        assert queue.waiting == len(tickets) - len(holding)
        for each in tickets:
            assert each in holding or not queue.may_have(each.shares, each.amount), "it is free, and somebody waits"
    for each in tickets:
        queue.leave(each)
    assert queue.is_idle
    assert queue.free == 10
