"""What every `SharedState` promises the classes that decide with it."""

from __future__ import annotations

import threading

import pytest

from pullthrough.shared_state import MemoryState, Records, SharedState


@pytest.fixture(params=["memory"])
def state(request: pytest.FixtureRequest) -> SharedState:
    assert request.param == "memory"
    return MemoryState()


def put(records: Records[str, int], key: str, value: int | None) -> None:
    records.change(key, lambda before: (value, None))


def test_a_record_is_what_the_last_change_made_of_it(state: SharedState) -> None:
    records: Records[str, int] = state.records("counts")
    assert records.get("a") is None
    assert records.change("a", lambda before: (1, before)) is None
    assert records.change("a", lambda before: (2, before)) == 1
    assert (records.get("a"), records.get("b")) == (2, None)
    put(records, "a", None)
    assert records.get("a") is None


def test_records_of_one_name_are_the_same_and_of_two_are_not(state: SharedState) -> None:
    first: Records[str, int] = state.records("one")
    again: Records[str, int] = state.records("one")
    other: Records[str, int] = state.records("other")
    put(first, "a", 1)
    assert again.get("a") == 1
    assert other.get("a") is None


def test_a_change_that_fails_changes_nothing(state: SharedState) -> None:
    records: Records[str, int] = state.records("counts")
    put(records, "a", 1)

    def fail(before: int | None) -> tuple[int | None, None]:
        raise RuntimeError(f"from {before}")

    with pytest.raises(RuntimeError, match="from 1"):
        records.change("a", fail)
    assert records.get("a") == 1
    put(records, "a", 2)
    assert records.get("a") == 2


def test_the_ones_written_longest_ago_go_first(state: SharedState) -> None:
    records: Records[str, int] = state.records("few", most=2)
    for value, key in enumerate(("a", "b", "a", "c")):
        put(records, key, value)
    assert [records.get(key) for key in "abc"] == [2, None, 3]


def test_no_change_is_lost_between_threads(state: SharedState) -> None:
    records: Records[str, int] = state.records("counts")

    def count() -> None:
        for _ in range(500):
            records.change("a", lambda before: ((before or 0) + 1, None))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.get("a") == 2000


def test_the_clock_does_not_go_back(state: SharedState) -> None:
    before = state.now()
    assert state.now() >= before
