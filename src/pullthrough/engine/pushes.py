"""What clients push to the registry's own repositories, and delete from them.

An upload grows until its digest is named; any worker takes part in it. Then it is hashed, and becomes a blob as a fill does
(engine/bodies.py). Until then it does not exist for anybody.
A manifest is taken when its repository has all that it names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from pullthrough.engine.bodies import ROW_BYTES, Bodies
from pullthrough.engine.own import Own
from pullthrough.engine.rules import Target
from pullthrough.errors import (
    DigestInvalid,
    DiskFull,
    ManifestInvalid,
    ManifestRefused,
    PushRefused,
    StorageError,
    UploadBusy,
    UploadInvalid,
    UploadOutOfOrder,
)
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.manifests import Manifest, parse_manifest
from pullthrough.oci.names import Reference, RepositoryName, Tag
from pullthrough.oci.ranges import ByteRange
from pullthrough.storage.bodies import UploadBody, UploadStore
from pullthrough.storage.interfaces import Locks
from pullthrough.storage.inventory import LOOSE_SECONDS
from pullthrough.storage.pushed import DeletedImage, Pushed, PushedManifest
from pullthrough.storage.uploads import STALE_SECONDS
from pullthrough.threads import Runner, wait_out

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: The largest blob. ECR takes 52,000 MiB; models have passed that.
MAX_BLOB_BYTES = 1 << 40
#: What is gathered of a body before a thread writes it: each push holds about so much memory, however large its body is.
_WRITE_BYTES = 1024 * 1024
#: A client that lost its connection comes back while the last request still notices.
_BUSY_SECONDS = 10.0
_POLL_SECONDS = 0.02
_TIDY_SECONDS = 3600.0
#: Bodies above this are parsed in a thread: 4 MiB of JSON would hold up the loop.
_PARSE_IN_THREAD_BYTES = 64 * 1024


class Happened(Protocol):
    """Told of every image that was pushed or deleted: `action` is PUSH or DELETE."""

    def __call__(
        self,
        action: str,
        repository: RepositoryName,
        digest: Digest,
        *,
        tag: Tag | None,
        media_type: str,
        artifact_type: str,
    ) -> None: ...


class Pushes:
    """One worker's side. `call_slow` runs a blocking function in the threads for bodies, `call` in the catalog's;
    `room` makes room on a full disk before a write is tried again. `strict` makes no repository without a creation
    template that says so, as AWS."""

    def __init__(
        self,
        *,
        pushed: Pushed,
        bodies: Bodies,
        uploads: UploadStore,
        locks: Locks,
        own: Own,
        call: Runner,
        call_slow: Runner,
        in_use: Callable[[], set[Digest]],
        room: Callable[[int], Awaitable[None]],
        happened: Happened,
        clock: Callable[[], float],
        strict: bool,
    ) -> None:
        self._pushed = pushed
        self._bodies = bodies
        self._uploads = uploads
        self._locks = locks
        self._own = own
        self._call = call
        self._call_slow = call_slow
        self._in_use = in_use
        self._room = room
        self._happened = happened
        self._clock = clock
        self._strict = strict

    # --- uploads -----------------------------------------------------------------------------------------------------

    async def begin(self, target: Target) -> str:
        """A new upload's id. Raises PushRefused, RepositoryUnknown or DiskFull."""
        await self._admit(target)
        try:
            return await self._uploads.begin(target.repository)
        except DiskFull:
            await self._room(ROW_BYTES)
            return await self._uploads.begin(target.repository)

    async def size(self, target: Target, upload_id: str) -> int:
        """How many bytes have arrived. Raises UploadUnknown."""
        self.require_own(target)
        return await self._uploads.size(target.repository, upload_id)

    async def append(
        self, target: Target, upload_id: str, body: AsyncIterator[bytes], *, part: ByteRange | None = None
    ) -> int:
        """Write what comes; the size then. Where `part` is given, the body must be exactly these bytes of the blob.

        What arrived before the body broke off is kept, and the client may go on from there. Raises UploadUnknown,
        UploadOutOfOrder, UploadInvalid, UploadBusy or DiskFull.
        """
        self.require_own(target)
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
        self.require_own(target)
        async with self._opened(target, upload_id) as upload:
            await self._receive(upload, body, part)
            await self._complete(target, upload, digest)
            return upload.size_bytes

    async def cancel(self, target: Target, upload_id: str) -> None:
        self.require_own(target)
        async with self._opened(target, upload_id) as upload:
            await upload.discard()

    async def mount(self, target: Target, digest: Digest, source: Target) -> bool:
        """Give the repository a blob that another one has. False where that one does not. Whether who asks may read it
        there is the caller's question."""
        await self._admit(target)
        mounted: bool = await self._with_room(
            self._pushed.mount_blob,
            target.repository,
            digest,
            source=source.repository,
            owner=source.owner,
            now=self._clock(),
        )
        return mounted

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
        try:
            await wait_out(upload.append(data))
        except DiskFull:
            rest = memoryview(data)[upload.size_bytes - before :]
            await self._room(len(rest))
            await wait_out(upload.append(rest))

    async def _complete(self, target: Target, upload: UploadBody, digest: Digest) -> None:
        actual = await wait_out(upload.digest(digest.algorithm))
        if actual != digest:
            await wait_out(upload.discard())
            raise DigestInvalid(f"what was pushed has the digest {actual}, and not {digest}; the upload is over")

        def record(boot_id: str) -> None:
            self._pushed.publish_blob(target.repository, digest, upload.size_bytes, boot_id=boot_id, now=self._clock())

        await wait_out(self._bodies.publish(upload, digest, record))
        await wait_out(upload.finished())

    # --- manifests ---------------------------------------------------------------------------------------------------

    async def put_manifest(self, target: Target, reference: Reference, body: bytes, media_type: str) -> PushedManifest:
        """Store a manifest as it came, under a tag or its digest.

        Raises ManifestRefused, DigestInvalid, ManifestBlobUnknown, TagImmutable, and what `begin` raises.
        """
        await self._admit(target)
        algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
        digest, manifest = await self._read(body, media_type, algorithm)
        if isinstance(reference, Digest) and digest != reference:
            raise DigestInvalid(f"the manifest has the digest {digest}, and not {reference}")
        tag = None if isinstance(reference, Digest) else reference
        pushed: PushedManifest = await self._with_room(
            self._pushed.put_manifest, target.repository, digest, body, manifest, tag=tag, now=self._clock()
        )
        self._happened(
            "PUSH",
            target.repository,
            digest,
            tag=tag,
            media_type=pushed.media_type,
            artifact_type=pushed.artifact_type,
        )
        return pushed

    async def _read(self, body: bytes, media_type: str, algorithm: str) -> tuple[Digest, Manifest]:
        def read() -> tuple[Digest, Manifest]:
            return digest_of(body, algorithm), parse_manifest(body, media_type)

        try:
            return await self._call_slow(read) if len(body) > _PARSE_IN_THREAD_BYTES else read()
        except ManifestInvalid as error:
            raise ManifestRefused(error.message) from error

    async def delete_manifest(self, target: Target, digest: Digest) -> DeletedImage:
        """Delete an image and its tags. Raises ManifestUnknown, StillReferenced, RepositoryUnknown or PushRefused."""
        self.require_own(target)
        await self._own.require(target.repository)
        deleted: DeletedImage = await self._with_room(
            self._pushed.delete_manifest, target.repository, digest, now=self._clock()
        )
        self._tell_deleted(target.repository, deleted)
        return deleted

    async def delete_tag(self, target: Target, tag: Tag) -> DeletedImage:
        """Delete a tag; its manifest stays, by its digest. Raises ManifestUnknown, RepositoryUnknown or PushRefused."""
        self.require_own(target)
        await self._own.require(target.repository)
        deleted: DeletedImage = await self._with_room(self._pushed.delete_tag, target.repository, tag)
        self._tell_deleted(target.repository, deleted)
        return deleted

    def _tell_deleted(self, repository: RepositoryName, deleted: DeletedImage) -> None:
        """An event for each tag, or one without."""
        for tag in deleted.tags or (None,):
            self._happened(
                "DELETE",
                repository,
                deleted.digest,
                tag=tag,
                media_type=deleted.media_type,
                artifact_type=deleted.artifact_type,
            )

    async def delete_blob(self, target: Target, digest: Digest) -> None:
        """Take a blob out of the repository. Raises BlobUnknown, StillReferenced, RepositoryUnknown or PushRefused."""
        self.require_own(target)
        await self._own.require(target.repository)
        await self._with_room(self._pushed.delete_blob, target.repository, digest)

    # --- tidying -----------------------------------------------------------------------------------------------------

    async def keep_tidy(self) -> None:
        """Remove abandoned uploads and blobs that nothing names, now and then; one worker at a time."""
        while True:
            try:
                if lock := self._locks.try_lock("tidy"):
                    with lock:
                        await self._tidy()
            except (StorageError, OSError) as error:
                _log.error("uploads and blobs that nobody wants could not be removed: %s", error)
            await asyncio.sleep(_TIDY_SECONDS)

    async def _tidy(self) -> None:
        now = self._clock()
        uploads = await self._uploads.remove_stale(now - STALE_SECONDS)
        blobs = await self._call_slow(
            self._pushed.collect_blobs, loose_since=now - LOOSE_SECONDS, in_use=self._in_use()
        )
        freed = await self._bodies.collect([blob.digest for blob in blobs])
        if uploads or blobs:
            _log.info(
                "removed %d files of abandoned uploads, and %d blobs (%d bytes) that no manifest names",
                len(uploads),
                len(blobs),
                sum(freed.values()),
            )

    # --- common ------------------------------------------------------------------------------------------------------

    def require_own(self, target: Target) -> None:
        if not target.is_own:
            raise PushRefused(
                f"{target.repository} is filled from {target.upstream} by the rule {target.rule.prefix!r}: nothing is "
                "pushed to it or deleted from it",
                hint="push to a name under no rule",
            )

    async def _admit(self, target: Target) -> None:
        self.require_own(target)
        if self._strict and not await self._call(self._pushed.may_create, target.repository):
            raise self._own.unknown(target.repository)

    async def _with_room(self, function: Callable[..., T], *args: object, **kwargs: object) -> T:
        """In a catalog thread; where the disk is full, once more after making room."""
        try:
            return await self._call(function, *args, **kwargs)
        except DiskFull:
            await self._room(ROW_BYTES)
            return await self._call(function, *args, **kwargs)
