"""What the telling of changes promises, whatever it is made of."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pullthrough.storage.files.generation import Generation
from pullthrough.storage.interfaces import Changes
from tests.unit.storage.processes import child

#: The changes of one installation, as the process of this number has them; there are three.
OpenChanges = Callable[[int], Changes]


@pytest.fixture(params=["file"])
def open_changes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenChanges]:
    assert request.param == "file"
    opened: list[Generation] = []

    def open_(process: int) -> Changes:
        opened.append(Generation(tmp_path / "generation", process, 3))
        return opened[-1]

    yield open_
    for generation in opened:
        generation.close()


def test_the_stamp_stands_while_nothing_changes(open_changes: OpenChanges) -> None:
    one, other = open_changes(0), open_changes(1)
    assert one.read() == other.read() == one.read()


def test_a_change_is_seen_by_everybody_at_once(open_changes: OpenChanges) -> None:
    one, other, third = open_changes(0), open_changes(1), open_changes(2)
    stamps = {other.read()}
    for teller in (one, third, other, one):
        teller.bump()
        assert one.read() == other.read() == third.read()
        stamps.add(other.read())
    assert len(stamps) == 5, "each one differs from all before"


def test_a_change_in_another_process_is_seen(open_changes: OpenChanges) -> None:
    mine = open_changes(0)

    reading, writing = os.pipe()

    def work(tell: Callable[[str], None]) -> None:
        other = open_changes(1)
        tell("ready")
        os.read(reading, 1)
        other.bump()

    with child(work) as other:
        assert other.read_line() == "ready"
        before = mine.read()
        assert mine.read() == before
        os.write(writing, b"x")
        other.wait()
        assert mine.read() != before
    os.close(reading)
    os.close(writing)


def test_who_comes_instead_of_another_tells_of_what_that_one_could_not(open_changes: OpenChanges) -> None:
    reader = open_changes(0)
    open_changes(1)
    before = reader.read()
    open_changes(1)
    assert reader.read() != before


def test_changes_told_at_once_are_all_told(open_changes: OpenChanges) -> None:
    everybody = [open_changes(number) for number in range(3)]
    seen: list[bytes] = []

    def work(changes: Changes) -> None:
        for _ in range(200):
            before = changes.read()
            changes.bump()
            seen.append(before)
            assert changes.read() != before

    threads = [threading.Thread(target=work, args=(changes,)) for changes in everybody * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everybody[0].read() not in seen
