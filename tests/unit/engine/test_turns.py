"""Turns: the limit, the two classes, and that no turn is ever lost."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from pullthrough.engine.turns import Turns


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_is_wanted_goes_before_who_is_behind() -> None:
    turns = Turns(1)
    order: list[str] = []

    async def use(name: str, *, behind: bool) -> None:
        async with turns.take(behind=behind):
            order.append(name)

    async with turns.take():
        tasks = [asyncio.create_task(use(name, behind=behind)) for name, behind in
                 (("b1", True), ("a1", False), ("b2", True), ("a2", False))]  # fmt: skip
        await settle()
        assert order == []
    await asyncio.gather(*tasks)
    assert order == ["a1", "a2", "b1", "b2"]


async def test_no_more_than_the_limit_hold_a_turn() -> None:
    turns = Turns(3)
    holding = most = 0

    async def use() -> None:
        nonlocal holding, most
        async with turns.take():
            holding += 1
            most = max(most, holding)
            await settle()
            holding -= 1

    await asyncio.gather(*(use() for _ in range(20)))
    assert most == 3


async def test_a_waiter_that_goes_away_loses_no_turn() -> None:
    turns = Turns(1)
    async with AsyncExitStack() as holder:
        await holder.enter_async_context(turns.take())
        waiters = [asyncio.create_task(_hold(turns)) for _ in range(3)]
        await settle()
        waiters[0].cancel()
        await settle()
        # The turn is passed on and the waiter it goes to is cancelled at the same moment.
        await holder.aclose()
        waiters[1].cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
    async with asyncio.timeout(1):
        await _hold(turns)


async def _hold(turns: Turns) -> None:
    async with turns.take():
        pass
