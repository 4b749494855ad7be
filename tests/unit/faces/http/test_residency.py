"""Whether sendfile would wait for the disk, on the file system that the tests' folder is on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.faces.http.residency import is_resident, read_in

MIB = 1024 * 1024
SIZE = 64 * MIB


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """A file whose pages may be dropped: they are on the disk."""
    path = tmp_path / "body"
    path.write_bytes(os.urandom(MIB) * (SIZE // MIB))
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
        yield fd
    finally:
        os.close(fd)


def test_what_was_read_in_is_there(fd: int) -> None:
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    read_in(fd, 3 * MIB + 5, MIB)
    assert is_resident(fd, 3 * MIB + 5, MIB)


def test_what_the_disk_was_only_asked_for_is_not_there_yet(fd: int) -> None:
    """Sent at once, each such window held up every request of the worker for up to 20 ms.

    A disk may bring the end of a window before its middle, which nobody is told: now and then one is taken for there.
    """
    windows = wrong = 0
    for _ in range(5):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
        for offset in reversed(range(0, SIZE, MIB)):
            windows += 1
            wrong += is_resident(fd, offset, MIB) and _waits(fd, offset, MIB)
    assert wrong < windows / 20


def _waits(fd: int, offset: int, count: int) -> bool:
    """Whether reading the part now would wait for the disk."""
    try:
        return os.preadv(fd, [bytearray(count)], offset, os.RWF_NOWAIT) < count
    except BlockingIOError:
        return True
    except OSError:
        return False
