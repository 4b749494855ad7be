"""Bodies that clients push: a file each, which only grows until it is published or dropped.

uploads/<uuid>          what has arrived; its size is how far the upload is
uploads/<uuid>.json     the repository it is for

Who writes to an upload holds flock(2) on its file, and the kernel drops that with the process: an upload goes on after a
restart, and in another worker. Nothing is synced before the end, when the digest says whether all of it is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from pullthrough.errors import UploadUnknown
from pullthrough.oci.digests import Digest, Hasher
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.files.blobs import writing

#: An upload to which nothing has come for so long is removed.
STALE_SECONDS = 86_400.0

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_SIDECAR_SUFFIX = ".json"
_CHUNK_BYTES = 1024 * 1024
#: What clients digest with, unless they say otherwise at the end: this is computed while the body arrives.
_USUAL = "sha256"
#: Uploads whose unfinished hash a process keeps from one request to the next; of the others the file is read at the end.
_MAX_HASHES = 1_000


class Upload:
    """One upload, opened and locked for whoever writes to it. Close it with `close`. Any thread, one at a time."""

    def __init__(self, uploads: Uploads, upload_id: str, repository: RepositoryName, descriptor: int) -> None:
        self._uploads = uploads
        self.id = upload_id
        self.repository = repository
        self.path = uploads.path(upload_id)
        self._fd = descriptor
        self.size_bytes = os.fstat(descriptor).st_size
        self._hasher, self._hashed_bytes = uploads.take_hash(upload_id)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Raises DiskFull; `size_bytes` then says how much was still written."""
        view = memoryview(data)
        with writing():
            while view:
                count = os.pwrite(self._fd, view, self.size_bytes)
                if self._hashed_bytes == self.size_bytes:
                    self._hasher.update(view[:count])
                    self._hashed_bytes += count
                self.size_bytes += count
                view = view[count:]

    def digest(self, algorithm: str) -> Digest:
        """Of the whole body. Reads what this process has not hashed while it arrived."""
        hasher, done = (self._hasher, self._hashed_bytes) if algorithm == _USUAL else (hashlib.new(algorithm), 0)
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while done < self.size_bytes and (count := os.preadv(self._fd, [buffer], done)):
            hasher.update(buffer[:count])
            done += count
        if algorithm == _USUAL:
            self._hashed_bytes = done
        return Digest(f"{algorithm}:{hasher.hexdigest()}")

    def published(self) -> None:
        """Its file has become a blob."""
        self._uploads.forget(self.id)

    def discard(self) -> None:
        """The upload is over, and what has arrived is gone."""
        self.path.unlink(missing_ok=True)
        self._uploads.forget(self.id)

    def close(self) -> None:
        """Give up the lock; the upload stays for the next one, unless it is over."""
        if self._fd >= 0:
            if self.path.exists():
                self._uploads.keep_hash(self.id, self._hasher, self._hashed_bytes)
            os.close(self._fd)
            self._fd = -1


class Uploads:
    """All uploads of one data folder. Safe to use from many threads and processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes: OrderedDict[str, tuple[Hasher, int]] = OrderedDict()

    def path(self, upload_id: str) -> Path:
        return self._folder / upload_id

    def begin(self, repository: RepositoryName) -> str:
        """A new, empty upload; its id is a UUID in the usual form. Raises DiskFull."""
        upload_id = str(uuid.uuid4())
        with writing():
            self._sidecar(upload_id).write_text(json.dumps({"repository": repository}))
            os.close(os.open(self.path(upload_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return upload_id

    def size(self, repository: RepositoryName, upload_id: str) -> int:
        """How many bytes have arrived. Raises UploadUnknown."""
        self._check(repository, upload_id)
        try:
            return self.path(upload_id).stat().st_size
        except FileNotFoundError:
            raise _unknown(repository, upload_id) from None

    def try_open(self, repository: RepositoryName, upload_id: str) -> Upload | None:
        """The upload, locked; None while somebody else has it. Raises UploadUnknown."""
        self._check(repository, upload_id)
        path = self.path(upload_id)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _unknown(repository, upload_id) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have ended between the two: then the path leads elsewhere, or nowhere.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise _unknown(repository, upload_id)
            return Upload(self, upload_id, repository, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            os.close(descriptor)
            raise _unknown(repository, upload_id) from None
        except BaseException:
            os.close(descriptor)
            raise

    def remove_stale(self, older_than: float) -> list[tuple[Path, int]]:
        """Remove what was last written before then, unless somebody is writing it; path and size of each file."""
        removed: list[tuple[Path, int]] = []
        for path in self.files():
            try:
                status = path.stat()
                if status.st_mtime >= older_than:
                    continue
                if path.name.endswith(_SIDECAR_SUFFIX):
                    if path.with_name(path.name.removesuffix(_SIDECAR_SUFFIX)).exists():
                        continue
                elif not self._unlocked(path):
                    continue
                path.unlink()
            except FileNotFoundError:
                continue
            removed.append((path, status.st_size))
            self.forget(path.name)
        return removed

    def files(self) -> Iterator[Path]:
        """Bodies and sidecars."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                yield Path(entry.path)

    # What an `Upload` needs

    def take_hash(self, upload_id: str) -> tuple[Hasher, int]:
        """The hash of the body's beginning, and how long that is; of nothing where this process did not keep one."""
        return self._hashes.pop(upload_id, None) or (hashlib.new(_USUAL), 0)

    def keep_hash(self, upload_id: str, hasher: Hasher, hashed_bytes: int) -> None:
        self._hashes[upload_id] = (hasher, hashed_bytes)
        while len(self._hashes) > _MAX_HASHES:
            self._hashes.popitem(last=False)

    def forget(self, upload_id: str) -> None:
        """Its body has gone from here."""
        self._hashes.pop(upload_id, None)
        self._sidecar(upload_id).unlink(missing_ok=True)

    def _sidecar(self, upload_id: str) -> Path:
        return self._folder / (upload_id + _SIDECAR_SUFFIX)

    def _check(self, repository: RepositoryName, upload_id: str) -> None:
        """An upload belongs to the repository that it was begun for."""
        if _ID.fullmatch(upload_id):
            try:
                if json.loads(self._sidecar(upload_id).read_bytes())["repository"] == repository:
                    return
            except (OSError, ValueError, KeyError, TypeError):
                pass
        raise _unknown(repository, upload_id)

    @staticmethod
    def _unlocked(path: Path) -> bool:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True


def _unknown(repository: str, upload_id: str) -> UploadUnknown:
    return UploadUnknown(
        f"there is no upload {upload_id[:40]!r} in {repository}: it has ended, was cancelled, or nothing came for a day"
    )
