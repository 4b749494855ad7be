from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pullthrough.storage.locks import POLL_SECONDS, Locks
from tests.unit.storage.processes import child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def test_a_key_is_held_once_and_another_key_is_free(path: Path) -> None:
    locks = Locks(path)
    first = locks.try_lock("one")
    assert first is not None
    assert locks.try_lock("one") is None
    other = locks.try_lock("two")
    assert other is not None
    first.release()
    first.release()
    again = locks.try_lock("one")
    assert again is not None
    again.release()
    other.release()


def test_another_process_is_kept_out_until_the_holder_dies(path: Path) -> None:
    def work(tell: Callable[[str], None]) -> None:
        assert Locks(path).try_lock("one") is not None
        tell("held")
        os.read(os.pipe()[0], 1)  # until killed

    with child(work) as other:
        assert other.read_line() == "held"
        assert Locks(path).try_lock("one") is None
        other.kill()
        lock = Locks(path).try_lock("one")
        assert lock is not None
        lock.release()


def test_releasing_one_lock_keeps_the_others_of_the_process(path: Path) -> None:
    # With the older fcntl locks, closing any descriptor of the file would drop them all.
    locks = Locks(path)
    with locks.try_lock("kept") or pytest.fail("free"):
        with locks.try_lock("released") or pytest.fail("free"):
            pass

        def work(tell: Callable[[str], None]) -> None:
            tell("free" if Locks(path).try_lock("kept") else "held")

        with child(work) as other:
            assert other.read_line() == "held"


async def test_holding_a_free_key_does_not_wait(path: Path) -> None:
    async def sleep(_seconds: float) -> None:
        raise AssertionError("waited")

    async with Locks(path, sleep=sleep).hold("one"):
        assert Locks(path).try_lock("one") is None
    lock = Locks(path).try_lock("one")
    assert lock is not None
    lock.release()


async def test_a_waiter_gets_the_key_at_the_first_look_after_its_release(path: Path) -> None:
    lock = Locks(path).try_lock("one")
    assert lock is not None
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            lock.release()

    async with Locks(path, sleep=sleep).hold("one"):
        assert slept == [POLL_SECONDS] * 3


async def test_a_cancelled_waiter_leaves_no_lock_behind(path: Path) -> None:
    lock = Locks(path).try_lock("one")
    assert lock is not None
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def wait() -> None:
        async with Locks(path, sleep=sleep).hold("one"):
            raise AssertionError("held")

    task = asyncio.create_task(wait())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    lock.release()
    again = Locks(path).try_lock("one")
    assert again is not None
    again.release()


async def test_the_lock_is_given_back_when_the_block_fails(path: Path) -> None:
    with pytest.raises(RuntimeError):
        async with Locks(path).hold("one"):
            raise RuntimeError
    lock = Locks(path).try_lock("one")
    assert lock is not None
    lock.release()
