"""All upstreams of a process: made when first asked for, with what they share. Nothing is connected to at start."""

from __future__ import annotations

import asyncio
import logging
import os
import random as random_module
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from pullthrough.credentials import Credentials, ReadSecret, no_secrets
from pullthrough.errors import ConfigurationError
from pullthrough.oci.names import canonical_host
from pullthrough.settings import UpstreamSettings
from pullthrough.shared_state import MemoryState, SharedState
from pullthrough.upstream.endpoints import Endpoints
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass, classify, public_only
from pullthrough.upstream.http.connections import Connections
from pullthrough.upstream.http.dialing import Dialer
from pullthrough.upstream.http.observer import UpstreamObserver
from pullthrough.upstream.http.proxies import Proxies
from pullthrough.upstream.http.resolver import Lookup, Resolver, system_lookup
from pullthrough.upstream.http.tls import SystemTrust, TlsContexts
from pullthrough.upstream.http.transport import Transport
from pullthrough.upstream.http.urls import parse_url
from pullthrough.upstream.interfaces import UpstreamHealth
from pullthrough.upstream.login.budget import Budget
from pullthrough.upstream.login.exchanges import Exchanges
from pullthrough.upstream.queues import Queues
from pullthrough.upstream.upstream import HttpUpstream

log = logging.getLogger(__name__)

#: How long `close` waits for threads that were told to end.
CLOSE_SECONDS = 5.0


class HttpUpstreams:
    """The `Upstreams` that are asked over HTTP. One a process, made after any fork.

    `settings` are by canonical host; `environ` holds proxies and secrets. `is_named`: whether who owns this machine has
    named the upstream; one that only the API's callers have named is reached at public addresses only. `clock` is wall-clock
    time, for dates in headers and for people; `monotonic` is what waits are measured by. `state` is what the workers of an
    engine know together; each has its own where none is given.
    """

    def __init__(
        self,
        settings: Mapping[str, UpstreamSettings],
        *,
        observe: UpstreamObserver,
        is_named: Callable[[str], bool] = lambda host: True,
        environ: Mapping[str, str] | None = None,
        read_secret: ReadSecret = no_secrets,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        pause: Callable[[AbortHandle, float], object] = AbortHandle.pause,
        random: Callable[[], float] = random_module.random,
        resolver: Lookup = system_lookup,
        classify: Callable[[str], AddressClass] = classify,
        state: SharedState | None = None,
    ) -> None:
        self._settings = settings
        self._observe = observe
        self._is_named = is_named
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._monotonic = monotonic
        self._state = state or MemoryState(monotonic)
        self._sleep = sleep
        self._pause = pause
        self._random = random
        self._resolver = Resolver(resolver)
        self._classify = classify
        self._system_trust = SystemTrust()
        self._credentials = Credentials(self._environ, read_secret=read_secret, monotonic=monotonic)
        self._threads: list[ThreadPoolExecutor] = []
        self._lock = threading.Lock()
        self._upstreams: dict[str, HttpUpstream] = {}
        self._connections: list[Connections] = []
        self._running: weakref.WeakSet[AbortHandle] = weakref.WeakSet()
        self._closed = False

    def get(self, host: str) -> HttpUpstream:
        host = canonical_host(host)
        with self._lock:
            upstream = self._upstreams.get(host)
            if upstream is None:
                upstream = self._upstreams[host] = self._make(host)
            return upstream

    def health(self) -> tuple[UpstreamHealth, ...]:
        with self._lock:
            upstreams = tuple(self._upstreams.values())
        return tuple(upstream.health for upstream in upstreams)

    async def close(self) -> None:
        with self._lock:
            self._closed = True
            running = tuple(self._running)
        for abort in running:
            abort.abort()
        for threads in self._threads:
            threads.shutdown(wait=False, cancel_futures=True)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                # In a thread of its own: the loop's default executor may be gone or busy.
                await self._joined()
        except TimeoutError:
            pass  # a name look-up or a credential's command; their ends are bounded
        for connections in self._connections:
            connections.close()

    async def _joined(self) -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def join() -> None:
            for threads in self._threads:
                threads.shutdown(wait=True)
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                pass  # the loop did not wait

        threading.Thread(target=join, name="upstreams-close", daemon=True).start()
        await done.wait()

    def _track(self, abort: AbortHandle) -> None:
        with self._lock:
            self._running.add(abort)
            closed = self._closed
        if closed:
            abort.abort()

    def _make(self, host: str) -> HttpUpstream:
        settings = self._settings.get(host, UpstreamSettings())
        try:
            urls = [parse_url(text) for text in settings.endpoint or (f"https://{host}",)]
        except ValueError as error:
            raise ConfigurationError(f'[upstreams."{host}"]: the endpoint {error}') from error
        dialer = Dialer(
            host,
            proxies=Proxies(settings.proxy, self._environ),
            tls=TlsContexts(
                ca_file=settings.ca_file,
                client_cert=settings.client_cert,
                client_key=settings.client_key,
                system=self._system_trust,
            ),
            resolver=self._resolver,
            connect_timeout_seconds=settings.connect_timeout_seconds,
            classify=self._classify,
            monotonic=self._monotonic,
        )
        connections = Connections(dialer, monotonic=self._monotonic)
        self._connections.append(connections)
        transport = Transport(
            host,
            connections,
            first_byte_timeout_seconds=settings.first_byte_timeout_seconds,
            stall_timeout_seconds=settings.stall_timeout_seconds,
            observe=self._observe,
        )
        budget = Budget(self._state, host, clock=self._clock)
        budget.tell(partial(self._budget_changed, host))
        exchanges = Exchanges(
            transport,
            credentials=self._credentials,
            token_realms=settings.token_realms,
            budget=budget,
            state=self._state,
            observe=self._observe,
            admits=None if self._is_named(host) else public_only,
            clock=self._clock,
        )
        endpoints = Endpoints(
            host,
            urls,
            exchanges,
            observe=self._observe,
            state=self._state,
            pause=self._pause,
            random=self._random,
        )
        # For as many questions, and bodies beside fills, as its queues let through; made as they are needed.
        threads = ThreadPoolExecutor(2 * settings.connections, f"upstream-{host}")
        self._threads.append(threads)
        queues = Queues(
            host,
            endpoints,
            budget,
            connections=settings.connections,
            timeout_seconds=settings.queue_timeout_seconds,
            sleep=self._sleep,
        )
        return HttpUpstream(
            host,
            settings,
            endpoints,
            exchanges,
            budget,
            queues,
            threads=threads,
            track=self._track,
            sleep=self._sleep,
            pause=self._pause,
            monotonic=self._monotonic,
        )

    def _budget_changed(self, host: str, remaining: int | None, paused_until: float) -> None:
        self._observe.on_budget(host, remaining, paused_until)
        if paused_until:
            log.warning("%s limits the rate of requests; not asked for %.0f s", host, paused_until - self._clock())
