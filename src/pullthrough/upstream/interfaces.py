"""What a cache asks of other registries, and what it is told: the seam between the engine and this package.

`HttpUpstreams` (`upstreams`) is the one that speaks HTTP; tests of the engine have one in memory. Both pass the same
suite, `tests/contracts/test_upstreams.py`.
"""

from __future__ import annotations

from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self

from pullthrough.declaration import Credential
from pullthrough.oci.digests import Digest
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import AbortHandle


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest's bytes as the upstream sent them, and the digest that they were checked against."""

    body: bytes
    #: Of Content-Type, without parameters; empty where there was none of use.
    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class ManifestHead:
    """What an upstream says about a manifest without sending it; None and empty for what it leaves out."""

    digest: Digest | None
    media_type: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class UpstreamHealth:
    """How an upstream is, for people and probes. Holds no secret."""

    upstream: str
    #: Whether it is asked at all now; True where nothing is known yet.
    healthy: bool
    #: The best of its endpoints.
    breaker: BreakerState
    #: Unix time; None where there is no pause.
    paused_until: float | None
    #: Requests left by the rate-limit headers; None where it sends none.
    remaining: int | None
    limit: int | None
    #: None where no credential was used yet.
    credential_ok: bool | None
    #: The last failure's message; empty after a success.
    last_error: str


@dataclass(frozen=True, slots=True)
class Turn:
    """Leave to ask one upstream small questions, one after the other. Given by `Upstream.turn`."""

    host: str


class BlobBody(Protocol):
    """A blob's bytes on their way. For one thread. Whoever got it closes it; `with` does."""

    @property
    def status(self) -> int:
        """200: the whole blob; 206: from `start`."""

    @property
    def start(self) -> int:
        """Offset of the first byte in the blob."""

    @property
    def total_bytes(self) -> int | None:
        """The whole blob's size, where the upstream says it."""

    @property
    def etag(self) -> str:
        """For a later If-Range; empty where there is no strong one."""

    def readinto(self, buffer: memoryview, /) -> int:
        """As many bytes as are there, waiting for the first of them only; 0 at the clean end.

        Raises UpstreamUnavailable where the body is cut, shorter than announced, stalls, or is aborted.
        """

    def close(self) -> None:
        """May be called again."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class Upstream(Protocol):
    """One other registry. The async methods belong to one event loop, `open_blob` to any thread.

    Every method raises UpstreamError: NotFound, Denied, Throttled, Unavailable, Refused or Invalid. `timeout`, in
    seconds, is for checks that stand before an answer: it bounds everything, allows one try, and waits for no pause.
    `turn` is for who has one already; all others wait for theirs.
    """

    @property
    def host(self) -> str: ...

    @property
    def threads(self) -> Executor:
        """For what blocks on this upstream: it can hold up nobody else's."""

    @property
    def shows_certificate(self) -> bool:
        """Whether it knows who asks by a client certificate, with an account or without."""

    @property
    def health(self) -> UpstreamHealth: ...

    # -- small questions

    def turn(self, *, patient: bool = True) -> AbstractAsyncContextManager[Turn]:
        """Leave to ask small questions while the block lasts. Whoever takes a lock for them takes it within, so that none
        is held in the queue.

        Raises UpstreamUnavailable at once while the breaker is open, or where too many wait already; UpstreamThrottled
        at once where a pause will last longer than the question may wait, which is not at all unless `patient`, and
        where none of the connections was free within queue_timeout.
        """

    async def fetch_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> FetchedManifest:
        """The manifest of a tag or digest, verified: its bytes hash to the digest asked for, or to the one that the
        upstream names for the tag. At most MAX_MANIFEST_BYTES."""

    async def head_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> ManifestHead:
        """What a tag or digest names now, as far as the upstream says it."""

    async def list_tags(
        self, repository: str, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[str, ...]:
        """All tags, each once, in the upstream's order. UpstreamInvalid past the bounds in `listings`, rather than a
        part."""

    async def fetch_referrers(
        self, repository: str, digest: Digest, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[dict[str, Any], ...]:
        """Descriptors of what refers to this digest; none where the upstream knows of none.

        Where the upstream lacks the referrers API, its `sha256-<hex>` tag is read instead.
        """

    async def find_blob(
        self, repository: str, digest: Digest, credential: Credential | None, *, wants_size: bool = False
    ) -> int | None:
        """The blob's size in bytes, None where the upstream does not say. UpstreamNotFound where it has none.

        `wants_size`: one request more is worth the size to the caller.
        """

    async def authenticate(self, credential: Credential | None, *, timeout: float) -> None:
        """Reach the registry and log in, without a question about any content; at most three requests.

        Returns where that works. Raises CredentialUnreadable where there is no secret to log in with, UpstreamDenied
        where it is refused; other errors as ever.
        """

    # -- bodies

    def errand(self) -> Errand:
        """For one blob that is wanted: `admit` and each `open_blob` for it share one, and have their own without."""

    def admits_at_once(self, repository: str) -> bool:
        """Whether `admit` would not wait."""

    def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AbstractAsyncContextManager[None]:
        """Leave to transfer one blob: `async with upstream.admit(...):` around the whole transfer.

        Waits for one of the upstream's connections for as long as that takes; clients and images have equal shares of
        them, and `behind` comes after all others; clients that join the `LINE` of this work bring the turns of theirs. Then
        for the end of a rate limit's pause, as long as the errand's patience lasts. Raises UpstreamThrottled at once where
        the pause is known to last longer, UpstreamUnavailable at once while the breaker is open, or where too many wait
        already.
        """

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
        """The blob's bytes from `start` up to, not including, `stop` (None: its end). Blocking; while admitted.

        `if_range` is a strong ETag of an earlier body: an upstream whose blob has another one answers the whole. The
        same may happen for any range: see the body's `status` and `start`. The caller closes the body.
        """


class Upstreams(Protocol):
    """All upstreams of a process."""

    def get(self, host: str) -> Upstream:
        """The upstream of this host (any of its names). Raises ConfigurationError for settings that cannot be used."""

    def health(self) -> tuple[UpstreamHealth, ...]:
        """Of every upstream that was asked for so far."""

    async def close(self) -> None:
        """End all questions and close all connections. Bodies that fills are reading are theirs to abort."""
