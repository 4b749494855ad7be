"""A partial file: a blob's bytes while they arrive, its lock, and the sidecar that tells other processes about it.

Who holds the lock (flock on the partial file) is the leader and the only one to write. Everybody else follows: reads the
growing file through a descriptor of their own and looks into the sidecar. A leader that dies loses the lock with its last
descriptor, and the first follower to notice takes over. The file only ever grows; it is never truncated under a reader.

A sidecar may be older than the lock: between taking the lock and telling, a new leader's file still has the words of the
last one. `attempt` tells them apart: a follower believes a failure only of an attempt that it has seen under way.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pullthrough.storage.bodies import State, Told


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is told of a partial file, and in which boot of the machine that was."""

    told: Told
    boot_id: str


class Partial:
    """One partial file, opened. Close it with `close`; that also gives up the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sidecar_path = path.with_name(path.name + ".json")
        self.fd = self._open()
        self._sidecar_seen: tuple[int, int, int] | None = None
        self._sidecar: Sidecar | None = None
        self._sidecar_of = 0

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_lead(self) -> bool:
        """Take the lock if it is free. The leader then looks whether the file `is_current`."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Give up the lead. Closing alone would not do where a forked or duplicated descriptor is still open."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def reopen(self) -> None:
        """Open what stands under the path now, or a new file."""
        fd = self._open()
        os.close(self.fd)
        self.fd = fd

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open here."""
        return _same_file(self.fd, self.path)

    def is_published_as(self, path: Path) -> bool:
        return _same_file(self.fd, path)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def read_sidecar(self) -> Sidecar | None:
        """What the leader of the file that is open here told last; None where nothing that can be relied on is there."""
        try:
            stat = self.sidecar_path.stat()
            # The clock of files ticks every few milliseconds, and a replaced file's number is soon given out again.
            seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if seen != self._sidecar_seen:
                document = json.loads(self.sidecar_path.read_bytes())
                told = Told(
                    owner=str(document["owner"]),
                    attempt=str(document["attempt"]),
                    state=State(document["state"]),
                    total_bytes=document["total_bytes"],
                    error=document["error"],
                )
                self._sidecar = Sidecar(told, str(document["boot_id"]))
                self._sidecar_of = document["inode"]
                self._sidecar_seen = seen
        except (OSError, ValueError, KeyError, TypeError):
            self._sidecar_seen = None
            return None
        return self._sidecar if self._sidecar_of == os.fstat(self.fd).st_ino else None

    def write_sidecar(self, sidecar: Sidecar) -> None:
        """By rename, so that no reader sees half of it. Only for the leader."""
        told = sidecar.told
        text = json.dumps(
            {
                "owner": told.owner,
                "boot_id": sidecar.boot_id,
                "attempt": told.attempt,
                "state": told.state.value,
                "total_bytes": told.total_bytes,
                "error": told.error,
                "inode": os.fstat(self.fd).st_ino,
            }
        )
        temporary = self.sidecar_path.with_name(self.sidecar_path.name + ".new")
        try:
            temporary.write_text(text)
            temporary.replace(self.sidecar_path)
        except OSError:
            temporary.unlink(missing_ok=True)
            if told.state is not State.FAILED:
                raise
            # On a full disk the followers must learn of the failure all the same: over the old text, which has its room
            # on the disk. Who reads in between finds no document, and looks again.
            with self.sidecar_path.open("r+b") as file:
                file.write(text.encode().ljust(os.fstat(file.fileno()).st_size))

    def restart(self) -> None:
        """Begin a new, empty file under the same path, locked before anybody can see it. Readers keep the old one."""
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.unlink(missing_ok=True)
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        fresh.replace(self.path)
        os.close(self.fd)
        self.fd = fd

    def discard(self) -> None:
        """Remove the file. Only for the leader; readers keep what they have open.

        The sidecar stays, so that followers learn what happened; the next leader replaces it.
        """
        if self.is_current():
            self.path.unlink(missing_ok=True)

    def remove_sidecar(self, attempt: str) -> None:
        """Unless it tells of another attempt already."""
        try:
            document = json.loads(self.sidecar_path.read_bytes())
            if document["attempt"] == attempt:
                self.sidecar_path.unlink(missing_ok=True)
        except (OSError, ValueError, KeyError, TypeError):
            return

    def close(self) -> None:
        if self.fd >= 0:
            self.unlock()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Glance(Partial):
    """A file that must be there already, only to be looked at; it may have left its `path` as a partial file.

    Raises FileNotFoundError.
    """

    def __init__(self, place: Path, path: Path) -> None:
        self._place = place
        super().__init__(path)

    def _open(self) -> int:
        return os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)


def is_led(path: Path) -> bool:
    """Whether somebody holds the lock on the file at this path: fills it or, if it is in the store, just publishes it."""
    try:
        with Glance(path, path) as glance:
            try:
                fcntl.flock(glance.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    except FileNotFoundError:
        pass
    return False


def look_at(path: Path, published: Path) -> Told | None:
    """What the leader of a fill in any process tells; None where there is no fill under way.

    `path` is the partial file's, `published` where that file goes at the end.
    """
    for place in (path, published):
        if is_led(place):
            try:
                with Glance(place, path) as glance:
                    sidecar = glance.read_sidecar()
                    return sidecar.told if sidecar else None
            except FileNotFoundError:
                continue
    return None


def _same_file(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
