"""Pull an image and verify every byte of it.

    resolve the reference -> pick the platform in the index, and in indexes within -> fetch config and layers

Bodies are hashed as they arrive and not kept. Nothing is retried: what fails here fails visibly. No credentials are
sent, and no proxy of the environment is used: this client is for a cache nearby.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import aiohttp

from pullthrough.client.platforms import Platform, choose, parse_platform, this_machine
from pullthrough.client.registry import STALL_TIMEOUT_SECONDS, PulledManifest, RegistryClient, open_registry
from pullthrough.client.reports import (
    FetchReport,
    ImagePart,
    ProgressEvent,
    PullReport,
    Stage,
    parse_source,
    plain_text,
)
from pullthrough.errors import DigestMismatch, ManifestInvalid, ManifestUnknown, PullthroughError, SizeMismatch
from pullthrough.oci import media_types
from pullthrough.oci.manifests import Descriptor, Manifest
from pullthrough.oci.names import ImageReference

#: Indexes within indexes; the deepest in use have one level.
_MAX_DEPTH = 4


async def pull_image(
    image: ImageReference,
    *,
    registry: str,
    platform: str | None = None,
    progress: Callable[[ProgressEvent], None] | None = None,
    concurrency: int = 4,
    stall_timeout_seconds: float = STALL_TIMEOUT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> PullReport:
    """Pull `image` from the registry at the URL `registry`; `concurrency` blobs at once.

    `platform` is `os/architecture[/variant]`, None is this machine's; it chooses in indexes, and an image that is not in
    one is pulled as it is. A host in the image that is not the registry's own is sent as containerd sends it to mirrors
    (`ns=<host>`). `progress` is called in the event loop.

    Raises PullthroughError: the registry's refusals as UpstreamError and RequestError, bytes that are too few, too many
    or wrong as SizeMismatch and DigestMismatch, and ConfigurationError for a bad `registry` or `platform`.
    """
    wanted = this_machine() if platform is None else parse_platform(platform)
    async with open_registry(
        registry, connections=concurrency, stall_timeout_seconds=stall_timeout_seconds, clock=clock
    ) as opened:
        return await _Pull(opened, image, wanted, progress, clock).run(concurrency)


class _Pull:
    """One pull under way."""

    def __init__(
        self,
        registry: RegistryClient,
        image: ImageReference,
        platform: Platform,
        progress: Callable[[ProgressEvent], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._image = image
        self._platform = platform
        self._progress = progress or (lambda event: None)
        self._clock = clock

    async def run(self, concurrency: int) -> PullReport:
        started = self._clock()
        top = await self._registry.fetch_manifest(self._image)
        path = [top]
        if top.manifest.is_index:
            path += await self._descend(top.manifest, depth=1)
        named = path[-1].manifest
        blobs = await self._fetch_blobs(named, concurrency)
        return PullReport(
            image=str(self._image),
            registry=str(self._registry),
            platform=str(self._platform) if top.manifest.is_index else "",
            digest=top.report.digest,
            manifest_digest=path[-1].report.digest,
            manifests=tuple(fetched.report for fetched in path),
            blobs=tuple(blobs),
            seconds=self._clock() - started,
        )

    async def _descend(self, index: Manifest, *, depth: int) -> list[PulledManifest]:
        """The manifests from below `index` down to the platform's image."""
        found = await self._find(index, depth=depth)
        if not found:
            offered = sorted({child.platform for child in index.children if child.platform})
            raise ManifestUnknown(
                f"{self._image} has no image for {self._platform}"
                + (f"; it has {plain_text(', '.join(offered))}" if offered else "")
            )
        return found

    async def _find(self, index: Manifest, *, depth: int) -> list[PulledManifest]:
        if depth > _MAX_DEPTH:
            raise ManifestInvalid(f"{self._image} is an index with more than {_MAX_DEPTH} levels")
        child = choose(
            (child for child in index.children if child.media_type not in media_types.INDEXES), self._platform
        )
        if child is not None:
            return [await self._registry.fetch_manifest(self._image, child.digest, size_bytes=child.size_bytes)]
        for child in index.children:
            if child.media_type in media_types.INDEXES:
                inner = await self._registry.fetch_manifest(self._image, child.digest, size_bytes=child.size_bytes)
                found = await self._find(inner.manifest, depth=depth + 1)
                if found:
                    return [inner, *found]
        return []

    async def _fetch_blobs(self, manifest: Manifest, concurrency: int) -> Sequence[FetchReport]:
        """In the manifest's order. The first failure ends the others."""
        slots = asyncio.Semaphore(concurrency)

        async def fetch(blob: Descriptor) -> FetchReport:
            async with slots:
                return await self._fetch_blob(blob, ImagePart.CONFIG if blob is manifest.config else ImagePart.LAYER)

        try:
            async with asyncio.TaskGroup() as tasks:
                fetches = [tasks.create_task(fetch(blob)) for blob in manifest.blobs]
        except BaseExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, PullthroughError):
                    raise error from error.__cause__
            raise
        return [done.result() for done in fetches]

    async def _fetch_blob(self, blob: Descriptor, part: ImagePart) -> FetchReport:
        what = f"the {part} {blob.digest}"
        hasher, received = blob.digest.hasher(), 0
        started = self._clock()
        self._progress(ProgressEvent(Stage.STARTED, part, blob.digest, 0, blob.size_bytes))
        what_there = f"{what} of {self._image.repository}"
        async with self._registry.get(self._image, "blobs", blob.digest, what_there) as response:
            first_byte_seconds = self._clock() - started
            try:
                async for chunk in response.content.iter_any():
                    hasher.update(chunk)
                    received += len(chunk)
                    if received > blob.size_bytes:
                        raise SizeMismatch(
                            f"{self._registry.host} sent more than the {blob.size_bytes} bytes that {what} has"
                        )
                    self._progress(ProgressEvent(Stage.RECEIVED, part, blob.digest, received, blob.size_bytes))
            except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise SizeMismatch(
                    f"{self._registry.host} broke off after {received} of the {blob.size_bytes} bytes of {what}"
                ) from error
        if received != blob.size_bytes:
            raise SizeMismatch(f"{self._registry.host} sent {received} of the {blob.size_bytes} bytes of {what}")
        if not blob.digest.matches(hasher):
            actual = f"{blob.digest.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(
                f"{self._registry.host} sent other bytes for {what}: they are {actual}",
                expected=blob.digest,
                actual=actual,
            )
        self._progress(ProgressEvent(Stage.FINISHED, part, blob.digest, received, blob.size_bytes))
        return FetchReport(
            part=part,
            digest=blob.digest,
            size_bytes=received,
            seconds=self._clock() - started,
            first_byte_seconds=first_byte_seconds,
            source=parse_source(response.headers.get("X-Cache")),
        )
