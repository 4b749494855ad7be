"""Who may ask an upstream now: its connections in fair shares, and the pauses that its rate limit orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from pullthrough.errors import UpstreamThrottled, UpstreamUnavailable
from pullthrough.fairness.asker import ASKER
from pullthrough.fairness.gate import LINE, Gate
from pullthrough.fairness.queue import FairQueue, QueueFull, thresholds
from pullthrough.upstream.endpoints import Endpoints
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.interfaces import Turn
from pullthrough.upstream.login.budget import Budget

#: One client has at most so many times the slots that are free: seven of eight, while nobody else wants any. Of fewer
#: slots than that it has all but one.
_CLIENT_RATIO = 6.0
#: One image likewise, five of eight: clients pull three layers at once (docker, containerd), or six (skopeo, podman).
_IMAGE_RATIO = 1.5


class Queues:
    """Those of one upstream, for one event loop. Nobody waits for what is known to fail: an open breaker, a long pause."""

    def __init__(
        self,
        host: str,
        endpoints: Endpoints,
        budget: Budget,
        *,
        connections: int,
        timeout_seconds: float,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._host = host
        self._endpoints = endpoints
        self._budget = budget
        self._timeout_seconds = timeout_seconds
        self._sleep = sleep
        of_a_client = min(_CLIENT_RATIO, connections - 1)
        #: By client and repository.
        self._bodies = Gate(FairQueue(connections, thresholds(of_a_client, _IMAGE_RATIO)))
        #: By client. Small questions shall not wait behind bodies that take minutes.
        self._questions = Gate(FairQueue(connections, thresholds(of_a_client)))
        self._loop: asyncio.AbstractEventLoop | None = None
        budget.tell(lambda remaining, paused_until: self._pause_began() if paused_until else None)

    @asynccontextmanager
    async def for_question(self, *, patient: bool) -> AsyncIterator[Turn]:
        """As `Upstream.turn` says."""
        self._refuse(self._timeout_seconds if patient else 0.0)
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await stack.enter_async_context(self._held(self._questions, ASKER.get()))
            except TimeoutError as error:
                raise UpstreamThrottled(
                    f"no connection for questions to {self._host} came free for this client in "
                    f"{self._timeout_seconds:g} s",
                    upstream=self._host,
                    retry_after_seconds=1.0,
                    hint="It answers slowly, or `connections` in [upstreams] is too low for what is asked of it.",
                ) from error
            yield Turn(self._host)

    @asynccontextmanager
    async def for_body(self, repository: str, errand: Errand, *, behind: bool) -> AsyncIterator[None]:
        """As `Upstream.admit` says."""
        self._refuse(errand.patience_seconds)
        async with self._held(self._bodies, ASKER.get(), repository, behind=behind):
            await self.wait_out_pause(errand)
            self._endpoints.refuse_if_open()
            yield

    def admits_at_once(self, repository: str) -> bool:
        return not self._budget.paused_seconds and self._bodies.is_open(ASKER.get(), repository)

    async def wait_out_pause(self, errand: Errand) -> None:
        """Raises UpstreamThrottled where the errand has less patience than the pause takes."""
        while seconds := self._budget.paused_seconds:
            self.spend(errand, seconds)
            await self._sleep(seconds)

    def spend(self, errand: Errand, seconds: float) -> None:
        """Raises UpstreamThrottled where the errand has not so much patience left. Any thread."""
        if not errand.spend(seconds):
            raise self._paused(seconds)

    def _pause_began(self) -> None:
        """Who waits for a connection need not wait for the bad news. Any thread."""
        if self._budget.paused_seconds <= self._timeout_seconds or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._refuse_waiting)
        except RuntimeError:
            pass  # the loop has ended, and who waited with it

    def _refuse_waiting(self) -> None:
        for gate in (self._bodies, self._questions):
            gate.refuse(lambda: self._paused(self._budget.paused_seconds))

    def _refuse(self, patience_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoints.refuse_if_open()
        seconds = self._budget.paused_seconds
        if seconds > patience_seconds:
            raise self._paused(seconds)

    @asynccontextmanager
    async def _held(self, gate: Gate, *shares: str, behind: bool = False) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(gate.hold(*shares, behind=behind, line=LINE.get()))
            except QueueFull:
                raise UpstreamUnavailable(
                    f"too many requests wait for {self._host} already",
                    upstream=self._host,
                    hint="Try again in a moment.",
                ) from None
            yield

    def _paused(self, seconds: float) -> UpstreamThrottled:
        return UpstreamThrottled(
            f"{self._host} limits the rate of requests and is not asked for {seconds:.0f} s more",
            upstream=self._host,
            retry_after_seconds=seconds,
            hint="A credential of one's own often has a higher limit.",
        )
