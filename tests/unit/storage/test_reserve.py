"""The reserve takes real room, gives it back, and is content with little."""

from __future__ import annotations

from pathlib import Path

from pullthrough.storage.files.reserve import Reserve


def test_it_takes_real_room_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "reserve"
    reserve = Reserve(path, 1 << 40)
    assert reserve.size_bytes == path.stat().st_size == 4 * 1024 * 1024
    assert path.stat().st_blocks * 512 >= reserve.size_bytes
    reserve.release()
    assert path.stat().st_blocks == 0
    assert reserve.restore()
    assert path.stat().st_blocks * 512 >= reserve.size_bytes


def test_of_a_small_disk_it_is_a_small_part(tmp_path: Path) -> None:
    assert Reserve(tmp_path / "reserve", 24 * 1024 * 1024).size_bytes == 1024 * 1024
