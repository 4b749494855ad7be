"""The registry face: requests in, answers out. Thin: what to serve is the engine's business.

    parse -> resolve the rule -> ask the engine -> answer, with X-Cache -> log line and metric

A fresh hit on a manifest or a published blob takes no thread and no look at the catalog: it is answered from memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote

from aiohttp import web

from pullthrough import __version__
from pullthrough.distribution.access_log import AccessLogger, Entry
from pullthrough.distribution.bodies import Sender
from pullthrough.distribution.errors import EndpointUnknown, MethodNotAllowed, error_response
from pullthrough.distribution.fast_path import FastPath
from pullthrough.distribution.routes import MAX_PAGE, NO_QUERY, Kind, Query, Route, parse_path, parse_query
from pullthrough.engine import outcomes
from pullthrough.engine.blobs import BlobAnswer, NoRoom
from pullthrough.engine.engine import Engine
from pullthrough.engine.listings import Listing
from pullthrough.engine.manifests import ManifestAnswer
from pullthrough.engine.outcomes import Outcome
from pullthrough.engine.rules import Targets
from pullthrough.errors import (
    ContentUnknown,
    DiskFull,
    PullthroughError,
    RepositoryUnknown,
)
from pullthrough.oci import media_types
from pullthrough.oci.ranges import ByteRange, parse_range

_log = logging.getLogger(__name__)
_VERSION_HEADER = "Docker-Distribution-Api-Version"
_NO_OUTCOME = Outcome(outcomes.Kind.NONE)
SERVER_NAME = f"pullthrough/{__version__}"


@dataclass(slots=True)
class _Exchange:
    """One request on its way through."""

    request: web.BaseRequest
    mirror: str | None
    kind: str = "other"
    outcome: Outcome = _NO_OUTCOME
    query: Query = NO_QUERY
    sent_bytes: int = 0

    @property
    def is_head(self) -> bool:
        return self.request.method == "HEAD"


class Face:
    """Answers all requests of one worker's listeners, but for the control socket's."""

    def __init__(self, engine: Engine, access_log: AccessLogger, *, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._access_log = access_log
        self._clock = clock
        self._fast_path = FastPath(engine, SERVER_NAME, self._log, clock)

    def fast(self, data: bytes, client: str, *, mirror: str | None = None) -> bytes | None:
        """The answer to a request that can be given at once; None where `handle` has to give it."""
        return self._fast_path.answer(data, client, mirror)

    async def handle(self, request: web.BaseRequest, *, mirror: str | None = None) -> web.StreamResponse:
        """`mirror` is the prefix of the rule that the request's listener is bound to, if it is to one."""
        started = time.perf_counter()
        exchange = _Exchange(request, mirror)
        status = 0
        try:
            response = await self._answer(exchange)
            status = response.status
            if not response.prepared:
                response.headers["Server"] = SERVER_NAME
            return response
        finally:
            self._record(exchange, status, time.perf_counter() - started)

    def _record(self, exchange: _Exchange, status: int, seconds: float) -> None:
        request, outcome = exchange.request, exchange.outcome
        self._log(
            Entry(
                self._clock(),
                request.remote or "",
                request.method,
                request.raw_path,
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

    def _log(self, entry: Entry) -> None:
        self._engine.metrics.request(entry.kind, entry.outcome, entry.rule, entry.sent_bytes)
        if entry.kind != "health":
            self._access_log.add(entry)

    async def _answer(self, exchange: _Exchange) -> web.StreamResponse:
        try:
            return await self._dispatch(exchange)
        except PullthroughError as error:
            response = error_response(error)
            kind = outcomes.Kind.NONE
            if isinstance(error, ContentUnknown | RepositoryUnknown) and error.remembered:
                kind = outcomes.Kind.NEGATIVE
            if exchange.query.ns is not None and exchange.outcome.rule:
                response.headers["OCI-Namespace"] = outcomes.clean(exchange.query.ns)
            exchange.outcome = Outcome(kind, exchange.outcome.rule, None, error.message)
            response.headers["X-Cache"] = exchange.outcome.header()
            response.headers[_VERSION_HEADER] = "registry/2.0"
            return response
        except (ConnectionError, asyncio.CancelledError):
            raise  # the client has gone
        except Exception:
            _log.exception("%s %s failed", exchange.request.method, exchange.request.raw_path[:300])
            return error_response(PullthroughError("the cache failed; its log says why"))

    async def _dispatch(self, exchange: _Exchange) -> web.StreamResponse:
        request = exchange.request
        raw_path, _, query = request.raw_path.partition("?")
        if not raw_path.startswith("/v2"):
            return await self._dispatch_other(exchange, raw_path)
        route = parse_path(raw_path)
        exchange.kind = route.kind.value
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(
                f"{request.method} is not possible here: this cache serves pulls, and fills itself from its upstreams"
            )
        exchange.query = parse_query(query)
        if route.kind is Kind.PING:
            return _json_response({}, _NO_OUTCOME)
        if route.kind is Kind.CATALOG:
            return await self._catalog(exchange)
        assert route.name is not None
        targets = self._engine.rules.resolve(route.name, ns=exchange.query.ns, mirror=exchange.mirror)
        exchange.outcome = Outcome(outcomes.Kind.NONE, targets.literal.rule.prefix)
        if route.kind is Kind.MANIFEST:
            return await self._manifest(exchange, route, targets)
        if route.kind is Kind.BLOB:
            return await self._blob(exchange, route, targets)
        if route.kind is Kind.TAGS:
            return await self._tags(exchange, targets, route.name)
        if route.kind is Kind.REFERRERS:
            return await self._referrers(exchange, targets, route)
        raise MethodNotAllowed("there are no uploads here: this cache fills itself from its upstreams")

    # --- manifests ---------------------------------------------------------------------------------------------------

    async def _manifest(self, exchange: _Exchange, route: Route, targets: Targets) -> web.StreamResponse:
        request = exchange.request
        assert route.reference is not None
        force = _wants_check(request)
        answer: ManifestAnswer | None = None
        if not force and targets.stripped is None:
            answer = self._engine.manifests.from_memory(targets.literal, route.reference)
            if answer is not None:
                self._engine.pull_times.note_manifest(answer.target.repository, answer.manifest.digest)
        if answer is None:
            answer = await self._engine.manifest(targets, route.reference, force=force)
        manifest = answer.manifest
        exchange.outcome = answer.outcome
        headers = _headers(exchange)
        headers["Docker-Content-Digest"] = manifest.digest
        headers["ETag"] = f'"{manifest.digest}"'
        if _matches(request.headers.get("If-None-Match"), manifest.digest):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = manifest.media_type
        exchange.sent_bytes = 0 if exchange.is_head else len(manifest.body)
        return web.Response(body=manifest.body, headers=headers)

    # --- blobs -------------------------------------------------------------------------------------------------------

    async def _blob(self, exchange: _Exchange, route: Route, targets: Targets) -> web.StreamResponse:
        request, digest = exchange.request, route.digest
        if exchange.is_head:
            facts = await self._engine.blob_facts(targets, digest)
            exchange.outcome = facts.outcome
            headers = self._blob_headers(exchange, digest)
            if _matches(request.headers.get("If-None-Match"), digest):
                return web.Response(status=304, headers=headers)
            if facts.size_bytes is not None:
                headers["Content-Length"] = str(facts.size_bytes)
            return web.Response(headers=headers)
        range_header = request.headers.get("Range")
        answer = None
        if targets.stripped is None:
            answer = self._engine.blobs.from_memory(targets.literal, digest)
        if answer is None:
            answer = await self._engine.blob(targets, digest, whole=range_header is None)
        try:
            exchange.outcome = answer.outcome
            headers = self._blob_headers(exchange, digest)
            if _matches(request.headers.get("If-None-Match"), digest):
                return web.Response(status=304, headers=headers)
            if_range = request.headers.get("If-Range")
            if if_range is not None and not _matches(if_range, digest):
                range_header = None
            size = answer.content.size_bytes
            wanted = parse_range(range_header, size) if size is not None else None
            if size is None and request.version < (1, 1):
                size = await self._wait_until_whole(answer)  # there is no chunked encoding in HTTP/1.0
            if wanted is not None and self._engine.blobs.is_far_ahead(answer, wanted):
                return await self._range_ahead(exchange, answer, wanted)
            if wanted is not None and not answer.content.is_verified:
                # The client may have all it asked for before the digest of the whole is known.
                exchange.outcome = replace(exchange.outcome, verified=False)
                headers["X-Cache"] = exchange.outcome.header()
            return await self._send(exchange, answer, headers, wanted, size)
        finally:
            answer.content.close()

    def _blob_headers(self, exchange: _Exchange, digest: str) -> dict[str, str]:
        headers = _headers(exchange)
        headers["Docker-Content-Digest"] = digest
        headers["ETag"] = f'"{digest}"'
        headers["Accept-Ranges"] = "bytes"
        headers["Content-Type"] = "application/octet-stream"
        return headers

    async def _wait_until_whole(self, answer: BlobAnswer) -> int:
        offset = 0
        while (end := await answer.content.wait(offset)) > offset:
            offset = end
        return offset

    async def _range_ahead(self, exchange: _Exchange, answer: BlobAnswer, wanted: ByteRange) -> web.StreamResponse:
        data = await self._engine.blobs.fetch_ahead(answer, wanted)
        assert answer.content.size_bytes is not None
        exchange.outcome = Outcome(
            outcomes.Kind.MISS, answer.target.rule.prefix, None, "fetched ahead of the fill", verified=False
        )
        headers = self._blob_headers(exchange, answer.digest)
        headers["Content-Range"] = wanted.content_range(answer.content.size_bytes)
        exchange.sent_bytes = len(data)
        return web.Response(status=206, body=data, headers=headers)

    async def _send(
        self,
        exchange: _Exchange,
        answer: BlobAnswer,
        headers: dict[str, str],
        wanted: ByteRange | None,
        size: int | None,
    ) -> web.StreamResponse:
        """Send the body, or break the connection off: never end a body that is not whole as if it were."""
        request = exchange.request
        start, stop = (wanted.start, wanted.stop) if wanted else (0, size)
        if wanted and size is not None:
            headers["Content-Range"] = wanted.content_range(size)
        if stop is not None:
            headers["Content-Length"] = str(stop - start)
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        if stop is None:
            response.enable_chunked_encoding()
        if not isinstance(answer.content, NoRoom):
            try:
                await answer.content.wait(start)  # an error that comes before any byte is still answered as an error
            except DiskFull:
                pass  # passed through below
        response.headers["Server"] = SERVER_NAME
        await response.prepare(request)
        sender = Sender(request, response, answer.content, self._engine.threads)
        try:
            try:
                await sender.send(start, stop)
            except DiskFull:
                await self._pass_through(sender, response, answer, start, stop if wanted else None)
            if stop is not None and sender.sent_bytes < stop - start:
                raise ConnectionResetError("the body ended early")
            await response.write_eof()
        except PullthroughError as error:
            exchange.outcome = Outcome(answer.outcome.kind, answer.outcome.rule, None, f"broken off: {error.message}")
            _log.warning("%s %s broken off: %s", request.method, request.raw_path[:300], error.message)
            _break_off(request)
            raise ConnectionResetError("broken off") from error
        except ConnectionError:
            _break_off(request)
            raise
        finally:
            exchange.sent_bytes = sender.sent_bytes
        return response

    async def _pass_through(
        self, sender: Sender, response: web.StreamResponse, answer: BlobAnswer, start: int, stop: int | None
    ) -> None:
        """The disk is full: this client goes on from its own offset, straight from the upstream."""
        chunks = self._engine.blobs.pass_through(answer, sent=start + sender.sent_bytes, stop=stop)
        try:
            async for chunk in chunks:
                await response.write(chunk)
                sender.sent_bytes += len(chunk)
        finally:
            await chunks.aclose()

    # --- lists -------------------------------------------------------------------------------------------------------

    async def _tags(self, exchange: _Exchange, targets: Targets, name: str) -> web.StreamResponse:
        listing = await self._engine.tags(targets, force=_wants_check(exchange.request))
        exchange.outcome = listing.outcome
        page, link = _page(exchange, listing.entries, f"/v2/{name}/tags/list")
        # The name as it was asked for: clients check that it is the one they sent.
        return self._listed(exchange, {"name": name, "tags": page}, link)

    async def _referrers(self, exchange: _Exchange, targets: Targets, route: Route) -> web.StreamResponse:
        listing: Listing = await self._engine.referrers(targets, route.digest, force=_wants_check(exchange.request))
        exchange.outcome = listing.outcome
        entries = listing.entries
        if exchange.query.artifact_type:
            entries = [entry for entry in entries if entry.get("artifactType") == exchange.query.artifact_type]
        index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}
        response = self._listed(exchange, index, None)
        response.content_type = media_types.OCI_INDEX
        if exchange.query.artifact_type:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        return response

    async def _catalog(self, exchange: _Exchange) -> web.StreamResponse:
        limit = MAX_PAGE if exchange.query.n is None else exchange.query.n
        found = await self._engine.call(self._engine.catalog.repositories, exchange.query.last, limit + 1)
        names = [str(name) for name in found]
        link = _link("/v2/_catalog", names[limit - 1], limit) if 0 < limit < len(names) else None
        return self._listed(exchange, {"repositories": names[:limit]}, link)

    def _listed(self, exchange: _Exchange, document: object, link: str | None) -> web.Response:
        response = _json_response(document, exchange.outcome)
        if exchange.query.ns is not None:
            response.headers["OCI-Namespace"] = outcomes.clean(exchange.query.ns)
        if link:
            response.headers["Link"] = link
        if not exchange.is_head and isinstance(response.body, bytes):
            exchange.sent_bytes = len(response.body)
        return response

    # --- health and metrics ------------------------------------------------------------------------------------------

    async def _dispatch_other(self, exchange: _Exchange, path: str) -> web.StreamResponse:
        exchange.kind = "health"
        if exchange.request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(f"{exchange.request.method} is not possible here")
        if path == "/healthz":
            return web.json_response({"status": "ok"})
        if path == "/readyz":
            degraded = self._engine.degraded
            return web.json_response(
                {
                    "status": "degraded" if degraded else "ok",
                    "degraded": degraded,
                    "upstreams": self._engine.upstreams_status(),
                }
            )
        if path == "/metrics":
            body = await self._engine.call(self._engine.metrics.exposition)
            return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
        raise EndpointUnknown("there is no such path; the registry is under /v2/")


def _headers(exchange: _Exchange) -> dict[str, str]:
    headers = {_VERSION_HEADER: "registry/2.0", "X-Cache": exchange.outcome.header()}
    if exchange.query.ns is not None:
        headers["OCI-Namespace"] = outcomes.clean(exchange.query.ns)
    return headers


def _json_response(document: object, outcome: Outcome) -> web.Response:
    response = web.Response(
        body=json.dumps(document, separators=(",", ":")).encode(),
        headers={_VERSION_HEADER: "registry/2.0"},
        content_type="application/json",
    )
    if outcome.kind is not outcomes.Kind.NONE:
        response.headers["X-Cache"] = outcome.header()
    return response


def _wants_check(request: web.BaseRequest) -> bool:
    return "no-cache" in request.headers.get("Cache-Control", "").lower()


def _matches(header: str | None, digest: str) -> bool:
    """Whether an If-None-Match or If-Range names this digest's entity tag, or any."""
    if not header:
        return False
    candidates = (tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
    return any(tag in (digest, "*") for tag in candidates)


def _page(exchange: _Exchange, entries: list[str], path: str) -> tuple[list[str], str | None]:
    """The part of a sorted list that `n` and `last` ask for, and the Link to the next one."""
    query = exchange.query
    if query.last:
        entries = [entry for entry in entries if entry > query.last]
    if query.n is None:
        return entries, None
    page = entries[: query.n]
    if not page or len(page) == len(entries):
        return page, None
    namespace = f"&ns={quote(query.ns, safe='')}" if query.ns is not None else ""
    return page, _link(path, page[-1], query.n, namespace)


def _link(path: str, last: str, n: int, more: str = "") -> str:
    return f'<{path}?n={n}&last={quote(last, safe="")}{more}>; rel="next"'


def _break_off(request: web.BaseRequest) -> None:
    """Reset the connection, so that no client takes what it got for the whole."""
    if request.transport is not None:
        request.transport.abort()
