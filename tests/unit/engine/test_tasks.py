"""Single flights and owned work."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from pullthrough.engine.tasks import Tasks
from pullthrough.errors import UpstreamUnavailable
from pullthrough.fairness.asker import ASKER
from pullthrough.fairness.gate import LINE, Gate
from pullthrough.fairness.queue import FairQueue, thresholds
from pullthrough.threads import wait_out


async def test_everybody_who_asks_meanwhile_gets_the_one_result() -> None:
    tasks, runs, go = Tasks(), 0, asyncio.Event()

    async def work() -> int:
        nonlocal runs
        runs += 1
        await go.wait()
        return runs

    callers = [asyncio.create_task(tasks.once("key", work, name="work")) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go.set()
    assert sorted(await asyncio.gather(*callers)) == [(1, False)] + [(1, True)] * 4
    assert await tasks.once("key", work, name="work") == (2, False)


async def test_who_joins_does_not_wait_for_an_upstream_in_the_line_of_who_began() -> None:
    gate, tasks = Gate(FairQueue(4, thresholds(1))), Tasks()

    async def work() -> str:
        async with gate.hold(ASKER.get(), line=LINE.get()):
            return "done"

    async with gate.hold("a"), gate.hold("a"):
        ASKER.set("a")
        first = asyncio.create_task(tasks.once("key", work, name="work"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert gate.waiting == 1
        ASKER.set("b")
        assert await tasks.once("key", work, name="work") == ("done", True)
    assert await first == ("done", False)


async def test_an_error_reaches_everybody_and_is_not_kept() -> None:
    tasks, fail = Tasks(), True

    async def work() -> str:
        await asyncio.sleep(0)
        if fail:
            raise UpstreamUnavailable("down", upstream="r.example")
        return "up"

    results = await asyncio.gather(*(tasks.once(1, work, name="work") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, UpstreamUnavailable) for result in results)
    fail = False
    assert await tasks.once(1, work, name="work") == ("up", False)


async def test_a_caller_that_leaves_does_not_end_the_work() -> None:
    tasks, go, done = Tasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    caller = asyncio.create_task(tasks.once(1, work, name="work"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    async with asyncio.timeout(60):
        await done.wait()


async def test_closing_ends_what_runs() -> None:
    tasks = Tasks()
    task = tasks.spawn(asyncio.Event().wait(), name="for ever")
    await tasks.close()
    assert task.cancelled()


async def test_what_a_thread_raises_after_its_cancellation_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        cancelled.wait(60)
        raise UpstreamUnavailable("cut", upstream="r.example")

    waiting = asyncio.create_task(wait_out(asyncio.to_thread(work), cancelled.set))
    assert await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    await asyncio.wait((waiting,))
    assert waiting.cancelled()
    del waiting
    gc.collect()  # where it would be told of an exception that nobody has seen
    assert caplog.text == ""


async def test_a_result_is_waited_for_and_an_error_raised() -> None:
    assert await wait_out(asyncio.to_thread(int, "7")) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await wait_out(asyncio.to_thread(int, "seven"))
