"""Fingerprints: the same for the same secret on one folder, different on another, and no key that others can read."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from pullthrough.fingerprints import KEY_FILE, Fingerprints


def test_the_same_secret_has_the_same_fingerprint_on_one_folder_only(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, again, other = (Fingerprints(tmp_path / name) for name in ("a", "a", "b"))
    assert re.fullmatch("[0-9a-f]{12}", first.of("hunter2"))
    assert first.of("hunter2") == again.of("hunter2") != other.of("hunter2")
    assert first.of("hunter2") != first.of("hunter3")
    assert first.stored
    assert again.stored


def test_the_key_is_for_its_owner_only_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    Fingerprints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600


def test_without_a_folder_the_key_is_temporary_and_nothing_is_made(tmp_path: Path) -> None:
    fingerprints = Fingerprints(tmp_path / "none", lambda size: b"k" * size)
    assert not fingerprints.stored
    assert fingerprints.of("hunter2") == Fingerprints(tmp_path / "none", lambda size: b"k" * size).of("hunter2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_key_that_is_not_whole_is_not_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    assert not Fingerprints(tmp_path).stored
    assert (tmp_path / KEY_FILE).read_bytes() == content


def test_of_two_that_make_a_key_at_once_both_use_the_first(tmp_path: Path) -> None:
    def while_another_is_faster(size: int) -> bytes:
        (tmp_path / KEY_FILE).write_bytes(b"w" * size)
        return b"l" * size

    late = Fingerprints(tmp_path, while_another_is_faster)
    assert late.stored
    assert (tmp_path / KEY_FILE).read_bytes() == b"w" * 32
    assert late.of("hunter2") == Fingerprints(tmp_path).of("hunter2")
