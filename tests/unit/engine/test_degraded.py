"""Why less is served than should be: known to every worker, without needing room on the disk."""

from __future__ import annotations

from pathlib import Path

from pullthrough.engine.keep.degraded import Degraded


def test_what_one_worker_tells_the_others_know(tmp_path: Path) -> None:
    one, other = Degraded(tmp_path / "degraded"), Degraded(tmp_path / "degraded")
    assert one.read() == {}
    assert one.add("disk_full", "no room")
    assert not other.add("disk_full", "no room at all")
    assert one.read() == {"disk_full": "no room at all"}
    assert other.remove("disk_full")
    assert not one.remove("disk_full")
    assert one.read() == {}


def test_a_start_forgets_what_the_last_run_knew(tmp_path: Path) -> None:
    Degraded(tmp_path / "degraded").add("disk_full", "no room")
    again = Degraded(tmp_path / "degraded")
    again.clear()
    assert again.read() == {}


def test_a_sentence_of_any_length_fits(tmp_path: Path) -> None:
    degraded = Degraded(tmp_path / "degraded")
    degraded.add("disk_full", "é" * 100_000)
    assert degraded.read()["disk_full"].startswith("éé")


def test_a_torn_text_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "degraded"
    degraded = Degraded(path)
    degraded.add("disk_full", "no room")
    with path.open("r+b") as file:
        file.write(b'{"disk')
        file.write(b"\0")
    assert degraded.read() == {}
