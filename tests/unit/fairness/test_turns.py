"""Turns go round the clients that wait, whatever each of them asks for."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import FairQueue, QueueFull


def turns_of(turns: int, places: int) -> Gate:
    """As password checks are queued for."""
    return Gate(FairQueue(turns, places=places, displaces=True, newest_by_turns=True))


class Crowd:
    """Clients that take a turn and hold it until they are told to go. `order` is who got one."""

    def __init__(self, turns: Gate) -> None:
        self.turns = turns
        self.order: list[str] = []
        self.go = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, *names: str) -> None:
        """`a1` is a client of the name a."""
        for name in names:
            self.tasks.append(asyncio.create_task(self._take(name)))
        await settle()

    async def _take(self, name: str) -> None:
        async with self.turns.hold(name[0]):
            self.order.append(name)
            await self.go.acquire()

    async def pass_on(self, count: int) -> None:
        for _ in range(count):
            self.go.release()
            await settle()

    def refused(self) -> int:
        return sum(
            task.done() and isinstance(task.exception(), QueueFull) for task in self.tasks if not task.cancelled()
        )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_go_round_the_clients() -> None:
    crowd = Crowd(turns_of(1, 10))
    await crowd.come("a1", "a2", "a3", "b1", "c1", "b2")
    await crowd.pass_on(6)
    assert [name[0] for name in crowd.order] == ["a", "a", "b", "c", "a", "b"]


async def test_of_one_client_the_oldest_and_the_newest_go_by_turns() -> None:
    crowd = Crowd(turns_of(1, 10))
    await crowd.come("a1", "a2", "a3", "a4", "a5")
    await crowd.pass_on(5)
    assert crowd.order == ["a1", "a2", "a5", "a3", "a4"]


async def test_who_has_most_places_loses_one_to_who_has_fewer() -> None:
    crowd = Crowd(turns_of(1, 4))
    await crowd.come("a1", "a2", "a3", "a4", "a5")
    await crowd.come("a6")
    assert crowd.refused() == 1
    await crowd.come("b1", "b2")
    assert crowd.refused() == 3
    # As many as the others have is enough.
    await crowd.come("b3", "a7")
    assert crowd.refused() == 5
    await crowd.come("c1")
    assert crowd.refused() == 6
    await crowd.pass_on(6)
    assert sorted(name[0] for name in crowd.order[1:]) in (["a", "a", "b", "c"], ["a", "b", "b", "c"])


async def test_clients_with_one_place_each_keep_it() -> None:
    crowd = Crowd(turns_of(1, 2))
    await crowd.come("a1", "b1", "c1")
    await crowd.come("d1")
    assert crowd.refused() == 1
    await crowd.pass_on(3)
    assert crowd.order == ["a1", "b1", "c1"]


async def test_who_goes_away_leaves_turn_and_place_to_others() -> None:
    crowd = Crowd(turns_of(1, 2))
    await crowd.come("a1", "b1", "c1")
    crowd.tasks[1].cancel()
    await settle()
    await crowd.come("d1")
    assert crowd.refused() == 0
    crowd.tasks[0].cancel()
    await settle()
    assert crowd.order == ["a1", "c1"]
    await crowd.pass_on(2)
    assert crowd.order == ["a1", "c1", "d1"]


@pytest.mark.parametrize("steps", range(5))
async def test_a_turn_is_not_lost_to_who_goes_away_as_it_is_given(steps: int) -> None:
    crowd = Crowd(turns_of(1, 4))
    await crowd.come("a1", "b1", "c1")
    crowd.go.release()
    for _ in range(steps):
        await asyncio.sleep(0)
    crowd.tasks[1].cancel()
    await settle()
    assert crowd.order[-1] == "c1"


async def test_a_turn_is_given_back_whatever_happens_in_it() -> None:
    turns = turns_of(1, 1)
    for _ in range(3):
        with suppress(RuntimeError):
            async with turns.hold("a"):
                raise RuntimeError
    async with turns.hold("a"):
        pass
