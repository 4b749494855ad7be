"""One other registry: the questions that a cache asks it.

What a question costs in requests is in `exchanges`, retries are in `endpoints`; here stand the questions themselves, the
rate limit's pauses, and the queues. 429 is never retried blindly: the time that the upstream orders is waited, as often as
it fits into what is left of queue_timeout.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from pullthrough.asker import ASKER
from pullthrough.declaration import Credential
from pullthrough.errors import (
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.fairness.gate import LINE, Gate
from pullthrough.fairness.queue import QueueFull, thresholds
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, is_digest, parse_digest
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from pullthrough.settings import UpstreamSettings
from pullthrough.upstream import answers, listings
from pullthrough.upstream.abort import Aborted, AbortHandle
from pullthrough.upstream.blobs import BlobBody, blob_body, named_size
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.budget import Budget
from pullthrough.upstream.endpoints import Endpoints
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.exchanges import Call, Exchanges
from pullthrough.upstream.transport import Response

#: Of the answer to `GET /v2/`, which is `{}` or nothing.
MAX_ROOT_BYTES = 64 * 1024
#: For all pages of a listing together.
LISTING_SECONDS = 120.0

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.ASCII)
_MAX_MEDIA_TYPE_LENGTH = 255
#: One client has at most so many times the slots that are free: seven of eight, while nobody else wants any. Of fewer
#: slots than that it has all but one.
_CLIENT_RATIO = 6.0
#: One image likewise, five of eight: clients pull three layers at once (docker, containerd), or six (skopeo, podman).
_IMAGE_RATIO = 1.5
#: How long an upstream that answers GET of a blob, and HEAD not, is asked by GET at once.
_NO_HEAD_SECONDS = 3600.0
#: What registries without the referrers API answer for it.
_NO_REFERRERS = frozenset({400, 404, 405, 406, 501})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FetchedManifest:
    """A manifest's bytes as the upstream sent them, and the digest that they were checked against."""

    body: bytes
    #: Of Content-Type, without parameters; empty where there was none of use.
    media_type: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class HeadManifest:
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


class Turn:
    """Leave to ask one upstream small questions, one after the other. Made by `Upstream.turn`."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream


class Upstream:
    """The async methods belong to one event loop, `open_blob` to any thread. Made by `Upstreams.get`.

    Every method raises UpstreamError: NotFound, Denied, Throttled, Unavailable, Refused or Invalid. `timeout`, in
    seconds, is for checks that stand before an answer: it bounds everything, allows one try, and waits for no pause.
    `turn` is for who has one already; all others wait for theirs.
    """

    def __init__(
        self,
        host: str,
        settings: UpstreamSettings,
        endpoints: Endpoints,
        exchanges: Exchanges,
        budget: Budget,
        *,
        threads: Executor,
        track: Callable[[AbortHandle], None],
        sleep: Callable[[float], Awaitable[None]],
        pause: Callable[[AbortHandle, float], object],
        monotonic: Callable[[], float],
    ) -> None:
        self.host = host
        #: For what blocks on this upstream: it can hold up nobody else's.
        self.threads = threads
        self._settings = settings
        self._endpoints = endpoints
        self._exchanges = exchanges
        self._budget = budget
        self._track = track
        self._sleep = sleep
        self._pause = pause
        self._monotonic = monotonic
        of_a_client = min(_CLIENT_RATIO, settings.connections - 1)
        #: By client and repository.
        self._blobs = Gate(settings.connections, thresholds(of_a_client, _IMAGE_RATIO))
        # By client. Small questions shall not wait behind bodies that take minutes.
        self._questions = Gate(settings.connections, thresholds(of_a_client))
        self._heads_no_blobs_until = float("-inf")
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- questions

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
        call = Call(
            "GET",
            f"/v2/{repository}/manifests/{reference}",
            repository,
            f"{repository} {reference}",
            credential,
            {"Accept": media_types.ACCEPT},
        )

        def read(response: Response) -> FetchedManifest:
            body = self._read_document(response, MAX_MANIFEST_BYTES, "a manifest")
            named = _named_digest(response)
            expected = parse_digest(reference) if is_digest(reference) else named
            digest = digest_of(body, expected.algorithm) if expected is not None else digest_of(body)
            if expected is not None and digest != expected:
                raise UpstreamInvalid(
                    f"{self.host} sent a manifest for {repository} {reference} that is not the one it should be: "
                    f"expected {expected}, got {digest}",
                    upstream=self.host,
                )
            return FetchedManifest(body, _media_type(response), digest)

        return await self._question(call, read, timeout, turn)

    async def head_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> HeadManifest:
        """What a tag or digest names now, as far as the upstream says it."""
        call = Call(
            "HEAD",
            f"/v2/{repository}/manifests/{reference}",
            repository,
            f"{repository} {reference}",
            credential,
            {"Accept": media_types.ACCEPT},
        )

        def read(response: Response) -> HeadManifest:
            self._refuse_html(response, b"")
            return HeadManifest(_named_digest(response), _media_type(response), response.content_length)

        return await self._question(call, read, timeout, turn)

    async def find_blob(
        self, repository: str, digest: Digest, credential: Credential | None, *, wants_size: bool = False
    ) -> int | None:
        """The blob's size in bytes, None where the upstream does not say. UpstreamNotFound where it has none.

        By HEAD, and by a GET of its first byte where HEAD is not answered: ECR Public answers 401 to each, others 405, and
        storage that a redirect is signed for takes GET only. Also where `wants_size` and HEAD names none. Never after 429,
        5xx or silence, which say nothing of the blob.
        """
        async with self.turn() as turn:
            if self._monotonic() >= self._heads_no_blobs_until:
                try:
                    size = await self._head_blob(repository, digest, credential, turn)
                    if size is not None or not wants_size:
                        return size
                except (UpstreamNotFound, UpstreamDenied, UpstreamInvalid) as error:
                    if not _is_about_the_method(error.status):
                        raise
                    size = await self._first_byte(repository, digest, credential, turn)
                    if error.status != 404:  # some proxies know only of what was fetched through them
                        self._heads_no_blobs_until = self._monotonic() + _NO_HEAD_SECONDS
                    return size
            return await self._first_byte(repository, digest, credential, turn)

    async def _head_blob(
        self, repository: str, digest: Digest, credential: Credential | None, turn: Turn
    ) -> int | None:
        path, what = f"/v2/{repository}/blobs/{digest}", f"{repository} {digest}"
        call = Call("HEAD", path, repository, what, credential, is_often_refused=True)

        def read(response: Response) -> int | None:
            self._refuse_html(response, b"")
            return response.content_length

        size = await self._question(call, read, turn=turn)
        # Proxies that know nothing of HEAD answer it with a length of 0.
        return size if size or digest == digest_of(b"", digest.algorithm) else None

    async def _first_byte(
        self, repository: str, digest: Digest, credential: Credential | None, turn: Turn
    ) -> int | None:
        call = Call(
            "GET",
            f"/v2/{repository}/blobs/{digest}",
            repository,
            f"{repository} {digest}",
            credential,
            {"Accept": "*/*", "Range": "bytes=0-0"},
            accepted=frozenset({416}),  # of an empty blob there is no first byte
            is_body=True,
        )

        def read(response: Response) -> int | None:
            size = named_size(response)
            if response.status == 200:
                response.close()  # the whole of it is on its way
            else:
                response.discard()
            return size

        return await self._question(call, read, turn=turn)

    async def list_tags(
        self, repository: str, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[str, ...]:
        """All tags, each once, in the upstream's order. UpstreamInvalid past the bounds in `listings`, rather than a
        part."""
        tags: dict[str, None] = {}
        taken_bytes = 0

        def take(body: bytes) -> None:
            nonlocal taken_bytes
            taken_bytes += len(body)
            tags.update(dict.fromkeys(listings.parse_tags(body)))
            if len(tags) > listings.MAX_TAGS or taken_bytes > listings.MAX_TAG_BYTES:
                raise ValueError(f"it is longer than {listings.MAX_TAGS:,} tags or {listings.MAX_TAG_BYTES:,} bytes")

        call = Call("GET", f"/v2/{repository}/tags/list", repository, f"{repository}'s tags", credential)
        query = urlencode({"n": listings.TAGS_A_PAGE})
        async with self._listing():
            await self._pages(
                call, query, take, turn, max_pages=listings.MAX_TAG_PAGES, max_bytes=listings.MAX_TAG_BYTES
            )
        return tuple(tags)

    async def fetch_referrers(
        self, repository: str, digest: Digest, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[dict[str, Any], ...]:
        """Descriptors of what refers to this digest; none where the upstream knows of none.

        Where the upstream lacks the referrers API, its `sha256-<hex>` tag is read instead.
        """
        found: list[dict[str, Any]] = []
        taken_bytes = 0

        def take(body: bytes) -> None:
            nonlocal taken_bytes
            taken_bytes += len(body)
            found.extend(listings.parse_referrers(body))
            if len(found) > listings.MAX_REFERRERS or taken_bytes > listings.MAX_REFERRER_BYTES:
                raise ValueError(
                    f"it is longer than {listings.MAX_REFERRERS:,} entries or {listings.MAX_REFERRER_BYTES:,} bytes"
                )

        call = Call(
            "GET",
            f"/v2/{repository}/referrers/{digest}",
            repository,
            f"the referrers of {repository} {digest}",
            credential,
            {"Accept": media_types.OCI_INDEX},
            accepted=_NO_REFERRERS,
        )
        async with self._listing():
            if not await self._pages(
                call,
                "",
                take,
                turn,
                max_pages=listings.MAX_REFERRER_PAGES,
                max_bytes=listings.MAX_REFERRER_PAGE_BYTES,
            ):
                try:
                    tag = listings.fallback_tag(digest)
                    index = await self.fetch_manifest(repository, tag, credential, turn=turn)
                except UpstreamNotFound:
                    return ()
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self.threads, self._take_page, call, take, index.body)
        return tuple(found)

    async def authenticate(self, credential: Credential | None, *, timeout: float) -> None:
        """Reach the registry and log in, without a question about any content; at most three requests.

        Returns where that works. Raises CredentialUnreadable where there is no secret to log in with, UpstreamDenied
        where it is refused; other errors as ever.
        """
        call = Call("GET", "/v2/", "", "a login", credential, tries_login=True)

        def read(response: Response) -> None:
            if response.status < 400:
                self._read_document(response, MAX_ROOT_BYTES, "an answer to /v2/")
            else:
                response.discard()

        await self._question(call, read, timeout)

    # -- blobs

    def errand(self) -> Errand:
        """For one blob that is wanted: `admit` and each `open_blob` for it share one, and have their own without."""
        return Errand(self._settings.queue_timeout_seconds)

    def admits_at_once(self, repository: str) -> bool:
        """Whether `admit` would not wait."""
        return not self._budget.paused_seconds and self._blobs.is_open(ASKER.get(), repository)

    @asynccontextmanager
    async def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AsyncIterator[None]:
        """Leave to transfer one blob: `async with upstream.admit(...):` around the whole transfer.

        Waits for one of the upstream's connections for as long as that takes; clients and images have equal shares of
        them, and `behind` comes after all others; clients that join the `LINE` of this work bring the turns of theirs. Then
        for the end of a rate limit's pause, as long as the errand's patience lasts. Raises UpstreamThrottled at once where
        the pause is known to last longer, UpstreamUnavailable at once while the breaker is open, or where too many wait
        already.
        """
        errand = errand or self.errand()
        self._meet_loop()
        self._endpoints.refuse_if_open()
        self._refuse_if_paused(errand.patience_seconds)
        async with self._entered(self._blobs, ASKER.get(), repository, behind=behind):
            await self._wait_out_pause(errand)
            self._endpoints.refuse_if_open()
            yield

    def open_blob(
        self,
        repository: str,
        digest: str,
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
        errand = errand or self.errand()
        headers = {"Accept": "*/*"}
        if start or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if if_range:
                headers["If-Range"] = if_range
        path = f"/v2/{repository}/blobs/{digest}"
        call = Call("GET", path, repository, f"{repository} {digest}", credential, headers, is_body=True)

        def read(response: Response) -> BlobBody:
            return blob_body(response, start=start, stop=stop)

        while True:
            if seconds := self._budget.paused_seconds:
                if not errand.spend(seconds):
                    raise self._paused(seconds)
                self._rest(abort, seconds)
            try:
                return self._endpoints.ask(call, read, self._settings.retries, errand, abort)
            except UpstreamThrottled as error:
                # What it orders is spent, also where that is over already: a refusal may be slow.
                if not errand.spend(error.retry_after_seconds):
                    raise
                self._rest(abort, self._budget.paused_seconds)

    def _rest(self, abort: AbortHandle, seconds: float) -> None:
        self._pause(abort, seconds)
        abort.check(self.host)

    # -- state

    @property
    def shows_certificate(self) -> bool:
        """Whether it knows who asks by a client certificate, with an account or without."""
        return self._settings.client_cert is not None

    @property
    def health(self) -> UpstreamHealth:
        state = self._endpoints.state
        return UpstreamHealth(
            upstream=self.host,
            healthy=state is BreakerState.CLOSED,
            breaker=state,
            paused_until=self._budget.paused_until,
            remaining=self._budget.remaining,
            limit=self._budget.limit,
            credential_ok=self._exchanges.credential_ok,
            last_error=self._endpoints.last_error,
        )

    def pause_began(self) -> None:
        """The budget was paused: who waits for a connection need not wait for the bad news. Any thread."""
        seconds = self._budget.paused_seconds
        if seconds <= self._settings.queue_timeout_seconds or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._refuse_waiting)
        except RuntimeError:
            pass  # the loop has ended, and who waited with it

    def _refuse_waiting(self) -> None:
        for gate in (self._blobs, self._questions):
            gate.refuse(lambda: self._paused(self._budget.paused_seconds))

    # -- asking, from the event loop

    @asynccontextmanager
    async def turn(self, *, patient: bool = True) -> AsyncIterator[Turn]:
        """Leave to ask small questions while the block lasts. Whoever takes a lock for them takes it within, so that none
        is held in the queue.

        Raises UpstreamUnavailable at once while the breaker is open, or where too many wait already; UpstreamThrottled
        at once where a pause will last longer than the question may wait, which is not at all unless `patient`, and
        where none of the connections was free within queue_timeout.
        """
        self._meet_loop()
        self._endpoints.refuse_if_open()
        seconds = self._settings.queue_timeout_seconds
        self._refuse_if_paused(seconds if patient else 0.0)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(seconds):
                    await stack.enter_async_context(self._entered(self._questions, ASKER.get()))
            except TimeoutError as error:
                raise UpstreamThrottled(
                    f"no connection for questions to {self.host} came free for this client in {seconds:g} s",
                    upstream=self.host,
                    retry_after_seconds=1.0,
                    hint="It answers slowly, or `connections` in [upstreams] is too low for what is asked of it.",
                ) from error
            yield Turn(self)

    @asynccontextmanager
    async def _entered(self, gate: Gate, *shares: str, behind: bool = False) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(gate.hold(*shares, behind=behind, line=LINE.get()))
            except QueueFull:
                raise UpstreamUnavailable(
                    f"too many requests wait for {self.host} already", upstream=self.host, hint="Try again in a moment."
                ) from None
            yield

    async def _question(
        self, call: Call, read: Callable[[Response], _T], timeout: float | None = None, turn: Turn | None = None
    ) -> _T:
        assert turn is None or turn.upstream is self
        errand = Errand(0.0 if timeout is not None else self._settings.queue_timeout_seconds)
        retries = 0 if timeout is not None else self._settings.retries
        limit = asyncio.timeout(timeout)
        try:
            async with limit, AsyncExitStack() as stack:
                if turn is None:
                    await stack.enter_async_context(self.turn(patient=timeout is None))
                while True:
                    await self._wait_out_pause(errand)
                    try:
                        return await self._in_thread(
                            lambda abort: self._endpoints.ask(call, read, retries, errand, abort), limit
                        )
                    except UpstreamThrottled as error:
                        # What it orders is spent, also where that is over already: a refusal may be slow.
                        if not errand.spend(error.retry_after_seconds):
                            raise
                        await self._sleep(self._budget.paused_seconds)
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{self.host} did not answer for {call.what} within {timeout:g} s", upstream=self.host
            ) from error

    async def _in_thread(self, work: Callable[[AbortHandle], _T], limit: asyncio.Timeout) -> _T:
        abort = AbortHandle()
        self._track(abort)
        abort.check(self.host)
        future = asyncio.get_running_loop().run_in_executor(self.threads, self._run, work, abort)
        try:
            # Not the future itself: a thread cannot be cancelled, it has to be told and then ends by itself.
            await asyncio.wait({future})
        except asyncio.CancelledError:
            if limit.expired():
                abort.expire()
            else:
                abort.abort()
            # Its end is not awaited, but its error is not lost either: the loop would complain.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        if future.cancelled():  # the threads were closed before its turn came
            raise Aborted(upstream=self.host, expired=False)
        return future.result()

    def _run(self, work: Callable[[AbortHandle], _T], abort: AbortHandle) -> _T:
        abort.check(self.host)
        return work(abort)

    @asynccontextmanager
    async def _listing(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(LISTING_SECONDS):
                yield
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{self.host} took longer than {LISTING_SECONDS:g} s for a list", upstream=self.host
            ) from error

    async def _pages(
        self,
        call: Call,
        query: str,
        take: Callable[[bytes], None],
        turn: Turn | None,
        *,
        max_pages: int,
        max_bytes: int,
    ) -> bool:
        """Give `take`, in the thread that reads it, the body of each page; it raises ValueError for one that cannot be
        used. False where the first answer is a status of `call.accepted`, or no JSON while there is such a status: the
        upstream does not know this kind of list."""

        def read(response: Response) -> str | None:
            if response.status in call.accepted:
                response.discard()
                return None
            if call.accepted and "json" not in response.media_type:
                response.close()
                return None
            following = listings.next_query(response.headers_of("Link"))
            self._take_page(call, take, self._read_document(response, max_bytes, call.what))
            return following

        seen = {query}
        for _ in range(max_pages):
            page = Call(
                call.method,
                f"{call.path}?{query}" if query else call.path,
                call.repository,
                call.what,
                call.credential,
                call.headers,
                call.accepted,
            )
            following = await self._question(page, read, turn=turn)
            if following is None:
                return False
            if not following:
                return True
            if following in seen:
                raise self._bad_listing(call, "its pages go round in a circle")
            query = following
            seen.add(query)
        raise self._bad_listing(call, f"it has more than {max_pages:,} pages")

    def _take_page(self, call: Call, take: Callable[[bytes], None], body: bytes) -> None:
        try:
            take(body)
        except ValueError as error:
            raise self._bad_listing(call, str(error)) from error

    # -- reading

    def _read_document(self, response: Response, limit: int, what: str) -> bytes:
        """A JSON body, unparsed. Raises UpstreamInvalid for web pages and for compressed bodies, which nobody asked
        for, and whose digest would not be the one of what is inside."""
        encoding = response.header("Content-Encoding").strip().lower()
        if encoding not in ("", "identity"):
            raise UpstreamInvalid(
                f"{response.url.authority} sent {what} compressed ({encoding[:40]}), though it was asked not to",
                upstream=self.host,
                hint="A proxy between this machine and the registry may do that.",
            )
        body = response.read(limit, what)
        self._refuse_html(response, body)
        return body

    def _refuse_html(self, response: Response, body: bytes) -> None:
        if answers.is_html(response.media_type, body):
            raise UpstreamInvalid(
                f"{response.url.authority} answered with a web page where a registry's answer should be",
                upstream=self.host,
                status=response.status,
                hint=answers.HTML_HINT,
            )

    def _bad_listing(self, call: Call, why: str) -> UpstreamInvalid:
        return UpstreamInvalid(
            f"{self.host} sent a list for {call.what} that cannot be used: {why}", upstream=self.host
        )

    # -- when it is not asked

    def _refuse_if_paused(self, patience_seconds: float) -> None:
        seconds = self._budget.paused_seconds
        if seconds > patience_seconds:
            raise self._paused(seconds)

    def _paused(self, seconds: float) -> UpstreamThrottled:
        return UpstreamThrottled(
            f"{self.host} limits the rate of requests and is not asked for {seconds:.0f} s more",
            upstream=self.host,
            retry_after_seconds=seconds,
            hint="A credential of one's own often has a higher limit.",
        )

    async def _wait_out_pause(self, errand: Errand) -> None:
        while seconds := self._budget.paused_seconds:
            if not errand.spend(seconds):
                raise self._paused(seconds)
            await self._sleep(seconds)

    def _meet_loop(self) -> None:
        self._loop = asyncio.get_running_loop()


def _named_digest(response: Response) -> Digest | None:
    """Docker-Content-Digest where it is a digest; registries may leave it out."""
    text = response.header("Docker-Content-Digest").strip()
    return parse_digest(text) if is_digest(text) else None


def _media_type(response: Response) -> str:
    text = response.media_type
    return text if len(text) <= _MAX_MEDIA_TYPE_LENGTH and _MEDIA_TYPE.fullmatch(text) else ""


def _is_about_the_method(status: int | None) -> bool:
    """Whether this answer to HEAD may be another one to GET: 4xx, and 501 for a method that the server does not know."""
    return status is not None and (400 <= status < 500 or status == 501)
