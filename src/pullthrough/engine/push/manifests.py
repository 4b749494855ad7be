"""Manifests that clients push and delete. One is taken when its repository has all that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.rules import Target
from pullthrough.errors import DigestInvalid, ManifestInvalid, ManifestRefused
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.manifests import Manifest, parse_manifest
from pullthrough.oci.names import Reference, RepositoryName, Tag
from pullthrough.storage.catalog.pushed import DeletedImage, Pushed, PushedManifest
from pullthrough.threads import Runner

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


class ManifestPushes:
    """One worker's side. `call` is the catalog's threads, `call_slow` those for bodies."""

    def __init__(
        self,
        *,
        admission: PushAdmission,
        pushed: Pushed,
        call: Runner,
        call_slow: Runner,
        happened: Happened,
        clock: Callable[[], float],
    ) -> None:
        self._admission = admission
        self._pushed = pushed
        self._call = call
        self._call_slow = call_slow
        self._happened = happened
        self._clock = clock

    async def put_manifest(self, target: Target, reference: Reference, body: bytes, media_type: str) -> PushedManifest:
        """Store a manifest as it came, under a tag or its digest.

        Raises ManifestRefused, DigestInvalid, ManifestBlobUnknown, TagImmutable, and what `begin` raises.
        """
        await self._admission.admit(target)
        algorithm = reference.algorithm if isinstance(reference, Digest) else "sha256"
        digest, manifest = await self._read(body, media_type, algorithm)
        if isinstance(reference, Digest) and digest != reference:
            raise DigestInvalid(f"the manifest has the digest {digest}, and not {reference}")
        tag = None if isinstance(reference, Digest) else reference
        pushed = await self._admission.write(
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
        await self._admission.require_there(target)
        deleted = await self._admission.write(
            self._pushed.delete_manifest, target.repository, digest, now=self._clock()
        )
        self._tell_deleted(target.repository, deleted)
        return deleted

    async def delete_tag(self, target: Target, tag: Tag) -> DeletedImage:
        """Delete a tag; its manifest stays, by its digest. Raises ManifestUnknown, RepositoryUnknown or PushRefused."""
        await self._admission.require_there(target)
        deleted = await self._admission.write(self._pushed.delete_tag, target.repository, tag)
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
