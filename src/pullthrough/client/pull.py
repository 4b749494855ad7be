"""Pull an image and verify every byte of it.

    resolve the reference -> pick the platform in the index, and in indexes within -> fetch config and layers

Bodies are hashed as they arrive and not kept. Nothing is retried: what fails here fails visibly. No credentials are
sent, and no proxy of the environment is used: this client is for a cache nearby.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from pullthrough.client.answers import refusal
from pullthrough.client.platforms import Platform, choose, parse_platform, this_machine
from pullthrough.client.reports import FetchReport, Part, ProgressEvent, PullReport, Stage, parse_source, plain_text
from pullthrough.errors import (
    ConfigurationError,
    DigestInvalid,
    DigestMismatch,
    ManifestInvalid,
    ManifestUnknown,
    PullthroughError,
    SizeMismatch,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnavailable,
)
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, parse_digest
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES, Descriptor, Manifest, parse_manifest
from pullthrough.oci.names import ImageReference, canonical_host

CONNECT_TIMEOUT_SECONDS = 10.0
#: Longer than an engine lets a cold pull wait for its turn (30 s) and for the upstream's first byte (15 s).
STALL_TIMEOUT_SECONDS = 60.0
#: Indexes within indexes; the deepest in use have one level.
_MAX_DEPTH = 4
_MAX_REDIRECTS = 5


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
    base = _parse_registry(registry)
    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=stall_timeout_seconds)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        # A body is verified as it travels; a transfer encoding that nobody asked for shows up as a wrong size.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "pullthrough"},
    ) as session:
        return await _Pull(session, base, image, wanted, progress, clock).run(concurrency)


def _parse_registry(registry: str) -> URL:
    try:
        url = URL(registry)
        wrong = url.scheme not in ("http", "https") or not url.host or url.path != "/" or url.query or url.user
    except ValueError:
        wrong = True
    if wrong:
        raise ConfigurationError(
            "the registry's address is not the URL of a host", hint="write it like http://127.0.0.1:5000"
        )
    return url


@dataclass(frozen=True, slots=True)
class _FetchedManifest:
    manifest: Manifest
    report: FetchReport


class _Pull:
    """One pull under way; its session belongs to the caller."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base: URL,
        image: ImageReference,
        platform: Platform,
        progress: Callable[[ProgressEvent], None] | None,
        clock: Callable[[], float],
    ) -> None:
        self._session = session
        self._base = base
        self._registry = base.authority
        self._image = image
        self._platform = platform
        self._progress = progress or (lambda event: None)
        self._clock = clock
        self._query = {"ns": image.host} if image.host and not self._is_registry(image.host) else {}

    def _is_registry(self, host: str) -> bool:
        default_port = ":443" if self._base.scheme == "https" else ":80"
        return canonical_host(host).removesuffix(default_port) == self._registry.lower().removesuffix(default_port)

    async def run(self, concurrency: int) -> PullReport:
        started = self._clock()
        top = await self._fetch_manifest(self._image.reference, size_bytes=None)
        path = [top]
        if top.manifest.is_index:
            path += await self._descend(top.manifest, depth=1)
        named = path[-1].manifest
        blobs = await self._fetch_blobs(named, concurrency)
        return PullReport(
            image=str(self._image),
            registry=str(self._base),
            platform=str(self._platform) if top.manifest.is_index else "",
            digest=top.report.digest,
            manifest_digest=path[-1].report.digest,
            manifests=tuple(fetched.report for fetched in path),
            blobs=tuple(blobs),
            seconds=self._clock() - started,
        )

    async def _descend(self, index: Manifest, *, depth: int) -> list[_FetchedManifest]:
        """The manifests from below `index` down to the platform's image."""
        found = await self._find(index, depth=depth)
        if not found:
            offered = sorted({child.platform for child in index.children if child.platform})
            raise ManifestUnknown(
                f"{self._image} has no image for {self._platform}"
                + (f"; it has {plain_text(', '.join(offered))}" if offered else "")
            )
        return found

    async def _find(self, index: Manifest, *, depth: int) -> list[_FetchedManifest]:
        if depth > _MAX_DEPTH:
            raise ManifestInvalid(f"{self._image} is an index with more than {_MAX_DEPTH} levels")
        child = choose(
            (child for child in index.children if child.media_type not in media_types.INDEXES), self._platform
        )
        if child is not None:
            return [await self._fetch_manifest(child.digest, size_bytes=child.size_bytes)]
        for child in index.children:
            if child.media_type in media_types.INDEXES:
                inner = await self._fetch_manifest(child.digest, size_bytes=child.size_bytes)
                found = await self._find(inner.manifest, depth=depth + 1)
                if found:
                    return [inner, *found]
        return []

    async def _fetch_manifest(self, reference: str, *, size_bytes: int | None) -> _FetchedManifest:
        """`size_bytes` is what an index said about it."""
        what = f"the manifest {self._image.repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"
        started = self._clock()
        async with self._get("manifests", reference, what, accept=media_types.ACCEPT) as response:
            first_byte_seconds = self._clock() - started
            body = await self._read_limited(response, what)
        seconds = self._clock() - started
        digest = self._verify_manifest(what, reference, body, response.headers.get("Docker-Content-Digest"))
        if size_bytes is not None and len(body) != size_bytes:
            raise SizeMismatch(f"{what} has {len(body)} bytes; its index says {size_bytes}")
        manifest = parse_manifest(body, response.headers.get("Content-Type", ""))
        return _FetchedManifest(
            manifest,
            FetchReport(
                part=Part.INDEX if manifest.is_index else Part.MANIFEST,
                digest=digest,
                size_bytes=len(body),
                seconds=seconds,
                first_byte_seconds=first_byte_seconds,
                source=parse_source(response.headers.get("X-Cache")),
            ),
        )

    def _verify_manifest(self, what: str, reference: str, body: bytes, stated: str | None) -> Digest:
        """The manifest's digest: the one asked for, else the one stated, else the body's own."""
        if isinstance(reference, Digest):
            expected = reference
        elif stated is not None:
            try:
                expected = parse_digest(stated)
            except DigestInvalid as error:
                raise UpstreamInvalid(
                    f"{self._registry} sent {what} with a Docker-Content-Digest that is none", upstream=self._registry
                ) from error
        else:
            return digest_of(body)
        actual = digest_of(body, expected.algorithm)
        if actual != expected:
            raise DigestMismatch(
                f"{what} is not what it should be: expected {expected}, got {actual}", expected=expected, actual=actual
            )
        return expected

    async def _read_limited(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_MANIFEST_BYTES:
                raise UpstreamInvalid(
                    f"{self._registry} sent more than {MAX_MANIFEST_BYTES:,} bytes for {what}", upstream=self._registry
                )
        return bytes(body)

    async def _fetch_blobs(self, manifest: Manifest, concurrency: int) -> Sequence[FetchReport]:
        """In the manifest's order. The first failure ends the others."""
        slots = asyncio.Semaphore(concurrency)

        async def fetch(blob: Descriptor) -> FetchReport:
            async with slots:
                return await self._fetch_blob(blob, Part.CONFIG if blob is manifest.config else Part.LAYER)

        try:
            async with asyncio.TaskGroup() as tasks:
                fetches = [tasks.create_task(fetch(blob)) for blob in manifest.blobs]
        except BaseExceptionGroup as group:
            for error in group.exceptions:
                if isinstance(error, PullthroughError):
                    raise error from error.__cause__
            raise
        return [done.result() for done in fetches]

    async def _fetch_blob(self, blob: Descriptor, part: Part) -> FetchReport:
        what = f"the {part} {blob.digest}"
        hasher, received = blob.digest.hasher(), 0
        started = self._clock()
        self._progress(ProgressEvent(Stage.STARTED, part, blob.digest, 0, blob.size_bytes))
        async with self._get("blobs", blob.digest, f"{what} of {self._image.repository}") as response:
            first_byte_seconds = self._clock() - started
            try:
                async for chunk in response.content.iter_any():
                    hasher.update(chunk)
                    received += len(chunk)
                    if received > blob.size_bytes:
                        raise SizeMismatch(
                            f"{self._registry} sent more than the {blob.size_bytes} bytes that {what} has"
                        )
                    self._progress(ProgressEvent(Stage.RECEIVED, part, blob.digest, received, blob.size_bytes))
            except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise SizeMismatch(
                    f"{self._registry} broke off after {received} of the {blob.size_bytes} bytes of {what}"
                ) from error
        if received != blob.size_bytes:
            raise SizeMismatch(f"{self._registry} sent {received} of the {blob.size_bytes} bytes of {what}")
        if not blob.digest.matches(hasher):
            actual = f"{blob.digest.algorithm}:{hasher.hexdigest()}"
            raise DigestMismatch(
                f"{self._registry} sent other bytes for {what}: they are {actual}", expected=blob.digest, actual=actual
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

    @asynccontextmanager
    async def _get(
        self, kind: str, reference: str, what: str, *, accept: str = "*/*"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 200, its body not read yet; everything else is raised."""
        url = self._base.joinpath("v2", *self._image.repository.split("/"), kind, reference).with_query(self._query)
        try:
            async with self._session.get(url, headers={"Accept": accept}, max_redirects=_MAX_REDIRECTS) as response:
                if response.status != 200:
                    raise refusal(
                        registry=self._registry,
                        what=what,
                        status=response.status,
                        body=await self._read_limited(response, what),
                        retry_after=response.headers.get("Retry-After"),
                    )
                yield response
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{self._registry} sent nothing for too long while asked for {what}", upstream=self._registry
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise UpstreamRefused(
                f"the certificate of {self._registry} is not one that this machine trusts",
                upstream=self._registry,
                hint="SSL_CERT_FILE=<its CA in a PEM file> makes it trusted",
            ) from error
        except aiohttp.ClientConnectorSSLError as error:
            raise UpstreamRefused(
                f"no TLS with {self._registry}",
                upstream=self._registry,
                hint="where it serves plain HTTP, write http:// instead of https://",
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnavailable(
                f"no connection to {self._registry}: {error.os_error.strerror or type(error.os_error).__name__}",
                upstream=self._registry,
                hint="is the engine running there? `pullthrough serve` starts one",
            ) from error
        except aiohttp.TooManyRedirects as error:
            raise UpstreamInvalid(
                f"{self._registry} redirects without end when asked for {what}", upstream=self._registry
            ) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise UpstreamUnavailable(
                f"{self._registry} broke the connection off while asked for {what}", upstream=self._registry
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamInvalid(
                f"{self._registry} gave no usable answer for {what} ({type(error).__name__})", upstream=self._registry
            ) from error
