"""The data folder: its layout, and the lock that gives it to one engine or one offline command.

lock                    locked while an engine or an offline command owns the folder; holds the owner's process id
locks                   byte ranges of it are named locks (locks.py)
generation              counters of catalog changes (generation.py)
control.sock            made by the engine
catalog.sqlite          rows, with -wal and -shm beside it (catalog.py)
blobs/<algorithm>/<2 hex>/<hex>      published blobs (blobs.py)
fills/<algorithm>-<hex>@<16 hex>     bodies on their way in, by owner and secret (blobs.py)
uploads/<uuid>          bodies that clients push, with .json beside each (uploads.py)
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from pullthrough.errors import DiskFull, FolderLocked, FolderNotWritable

_SUBFOLDERS = ("blobs", "blobs/sha256", "blobs/sha512", "fills", "uploads")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
#: Workers of an engine that was killed keep its lock for the instant until they die too: a start tries again this often,
#: this far apart.
_LOCK_ATTEMPTS = 10
_LOCK_PAUSE_SECONDS = 0.01

#: How the system says that there is no room, on the disk or in a quota.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def is_full(error: OSError) -> bool:
    """Whether there was no room on the disk, or in a quota."""
    return error.errno in _FULL


class DataFolder:
    """Where one engine keeps everything. Made by `open` (owns it) or `attach` (shares it with its owner).

    The lock is not handed to programs that are executed, but a process forked without exec keeps it: such a child must
    call `close` first, or die with its parent. Workers of the engine die with it (the kernel sees to that), so that none
    of them writes here once another engine has taken the folder.
    """

    def __init__(self, path: Path, boot_id: str, lock: int | None) -> None:
        self.path = path
        #: Changes with each boot of the machine: what was not synced before a power cut is not trusted after it.
        self.boot_id = boot_id
        self._lock = lock

    @classmethod
    def open(cls, path: Path, *, boot_id: str | None = None, sleep: Callable[[float], object] = time.sleep) -> Self:
        """Make the folder where it is missing (mode 0700) and take it for this process alone; `close` gives it back.

        Raises FolderLocked, FolderNotWritable, or DiskFull where a new folder finds no room.
        """
        path = path.absolute()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in _SUBFOLDERS:
                (path / name).mkdir(mode=0o700, exist_ok=True)
            lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _not_usable(path, error) from error
        try:
            _take(lock, path, sleep)
            _probe(path)
            _sync_folders(path)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, boot_id or read_boot_id(), lock)

    @classmethod
    def attach(cls, path: Path, *, boot_id: str | None = None) -> Self:
        """The folder without its lock: for workers of the process that owns it, and for commands that only read."""
        path = path.absolute()
        if not (path / "blobs").is_dir():
            raise FolderNotWritable(
                f"{path} is not a data folder of pullthrough", hint="Check --data, or start the engine once to make it."
            )
        return cls(path, boot_id or read_boot_id(), None)

    @property
    def blobs_path(self) -> Path:
        return self.path / "blobs"

    @property
    def fills_path(self) -> Path:
        return self.path / "fills"

    @property
    def uploads_path(self) -> Path:
        return self.path / "uploads"

    @property
    def catalog_path(self) -> Path:
        return self.path / "catalog.sqlite"

    @property
    def locks_path(self) -> Path:
        return self.path / "locks"

    @property
    def generation_path(self) -> Path:
        return self.path / "generation"

    @property
    def configuration_path(self) -> Path:
        return self.path / "configuration"

    @property
    def degraded_path(self) -> Path:
        return self.path / "degraded"

    @property
    def reserve_path(self) -> Path:
        return self.path / "reserve"

    @property
    def control_socket_path(self) -> Path:
        return self.path / "control.sock"

    def close(self) -> None:
        """Give the folder back. May be called twice."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def read_boot_id() -> str:
    """The kernel's name of this boot. Where there is none, a new one each time: then everything is verified again."""
    try:
        return _BOOT_ID.read_text().strip() or uuid.uuid4().hex
    except OSError:
        return uuid.uuid4().hex


def _take(lock: int, path: Path, sleep: Callable[[float], object]) -> None:
    for attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if attempt == _LOCK_ATTEMPTS - 1:
                raise _locked(lock, path) from None
            sleep(_LOCK_PAUSE_SECONDS)
        except OSError as error:
            raise _not_usable(path, error) from error
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        # A full disk must not keep an engine from starting and evicting; the number only serves the other's message.
        if not is_full(error):
            raise _not_usable(path, error) from error


def _probe(path: Path) -> None:
    """Find out now, and not at the first pull, that a subfolder takes no files."""
    for name in _SUBFOLDERS:
        if not os.access(path / name, os.R_OK | os.W_OK | os.X_OK):
            raise _not_usable(path / name, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _sync_folders(path: Path) -> None:
    """What is published later must not be lost with a folder above it."""
    for folder in (path.parent, path, path / "blobs"):
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            continue  # the folder above may be closed to us, as systemd's private state folders are
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise _not_usable(folder, error) from error
        finally:
            os.close(descriptor)


def _locked(lock: int, path: Path) -> FolderLocked:
    owner = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
    who = f"process {owner}" if owner.isdigit() else "another process"
    return FolderLocked(
        f"the data folder {path} is in use by {who}",
        hint="Stop that engine or command, or give this one another folder with --data.",
    )


def _not_usable(path: Path, error: OSError) -> FolderNotWritable | DiskFull:
    if is_full(error):
        return DiskFull(f"no room to make the data folder {path}: {error.strerror}")
    if isinstance(error, NotADirectoryError | FileExistsError):
        return FolderNotWritable(
            f"the data folder {path} cannot be made: something that is not a folder is in its place",
            hint="Give another folder with --data.",
        )
    return FolderNotWritable(
        f"the data folder {path} cannot be written: {error.strerror}",
        hint="Give the engine's user the right to write there, or another folder with --data.",
    )
