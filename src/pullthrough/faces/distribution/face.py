"""The registry face: requests in, answers out.

who asks -> parse -> resolve the rule -> pull or push -> answer, with X-Cache -> log line and metric
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import lru_cache, partial

from aiohttp import web

from pullthrough.engine import outcomes
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.outcomes import Outcome
from pullthrough.errors import ContentUnknown, PullthroughError, RepositoryUnknown, UploadOutOfOrder
from pullthrough.faces.access_log import Entry
from pullthrough.faces.distribution.errors import MethodNotAllowed, error_response
from pullthrough.faces.distribution.exchange import NO_OUTCOME, READS, VERSION_HEADER, RegistryExchange, json_response
from pullthrough.faces.distribution.fast_path import FastPath
from pullthrough.faces.distribution.health import HealthFace
from pullthrough.faces.distribution.permissions import Permissions
from pullthrough.faces.distribution.pulls import PullFace
from pullthrough.faces.distribution.pushes import PushFace
from pullthrough.faces.distribution.request_log import RequestLog
from pullthrough.faces.distribution.routes import Endpoint, parse_path, parse_query
from pullthrough.faces.face import FastAnswer
from pullthrough.fairness.asker import ASKER, client_of
from pullthrough.version import __version__

_log = logging.getLogger(__name__)
SERVER_NAME = f"pullthrough/{__version__}"
#: Paths that are remembered, and the characters of one: those of images have some 100.
_MAX_KNOWN_PATHS = 1024
_MAX_KNOWN_PATH = 512


class RegistryFace:
    """Answers the registry requests of one worker's main listener."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        permissions: Permissions,
        pulls: PullFace,
        pushes: PushFace,
        health: HealthFace,
        fast_path: FastPath,
        log: RequestLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._configuration = configuration
        self._permissions = permissions
        self._pulls = pulls
        self._pushes = pushes
        self._health = health
        self._fast_path = fast_path
        self._log = log
        self._clock = clock
        #: Of clients that were let in, which ask for the same few things again and again.
        self._known_route = lru_cache(maxsize=_MAX_KNOWN_PATHS)(parse_path)
        self.at_once: FastAnswer | None = self.at_once_for(None)

    def at_once_for(self, mirror: str | None) -> FastAnswer:
        return partial(self._fast_path.answer, mirror=mirror)

    def takes(self, request: web.BaseRequest) -> bool:
        """All that no other face has taken: what is no registry's request is refused in the registry's words."""
        return True

    async def handle(self, request: web.BaseRequest, *, mirror: str | None = None) -> web.StreamResponse:
        """`mirror` is the prefix of the rule that the request's listener is bound to, if it is to one."""
        started = time.perf_counter()
        exchange = RegistryExchange(request, mirror)
        ASKER.set(client_of(request.remote))
        status = 0
        try:
            response = await self._answer(exchange)
            status = response.status
            if not response.prepared:
                response.headers["Server"] = SERVER_NAME
            return response
        finally:
            self._record(exchange, status, time.perf_counter() - started)

    def _record(self, exchange: RegistryExchange, status: int, seconds: float) -> None:
        request, outcome = exchange.request, exchange.outcome
        self._log.add(
            Entry(
                self._clock(),
                request.remote or "",
                request.method,
                exchange.loggable_path,
                status,
                exchange.sent_bytes,
                seconds,
                exchange.kind,
                outcome.kind.value,
                outcome.rule,
                outcome.reason,
                request.headers.get("User-Agent", ""),
            )
        )

    async def _answer(self, exchange: RegistryExchange) -> web.StreamResponse:
        try:
            return await self._dispatch(exchange)
        except PullthroughError as error:
            is_mirrored = exchange.mirror is not None or exchange.query.ns is not None
            response = error_response(error, is_mirrored=is_mirrored)
            kind = outcomes.CacheResult.NONE
            if isinstance(error, ContentUnknown | RepositoryUnknown) and error.remembered:
                kind = outcomes.CacheResult.NEGATIVE
            if exchange.query.ns is not None and exchange.outcome.rule:
                response.headers["OCI-Namespace"] = outcomes.clean(exchange.query.ns)
            exchange.outcome = Outcome(kind, exchange.outcome.rule, None, error.message)
            response.headers["X-Cache"] = exchange.outcome.header()
            response.headers[VERSION_HEADER] = "registry/2.0"
            if isinstance(error, UploadOutOfOrder):
                # As the answer to a status request: the client goes on from there.
                response.headers["Location"] = exchange.request.raw_path.partition("?")[0]
                response.headers["Range"] = f"0-{max(0, error.size_bytes - 1)}"
            if exchange.awaits_invitation:
                response.force_close()  # else the body that was not sent would be taken for the next request
            return response
        except (ConnectionError, asyncio.CancelledError):
            raise  # the client has gone
        except Exception:
            _log.exception("%s %s failed", exchange.request.method, exchange.loggable_path[:300])
            return error_response(PullthroughError("the cache failed; its log says why"))

    async def _dispatch(self, exchange: RegistryExchange) -> web.StreamResponse:
        request = exchange.request
        raw_path, _, query = request.raw_path.partition("?")
        if not raw_path.startswith("/v2"):
            return await self._health.handle(exchange, raw_path)
        if not self._configuration.is_current:
            await self._configuration.refresh()
        exchange.principal = await self._permissions.find_principal(exchange, raw_path, query)
        route = self._known_route(raw_path) if len(raw_path) <= _MAX_KNOWN_PATH else parse_path(raw_path)
        exchange.kind = route.kind.value
        exchange.query = parse_query(query)
        if route.name is None:
            return await self._dispatch_nameless(exchange, route.kind)
        targets = self._configuration.rules.resolve(route.name, ns=exchange.query.ns, mirror=exchange.mirror)
        exchange.outcome = Outcome(outcomes.CacheResult.NONE, targets.literal.rule.prefix)
        if request.method in READS and route.kind is not Endpoint.UPLOAD:
            return await self._pulls.handle(exchange, route, targets)
        return await self._pushes.handle(exchange, route, targets.literal)

    async def _dispatch_nameless(self, exchange: RegistryExchange, kind: Endpoint) -> web.StreamResponse:
        if exchange.request.method not in READS:
            raise MethodNotAllowed(f"{exchange.request.method} is not possible here", allowed="GET, HEAD")
        if kind is Endpoint.CATALOG:
            return await self._pulls.repositories(exchange)
        response = json_response({}, NO_OUTCOME)
        if challenge := self._permissions.invitation(exchange):
            response.headers["WWW-Authenticate"] = challenge
        return response


class MirrorFace:
    """The registry face on a listener that is bound to one rule: names are those of the rule's upstream."""

    def __init__(self, registry: RegistryFace, prefix: str) -> None:
        self._registry = registry
        self._prefix = prefix
        self.at_once: FastAnswer | None = registry.at_once_for(prefix)

    def takes(self, request: web.BaseRequest) -> bool:
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._registry.handle(request, mirror=self._prefix)
