"""What named locks promise, whatever they are made of."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pullthrough.storage.files.locks import FileLocks
from pullthrough.storage.interfaces import Locks
from tests.unit.storage.processes import child

#: The locks of one installation, as another user of them has them.
OpenLocks = Callable[[], Locks]


@pytest.fixture(params=["file"])
def open_locks(request: pytest.FixtureRequest, tmp_path: Path) -> OpenLocks:
    assert request.param == "file"
    return lambda: FileLocks(tmp_path / "locks")


def test_a_key_is_held_once_and_another_key_is_free(open_locks: OpenLocks) -> None:
    locks = open_locks()
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


def test_another_process_is_kept_out_until_the_holder_dies(open_locks: OpenLocks) -> None:
    def work(tell: Callable[[str], None]) -> None:
        assert open_locks().try_lock("one") is not None
        tell("held")
        os.read(os.pipe()[0], 1)  # until killed

    with child(work) as other:
        assert other.read_line() == "held"
        assert open_locks().try_lock("one") is None
        other.kill()
        lock = open_locks().try_lock("one")
        assert lock is not None
        lock.release()


def test_releasing_one_lock_keeps_the_others_of_the_process(open_locks: OpenLocks) -> None:
    # With the older fcntl locks, closing any descriptor of the file would drop them all.
    locks = open_locks()
    with locks.try_lock("kept") or pytest.fail("free"):
        with locks.try_lock("released") or pytest.fail("free"):
            pass

        def work(tell: Callable[[str], None]) -> None:
            tell("free" if open_locks().try_lock("kept") else "held")

        with child(work) as other:
            assert other.read_line() == "held"


def test_patience_ends(open_locks: OpenLocks) -> None:
    slept: list[float] = []
    with open_locks().try_lock("one") or pytest.fail("free"):
        with open_locks().held_within("one", 1.0, slept.append) as is_held:
            assert not is_held
        with open_locks().held_within("one", 0.0, slept.append) as is_held:
            assert not is_held
    assert sum(slept) == pytest.approx(1.0, abs=0.1)


def test_who_is_patient_gets_what_is_released(open_locks: OpenLocks) -> None:
    lock = open_locks().try_lock("one")
    assert lock is not None
    with open_locks().held_within("one", 1.0, lambda _seconds: lock.release()) as is_held:
        assert is_held
        assert open_locks().try_lock("one") is None
    with open_locks().held_within("one", 0.0) as is_held:
        assert is_held


async def test_the_patience_of_a_loop_ends(open_locks: OpenLocks) -> None:
    with open_locks().try_lock("one") or pytest.fail("free"):
        for seconds in (0.0, 0.01):
            async with open_locks().hold_within("one", seconds) as is_held:
                assert not is_held
    async with open_locks().hold_within("one", 0.0) as is_held:
        assert is_held
        assert open_locks().try_lock("one") is None
    lock = open_locks().try_lock("one")
    assert lock is not None
    lock.release()


async def test_a_loop_that_is_patient_gets_what_is_released(open_locks: OpenLocks) -> None:
    lock = open_locks().try_lock("one")
    assert lock is not None
    asyncio.get_running_loop().call_soon(lock.release)
    async with open_locks().hold_within("one", 60.0) as is_held:
        assert is_held


async def test_a_key_is_held_for_the_block(open_locks: OpenLocks) -> None:
    async with open_locks().hold("one"):
        assert open_locks().try_lock("one") is None
        async with open_locks().hold("two"):
            pass
        assert open_locks().try_lock("one") is None
    lock = open_locks().try_lock("one")
    assert lock is not None
    lock.release()


async def test_a_waiter_gets_the_key_when_it_is_released(open_locks: OpenLocks) -> None:
    order: list[str] = []

    async def wait() -> None:
        async with open_locks().hold("one"):
            order.append("held")

    async with asyncio.TaskGroup() as group:
        with open_locks().try_lock("one") or pytest.fail("free"):
            group.create_task(wait())
            await asyncio.sleep(0)
            order.append("released")
    assert order == ["released", "held"]


async def test_the_lock_is_given_back_when_the_block_fails(open_locks: OpenLocks) -> None:
    with pytest.raises(RuntimeError):
        async with open_locks().hold("one"):
            raise RuntimeError
    lock = open_locks().try_lock("one")
    assert lock is not None
    lock.release()
