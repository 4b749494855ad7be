"""Blobs that clients push.

An upload grows until its digest is named; any worker takes part in it. Then it is hashed, and becomes a blob as a fill does
(engine/bodies.py). Until then it does not exist for anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.rules import Target
from pullthrough.errors import DigestInvalid, UploadBusy, UploadInvalid, UploadOutOfOrder
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.ranges import ByteRange
from pullthrough.storage.bodies import UploadBody, UploadStore
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.threads import Runner, wait_out

#: The largest blob. ECR takes 52,000 MiB; models have passed that.
MAX_BLOB_BYTES = 1 << 40
#: What is gathered of a body before a thread writes it: each push holds about so much memory, however large its body is.
_WRITE_BYTES = 1024 * 1024
#: A client that lost its connection comes back while the last request still notices.
_BUSY_SECONDS = 10.0
_POLL_SECONDS = 0.02


class BlobPushes:
    """One worker's side."""

    def __init__(
        self,
        *,
        admission: PushAdmission,
        uploads: UploadStore,
        bodies: Bodies,
        pushed: Pushed,
        call: Runner,
        clock: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._uploads = uploads
        self._bodies = bodies
        self._pushed = pushed
        self._call = call
        self._clock = clock

    async def begin(self, target: Target) -> str:
        """A new upload's id. Raises PushRefused, RepositoryUnknown or DiskFull."""
        await self._admission.admit(target)
        return await self._admission.with_room(lambda: self._uploads.begin(target.repository))

    async def size(self, target: Target, upload_id: str) -> int:
        """How many bytes have arrived. Raises UploadUnknown."""
        self._admission.require_own(target)
        return await self._uploads.size(target.repository, upload_id)

    async def append(
        self, target: Target, upload_id: str, body: AsyncIterator[bytes], *, part: ByteRange | None = None
    ) -> int:
        """Write what comes; the size then. Where `part` is given, the body must be exactly these bytes of the blob.

        What arrived before the body broke off is kept, and the client may go on from there. Raises UploadUnknown,
        UploadOutOfOrder, UploadInvalid, UploadBusy or DiskFull.
        """
        self._admission.require_own(target)
        async with self._opened(target, upload_id) as upload:
            await self._receive(upload, body, part)
            return upload.size_bytes

    async def finish(
        self,
        target: Target,
        upload_id: str,
        digest: Digest,
        body: AsyncIterator[bytes],
        *,
        part: ByteRange | None = None,
    ) -> int:
        """Write the rest, and make it the blob `digest`; the size. Raises as `append` does.

        Where all of it has another digest: DigestInvalid, and the upload is over.
        """
        self._admission.require_own(target)
        async with self._opened(target, upload_id) as upload:
            await self._receive(upload, body, part)
            await self._complete(target, upload, digest)
            return upload.size_bytes

    async def cancel(self, target: Target, upload_id: str) -> None:
        self._admission.require_own(target)
        async with self._opened(target, upload_id) as upload:
            await upload.discard()

    async def mount(self, target: Target, digest: Digest, source: Target) -> bool:
        """Give the repository a blob that another one has. False where that one does not. Whether who asks may read it
        there is the caller's question."""
        await self._admission.admit(target)

        return await self._admission.write(
            self._pushed.mount_blob,
            target.repository,
            digest,
            source=source.repository,
            owner=source.owner,
            now=self._clock(),
        )

    async def holders(self, digest: Digest) -> list[RepositoryName]:
        """Repositories that have the blob, of which one may lend it."""
        found: list[RepositoryName] = await self._call(self._pushed.holders, digest)
        return found

    @asynccontextmanager
    async def _opened(self, target: Target, upload_id: str) -> AsyncIterator[UploadBody]:
        """The upload, for this request alone; another one that has it gets a while to end."""
        deadline = asyncio.get_running_loop().time() + _BUSY_SECONDS
        while True:
            upload = await self._uploads.try_open(target.repository, upload_id)
            if upload is not None:
                break
            if asyncio.get_running_loop().time() >= deadline:
                raise UploadBusy(f"another request is writing to the upload {upload_id} of {target.repository}")
            await asyncio.sleep(_POLL_SECONDS)
        try:
            yield upload
        finally:
            await wait_out(upload.close())

    async def _receive(self, upload: UploadBody, body: AsyncIterator[bytes], part: ByteRange | None) -> None:
        if part is not None and part.start != upload.size_bytes:
            raise UploadOutOfOrder(
                f"the chunk begins at byte {part.start:,}, and {upload.size_bytes:,} bytes have arrived",
                size_bytes=upload.size_bytes,
            )
        limit = part.stop if part is not None else MAX_BLOB_BYTES
        waiting = bytearray()
        try:
            async for chunk in body:
                if upload.size_bytes + len(waiting) + len(chunk) > limit:
                    raise UploadInvalid(
                        f"more came than the chunk's Content-Range says: it ends before byte {limit:,}"
                        if part is not None
                        else f"the blob is larger than {limit:,} bytes"
                    )
                waiting += chunk
                if len(waiting) >= _WRITE_BYTES:
                    full, waiting = waiting, bytearray()
                    await self._write(upload, full)
        finally:
            # Also of a body that broke off: the client asks how far the upload is, and goes on.
            if waiting:
                await self._write(upload, waiting)
        if part is not None and upload.size_bytes < part.stop:
            raise UploadInvalid(
                f"the chunk's Content-Range ends before byte {part.stop:,}, its body at {upload.size_bytes:,}"
            )

    async def _write(self, upload: UploadBody, data: bytearray) -> None:
        before = upload.size_bytes
        view = memoryview(data)

        async def append() -> None:
            await wait_out(upload.append(view[upload.size_bytes - before :]))

        await self._admission.with_room(append, len(data))

    async def _complete(self, target: Target, upload: UploadBody, digest: Digest) -> None:
        actual = await wait_out(upload.digest(digest.algorithm))
        if actual != digest:
            await wait_out(upload.discard())
            raise DigestInvalid(f"what was pushed has the digest {actual}, and not {digest}; the upload is over")

        def record(boot_id: str) -> None:
            self._pushed.publish_blob(target.repository, digest, upload.size_bytes, boot_id=boot_id, now=self._clock())

        await wait_out(self._bodies.publish(upload, digest, record))
        await wait_out(upload.finished())

    async def delete_blob(self, target: Target, digest: Digest) -> None:
        """Take a blob out of the repository. Raises BlobUnknown, StillReferenced, RepositoryUnknown or PushRefused."""
        await self._admission.require_there(target)
        await self._admission.write(self._pushed.delete_blob, target.repository, digest)
