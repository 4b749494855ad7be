"""Upstreams in memory, for tests of the engine: no socket, and what is asked of them is written down.

They keep the promises of `pullthrough.upstream.interfaces`, as `tests/contracts/upstreams.py` has them; a test that wants
one to fail, to hang or to send something else overrides the method that does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from pullthrough.declaration import Credential
from pullthrough.demo.images import Image, StoredManifest
from pullthrough.errors import UpstreamNotFound
from pullthrough.fairness.gate import LINE, Gate
from pullthrough.fairness.queue import FairQueue
from pullthrough.oci.digests import Digest, is_digest
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import BlobBody, FetchedManifest, ManifestHead, Turn, Upstream, UpstreamHealth

#: Of questions and bodies each, at once.
CONNECTIONS = 8


@dataclass
class MemoryBody:
    status: int
    start: int
    total_bytes: int | None
    data: bytes
    etag: str = ""

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self.data))
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def close(self) -> None:
        self.data = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class MemoryUpstream:
    """Has what was put in, and fails with `fault` while there is one."""

    host: str = "r.example"
    shows_certificate: bool = False
    fault: Exception | None = None
    #: `GET app latest`, one a question; what is only waited for is not among them.
    asked: list[str] = field(default_factory=list)
    threads: Executor = field(default_factory=lambda: ThreadPoolExecutor(2, "memory-upstream"))

    def __post_init__(self) -> None:
        self._manifests: dict[tuple[str, str], StoredManifest] = {}
        self._tags: dict[str, dict[str, None]] = {}
        self._blobs: dict[tuple[str, Digest], bytes] = {}
        self._bodies, self._questions = Gate(FairQueue(CONNECTIONS)), Gate(FairQueue(CONNECTIONS))
        self._last_error = ""

    def add(self, repository: str, image: Image, *tags: str) -> None:
        """The image with all that it names."""
        for manifest in image.all_manifests():
            self._manifests[repository, manifest.digest] = manifest
        for blob in image.all_blobs():
            assert isinstance(blob.body, bytes)
            self._blobs[repository, blob.digest] = blob.body
        known = self._tags.setdefault(repository, {})
        for tag in tags:
            known[tag] = None
            self._manifests[repository, tag] = image.manifest

    @property
    def health(self) -> UpstreamHealth:
        return UpstreamHealth(
            upstream=self.host,
            healthy=True,
            breaker=BreakerState.CLOSED,
            paused_until=None,
            remaining=None,
            limit=None,
            credential_ok=None,
            last_error=self._last_error,
        )

    # -- small questions

    @asynccontextmanager
    async def turn(self, *, patient: bool = True) -> AsyncIterator[Turn]:
        async with self._questions.hold("all", line=LINE.get()):
            yield Turn(self.host)

    async def fetch_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> FetchedManifest:
        found = await self._find("GET", repository, reference, turn)
        return FetchedManifest(found.body, found.media_type, found.digest)

    async def head_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> ManifestHead:
        found = await self._find("HEAD", repository, reference, turn)
        return ManifestHead(found.digest, found.media_type, len(found.body))

    async def list_tags(
        self, repository: str, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[str, ...]:
        self._ask(f"GET {repository} tags")
        if repository not in self._tags:
            raise self._missing(f"{repository}'s tags")
        return tuple(self._tags[repository])

    async def fetch_referrers(
        self, repository: str, digest: Digest, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[dict[str, Any], ...]:
        self._ask(f"GET {repository} referrers of {digest}")
        return tuple(
            {"mediaType": found.media_type, "digest": str(found.digest), "size": len(found.body)}
            | ({"artifactType": found.artifact_type} if found.artifact_type else {})
            | ({"annotations": dict(found.annotations)} if found.annotations else {})
            for (where, reference), found in self._manifests.items()
            if where == repository and found.subject == digest and is_digest(reference)
        )

    async def find_blob(
        self, repository: str, digest: Digest, credential: Credential | None, *, wants_size: bool = False
    ) -> int | None:
        self._ask(f"HEAD {repository} {digest}")
        return len(self._body_of(repository, digest))

    async def authenticate(self, credential: Credential | None, *, timeout: float) -> None:
        self._ask("GET a login")

    # -- bodies

    def errand(self) -> Errand:
        return Errand(30.0)

    def admits_at_once(self, repository: str) -> bool:
        return self._bodies.is_open(repository)

    @asynccontextmanager
    async def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AsyncIterator[None]:
        async with self._bodies.hold(repository, behind=behind, line=LINE.get()):
            yield

    def open_blob(
        self,
        repository: str,
        digest: Digest,
        credential: Credential | None,
        *,
        start: int = 0,
        stop: int | None = None,
        if_range: str = "",
        errand: Errand | None = None,
        abort: AbortHandle,
    ) -> BlobBody:
        abort.check(self.host)
        self._ask(f"GET {repository} {digest}")
        body, etag = self._body_of(repository, digest), f'"{digest}"'
        if if_range not in ("", etag):
            start, stop = 0, None
        status = 206 if start or stop is not None else 200
        return MemoryBody(status, start, len(body), body[start:stop], etag)

    # -- what there is

    def _ask(self, question: str) -> None:
        self.asked.append(question)
        self._last_error = str(self.fault or "")
        if self.fault is not None:
            raise self.fault

    async def _find(self, method: str, repository: str, reference: str, turn: Turn | None) -> StoredManifest:
        assert turn is None or turn.host == self.host
        self._ask(f"{method} {repository} {reference}")
        found = self._manifests.get((repository, reference))
        if found is None:
            raise self._missing(f"{repository} {reference}")
        return found

    def _body_of(self, repository: str, digest: Digest) -> bytes:
        body = self._blobs.get((repository, digest))
        if body is None:
            raise self._missing(f"{repository} {digest}")
        return body

    def _missing(self, what: str) -> UpstreamNotFound:
        return UpstreamNotFound(f"{self.host} does not have {what}", upstream=self.host, status=404)


class MemoryUpstreams:
    """`by_host` are those that are there already; others are made, empty, when they are first asked for."""

    def __init__(self, *by_host: Upstream) -> None:
        self._upstreams = {upstream.host: upstream for upstream in by_host}

    def get(self, host: str) -> Upstream:
        return self._upstreams.setdefault(host, MemoryUpstream(host))

    def health(self) -> tuple[UpstreamHealth, ...]:
        return tuple(upstream.health for upstream in self._upstreams.values())

    async def close(self) -> None:
        for upstream in self._upstreams.values():
            upstream.threads.shutdown()
        await asyncio.sleep(0)
