"""How locks in a file wait; what all locks promise is in `tests/contracts/test_locks.py`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pullthrough.storage.files.locks import POLL_SECONDS, FileLocks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "locks"


async def test_holding_a_free_key_does_not_wait(path: Path) -> None:
    async def sleep(_seconds: float) -> None:
        raise AssertionError("waited")

    async with FileLocks(path, sleep=sleep).hold("one"):
        assert FileLocks(path).try_lock("one") is None
    lock = FileLocks(path).try_lock("one")
    assert lock is not None
    lock.release()


async def test_a_waiter_gets_the_key_at_the_first_look_after_its_release(path: Path) -> None:
    lock = FileLocks(path).try_lock("one")
    assert lock is not None
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            lock.release()

    async with FileLocks(path, sleep=sleep).hold("one"):
        assert slept == [POLL_SECONDS] * 3


async def test_a_cancelled_waiter_leaves_no_lock_behind(path: Path) -> None:
    lock = FileLocks(path).try_lock("one")
    assert lock is not None
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async def wait() -> None:
        async with FileLocks(path, sleep=sleep).hold("one"):
            raise AssertionError("held")

    task = asyncio.create_task(wait())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    lock.release()
    again = FileLocks(path).try_lock("one")
    assert again is not None
    again.release()
