"""Counters in one file; what all telling of changes promises is in `tests/contracts/test_changes.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pullthrough.storage.files.generation import Generation
from tests.unit.storage.processes import child


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "generation"


def test_a_bump_in_another_process_is_seen(path: Path) -> None:
    mine = Generation(path, 0, 2)

    def work(tell: Callable[[str], None]) -> None:
        other = Generation(path, 1, 2)
        tell("ready")
        other.bump()
        tell("bumped")

    with child(work) as other:
        other.read_line()
        before = mine.read()
        assert other.read_line() == "bumped"
        other.wait()
    assert mine.read()[8:] == (2).to_bytes(8, "little")
    assert len(before) == 16


def test_no_bump_is_lost_to_a_neighbour_or_a_thread(path: Path) -> None:
    generations = [Generation(path, slot, 2) for slot in range(2)]
    threads = [threading.Thread(target=lambda g=g: [g.bump() for _ in range(500)]) for g in generations * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counters = memoryview(generations[0].read()).cast("Q")
    assert list(counters) == [1001, 1001]


def test_more_workers_than_last_time_fit(path: Path) -> None:
    Generation(path, 0, 1).close()
    assert len(Generation(path, 4, 5).read()) == 40


def test_fewer_workers_than_last_time_leave_the_file_as_it_is(path: Path) -> None:
    Generation(path, 4, 5).close()
    assert len(Generation(path, 0, 1).read()) == 8
    assert path.stat().st_size == 40


def test_the_counter_begins_again_after_the_last_number(path: Path) -> None:
    path.write_bytes(b"\xff" * 8)
    assert Generation(path, 0, 1).read() == bytes(8)


def test_a_slot_outside_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="slot 2"):
        Generation(path, 2, 2)
