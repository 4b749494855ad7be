from __future__ import annotations

import asyncio

import pytest

from pullthrough.upstream.gate import Gate


class Users:
    """Tasks that hold a slot until they are told to leave."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.leave: dict[str, asyncio.Event] = {}

    async def enter(self, name: str, *, behind: bool = False) -> None:
        self.leave[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._use(name, behind))
        await settle()

    async def go(self, name: str) -> None:
        self.leave[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _use(self, name: str, behind: bool) -> None:
        async with self.gate.slot(behind=behind):
            self.inside.append(name)
            await self.leave[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_are_given_in_the_order_of_asking_and_never_too_many() -> None:
    users = Users(Gate(2))
    for name in "abcd":
        await users.enter(name)
    assert users.inside == ["a", "b"]
    await users.go("b")
    await users.go("a")
    assert users.inside == ["a", "b", "c", "d"]


async def test_who_waits_behind_comes_when_nobody_else_does() -> None:
    users = Users(Gate(1))
    await users.enter("a")
    await users.enter("prefetch", behind=True)
    await users.enter("b")
    await users.go("a")
    assert users.inside == ["a", "b"]
    await users.go("b")
    assert users.inside == ["a", "b", "prefetch"]


async def test_a_cancelled_waiter_leaves_its_turn_to_the_next() -> None:
    users = Users(Gate(1))
    for name in "abc":
        await users.enter(name)
    await users.cancel("b")
    assert users.gate.waiting == 1
    await users.go("a")
    assert users.inside == ["a", "c"]


async def test_a_slot_given_in_the_moment_of_cancellation_is_not_lost() -> None:
    users = Users(Gate(1))
    for name in "abc":
        await users.enter(name)
    users.leave["a"].set()
    await asyncio.sleep(0)
    users.tasks["b"].cancel()
    await settle()
    assert users.inside == ["a", "c"]


async def test_a_cancelled_user_gives_its_slot_back() -> None:
    users = Users(Gate(1))
    await users.enter("a")
    await users.enter("b")
    await users.cancel("a")
    assert users.inside == ["a", "b"]


async def test_refusing_ends_all_who_wait_and_nobody_else() -> None:
    users = Users(Gate(1))
    for name in "abc":
        await users.enter(name)
    users.gate.refuse(lambda: RuntimeError("no"))
    await settle()
    for name in "bc":
        with pytest.raises(RuntimeError, match="no"):
            await users.tasks[name]
    await users.go("a")
    await users.tasks["a"]
    await users.enter("d")
    assert users.inside == ["a", "d"]
