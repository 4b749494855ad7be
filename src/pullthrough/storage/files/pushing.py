"""Uploads as files (uploads.py), for the event loop: bytes are written and hashed in threads."""

from __future__ import annotations

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.bodies import RemovedThing
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.uploads import Upload, Uploads
from pullthrough.threads import Runner


class FileUpload:
    """One upload, open for one request."""

    def __init__(self, upload: Upload, files: BlobFiles, run: Runner) -> None:
        self._upload = upload
        self._files = files
        self._run = run

    @property
    def size_bytes(self) -> int:
        return self._upload.size_bytes

    async def append(self, data: bytes | bytearray | memoryview) -> None:
        await self._run(self._upload.append, data)

    async def digest(self, algorithm: str) -> Digest:
        return await self._run(self._upload.digest, algorithm)

    async def publish(self, digest: Digest) -> None:
        await self._run(self._publish, digest)

    def _publish(self, digest: Digest) -> None:
        if self._upload.path.exists():
            self._files.publish(self._upload.path, digest)

    async def withdraw(self, digest: Digest) -> None:
        await self._run(self._files.withdraw, digest, self._upload.path)

    async def discard(self) -> None:
        await self._run(self._upload.discard)

    async def finished(self) -> None:
        await self._run(self._upload.published)

    async def close(self) -> None:
        await self._run(self._upload.close)


class FileUploads:
    """The uploads of one data folder. `run_slow` is for what reads or writes bodies."""

    def __init__(self, uploads: Uploads, files: BlobFiles, run: Runner, run_slow: Runner) -> None:
        self._uploads = uploads
        self._files = files
        self._run = run
        self._run_slow = run_slow

    async def begin(self, repository: RepositoryName) -> str:
        return await self._run(self._uploads.begin, repository)

    async def size(self, repository: RepositoryName, upload_id: str) -> int:
        return await self._run(self._uploads.size, repository, upload_id)

    async def try_open(self, repository: RepositoryName, upload_id: str) -> FileUpload | None:
        upload = await self._run(self._uploads.try_open, repository, upload_id)
        return None if upload is None else FileUpload(upload, self._files, self._run_slow)

    async def remove_stale(self, older_than: float) -> list[RemovedThing]:
        removed = await self._run(self._uploads.remove_stale, older_than)
        return [RemovedThing(str(path), size_bytes) for path, size_bytes in removed]
