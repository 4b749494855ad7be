"""Blobs as files: written beside, renamed into place once, never changed after.

A file under its digest's path is a blob whose size and digest were right when it was published. Whether a repository
may read it is the catalog's matter.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pullthrough.errors import DiskFull
from pullthrough.oci.digests import Digest, is_digest
from pullthrough.oci.owners import Owner
from pullthrough.storage.bodies import BodyFacts, Space
from pullthrough.storage.files.folder import DataFolder, is_full

_PARTIAL = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})@[0-9a-f]{16}", re.ASCII)
_SIDECAR_SUFFIX = ".json"


class BlobFiles:
    """The blobs of one data folder. Safe to use from many threads and processes."""

    def __init__(self, folder: DataFolder) -> None:
        self._blobs = folder.blobs_path
        self._fills = folder.fills_path
        self.boot_id = folder.boot_id

    def path(self, digest: Digest) -> Path:
        return self._blobs / digest.algorithm / digest.hex[:2] / digest.hex

    def open(self, digest: Digest) -> int | None:
        """A descriptor to read from, which the caller closes, or None where the blob is not here.

        It stays readable to the end though the blob is removed meanwhile.
        """
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None

    def size(self, digest: Digest) -> int | None:
        """The file's size in bytes, or None where the blob is not here."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def facts(self, digest: Digest) -> BodyFacts | None:
        """None where the blob is not here."""
        try:
            status = self.path(digest).stat()
        except FileNotFoundError:
            return None
        return BodyFacts(status.st_size, status.st_mtime, status.st_ctime)

    def partial_path(self, digest: Digest, owner: Owner, secret: str = "") -> Path:
        """Where a body on its way in is written: another owner's is another file, and so is what is asked for with another
        secret, whose ARN this is."""
        # No account, host or name has a line end.
        whose = hashlib.sha256(f"{owner}\n{secret}".encode() if secret else owner.encode()).hexdigest()
        return self._fills / f"{digest.algorithm}-{digest.hex}@{whose[:16]}"

    def publish(self, partial: Path, digest: Digest) -> None:
        """Make a complete, verified body the blob of its digest, safe against power loss when this returns.

        At any instant of a crash there is either no blob or the whole one. Replaces a blob that is there already;
        who reads that one goes on doing so. Raises DiskFull, and then nothing was published. The sidecar stays.
        """
        target = self.path(digest)
        with writing():
            _sync(partial)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            partial.rename(target)
            _sync(target.parent)
            # Also where the shard was there: whoever made it just now may not have come this far. Cheap if nothing is new.
            _sync(target.parent.parent)

    def withdraw(self, digest: Digest, partial: Path) -> None:
        """Undo `publish`: the body is back under its old path."""
        self.path(digest).rename(partial)

    def remove(self, digest: Digest) -> int:
        """Remove the file and return its size in bytes; 0 where there is none. Forget its rows first."""
        path = self.path(digest)
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size

    def partials(self) -> Iterator[Path]:
        """Bodies on their way in or left over, without their sidecars."""
        return (path for path in _files(self._fills) if partial_digest(path) is not None)

    def abandoned(self, older_than: float) -> Iterator[tuple[Path, int, float]]:
        """Bodies that nobody is writing and that were last written before then: path, size in bytes, that time."""
        for path in self.partials():
            # Looked at before it is locked: a fill that begins must not meet our lock without need.
            if _modified_at(path) < older_than:
                with _claimed(path) as status:
                    if status and status.st_mtime < older_than:
                        yield path, status.st_size, status.st_mtime

    def remove_partial(self, partial: Path) -> int | None:
        """Remove a body on its way in, with its sidecar; its size in bytes, or None where somebody is writing it.

        Who writes one holds flock(2) on it and looks, after locking, whether the path still leads to the same file.
        """
        with _claimed(partial) as status:
            if status is None:
                return None
            partial.unlink()
            partial.with_name(partial.name + _SIDECAR_SUFFIX).unlink(missing_ok=True)
            return status.st_size

    def partial_bytes(self) -> int:
        """What everything in the fills folder takes, sidecars and strays too."""
        return sum(_size(path) for path in _files(self._fills))

    def leftovers(self) -> list[Path]:
        """Files in the fills folder that no fill can go on from: bodies and sidecars without the other, temporary files, and
        bodies of versions that named no owner.

        Only meaningful while no fill runs: one that does has such files for a moment.
        """
        names = {path.name for path in _files(self._fills)}
        bodies = {
            path.name
            for path in _files(self._fills)
            if partial_digest(path) and path.name + _SIDECAR_SUFFIX in names and _size(path)
        }
        kept = bodies | {name + _SIDECAR_SUFFIX for name in bodies}
        return [self._fills / name for name in sorted(names - kept)]

    def foreign(self) -> Iterator[Path]:
        """Files in the blobs folder that are not named as a blob is."""
        for path in _tree(self._blobs):
            if _digest_at(path) is None:
                yield path

    def iterate(self) -> Iterator[tuple[Digest, int]]:
        """Every blob file with its size in bytes, in no order. One that goes meanwhile is left out."""
        for path in _tree(self._blobs):
            digest = _digest_at(path)
            if digest is not None:
                try:
                    yield digest, path.stat().st_size
                except FileNotFoundError:
                    continue

    def disk(self) -> Space:
        status = os.statvfs(self._blobs)
        return Space(status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize)


def partial_digest(path: Path) -> Digest | None:
    """The digest that a file of the fills folder is to have, or None where it is no body."""
    match = _PARTIAL.fullmatch(path.name)
    return Digest(match[1].replace("-", ":", 1)) if match else None


@contextmanager
def writing() -> Iterator[None]:
    """Turns a full disk or quota into DiskFull."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise DiskFull(
                f"no room on the disk of the data folder: {error.strerror}",
                hint="Free some space, or lower serve.max_size so that more is evicted.",
            ) from error
        raise


@contextmanager
def _claimed(path: Path) -> Iterator[os.stat_result | None]:
    """The lock of a partial file for the block, and what is locked; None where it is gone or somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        current = os.path.samestat(status, path.stat())
    except (BlockingIOError, FileNotFoundError):
        current = False
    try:
        yield status if current else None
    finally:
        os.close(descriptor)


def _digest_at(path: Path) -> Digest | None:
    shard, algorithm = path.parent, path.parent.parent
    text = f"{algorithm.name}:{path.name}"
    return Digest(text) if is_digest(text) and shard.name == path.name[:2] else None


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                yield Path(entry.path)


def _tree(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return math.inf


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
