"""One other registry, asked over HTTP.

What a question is stands in `manifests`, `blobs` and `listings`; what it costs in requests in `exchanges`; retries in
`endpoints`. Here it waits for its turn, runs in a thread, and is asked again after a pause. 429 is never retried blindly: the
time that the upstream orders is waited, as often as it fits into what is left of queue_timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from pullthrough.declaration import Credential
from pullthrough.errors import (
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import Digest
from pullthrough.settings import UpstreamSettings
from pullthrough.upstream import blobs, manifests
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.endpoints import Endpoints
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import Aborted, AbortHandle
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.interfaces import BlobBody, FetchedManifest, ManifestHead, Turn, UpstreamHealth
from pullthrough.upstream.listings import ReferrerList, TagList, fallback_tag
from pullthrough.upstream.login.answers import read_document
from pullthrough.upstream.login.budget import Budget
from pullthrough.upstream.login.exchanges import Exchanges, RegistryCall
from pullthrough.upstream.queues import Queues

#: Of the answer to `GET /v2/`, which is `{}` or nothing.
MAX_ROOT_BYTES = 64 * 1024
#: For all pages of a listing together.
LISTING_SECONDS = 120.0
#: How long an upstream that answers GET of a blob, and HEAD not, is asked by GET at once.
_NO_HEAD_SECONDS = 3600.0
T = TypeVar("T")


class HttpUpstream:
    """An `Upstream`. Made by `HttpUpstreams.get`."""

    def __init__(
        self,
        host: str,
        settings: UpstreamSettings,
        endpoints: Endpoints,
        exchanges: Exchanges,
        budget: Budget,
        queues: Queues,
        *,
        threads: Executor,
        track: Callable[[AbortHandle], None],
        sleep: Callable[[float], Awaitable[None]],
        pause: Callable[[AbortHandle, float], object],
        monotonic: Callable[[], float],
    ) -> None:
        self.host = host
        self.threads = threads
        #: It knows who asks by a client certificate, with an account or without.
        self.shows_certificate = settings.client_cert is not None
        self._settings = settings
        self._endpoints = endpoints
        self._exchanges = exchanges
        self._budget = budget
        self._queues = queues
        self._track = track
        self._sleep = sleep
        self._pause = pause
        self._monotonic = monotonic
        self._heads_no_blobs_until = float("-inf")

    # -- questions

    def turn(self, *, patient: bool = True) -> AbstractAsyncContextManager[Turn]:
        return self._queues.for_question(patient=patient)

    async def fetch_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> FetchedManifest:
        return await self._ask(manifests.manifest(repository, reference, credential), timeout, turn)

    async def head_manifest(
        self,
        repository: str,
        reference: str,
        credential: Credential | None,
        *,
        timeout: float | None = None,
        turn: Turn | None = None,
    ) -> ManifestHead:
        return await self._ask(manifests.manifest_head(repository, reference, credential), timeout, turn)

    async def find_blob(
        self, repository: str, digest: Digest, credential: Credential | None, *, wants_size: bool = False
    ) -> int | None:
        """By HEAD, and by a GET of its first byte where HEAD is not answered: ECR Public answers 401 to each, others 405, and
        storage that a redirect is signed for takes GET only. Also where `wants_size` and HEAD names none. Never after 429,
        5xx or silence, which say nothing of the blob.
        """
        by_get = blobs.first_byte(repository, digest, credential)
        async with self.turn() as turn:
            if self._monotonic() < self._heads_no_blobs_until:
                return await self._ask(by_get, turn=turn)
            try:
                size = await self._ask(blobs.blob_head(repository, digest, credential), turn=turn)
            except (UpstreamNotFound, UpstreamDenied, UpstreamInvalid) as error:
                if not blobs.is_about_the_method(error.status):
                    raise
                size = await self._ask(by_get, turn=turn)
                if error.status != 404:  # some proxies know only of what was fetched through them
                    self._heads_no_blobs_until = self._monotonic() + _NO_HEAD_SECONDS
                return size
            return await self._ask(by_get, turn=turn) if size is None and wants_size else size

    async def list_tags(
        self, repository: str, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[str, ...]:
        listing = TagList(repository, credential)
        async with self._listing():
            await listing.read_all(lambda page: self._ask(page, turn=turn), self.host)
        return tuple(listing.tags)

    async def fetch_referrers(
        self, repository: str, digest: Digest, credential: Credential | None, *, turn: Turn | None = None
    ) -> tuple[dict[str, Any], ...]:
        listing = ReferrerList(repository, digest, credential)
        async with self._listing():
            if not await listing.read_all(lambda page: self._ask(page, turn=turn), self.host):
                try:
                    index = await self.fetch_manifest(repository, fallback_tag(digest), credential, turn=turn)
                except UpstreamNotFound:
                    return ()
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(self.threads, listing.take, index.body, self.host)
        return tuple(listing.descriptors)

    async def authenticate(self, credential: Credential | None, *, timeout: float) -> None:
        def read(response: Response) -> None:
            if response.status < 400:
                read_document(response, MAX_ROOT_BYTES, "an answer to /v2/")
            else:
                response.discard()

        await self._ask(RegistryCall("GET", "/v2/", "", "a login", credential, read, tries_login=True), timeout)

    # -- bodies

    def errand(self) -> Errand:
        return Errand(self._settings.queue_timeout_seconds)

    def admits_at_once(self, repository: str) -> bool:
        return self._queues.admits_at_once(repository)

    def admit(
        self, repository: str, errand: Errand | None = None, *, behind: bool = False
    ) -> AbstractAsyncContextManager[None]:
        return self._queues.for_body(repository, errand or self.errand(), behind=behind)

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
        errand = errand or self.errand()
        call = blobs.blob(repository, digest, credential, start=start, stop=stop, if_range=if_range)
        while True:
            if seconds := self._budget.paused_seconds:
                self._queues.spend(errand, seconds)
                self._rest(abort, seconds)
            try:
                return self._endpoints.ask(call, self._settings.retries, errand, abort)
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

    # -- asking

    async def _ask(self, call: RegistryCall[T], timeout: float | None = None, turn: Turn | None = None) -> T:
        assert turn is None or turn.host == self.host
        errand = Errand(0.0 if timeout is not None else self._settings.queue_timeout_seconds)
        retries = 0 if timeout is not None else self._settings.retries
        limit = asyncio.timeout(timeout)
        try:
            async with limit, AsyncExitStack() as stack:
                if turn is None:
                    await stack.enter_async_context(self.turn(patient=timeout is None))
                while True:
                    await self._queues.wait_out_pause(errand)
                    try:
                        return await self._in_thread(
                            lambda abort: self._endpoints.ask(call, retries, errand, abort), limit
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

    async def _in_thread(self, work: Callable[[AbortHandle], T], limit: asyncio.Timeout) -> T:
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

    def _run(self, work: Callable[[AbortHandle], T], abort: AbortHandle) -> T:
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
