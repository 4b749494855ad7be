"""The pulling half of the registry face: manifests, blobs, lists. Thin: what to serve is the engine's business.

A fresh hit on a manifest or a published blob takes no thread and no look at the catalog: it is answered from memory.
"""

from __future__ import annotations

import json
import logging
from contextlib import aclosing
from urllib.parse import quote, urlencode

from aiohttp import web

from pullthrough.engine.configuration import Configuration
from pullthrough.engine.outcomes import Outcome
from pullthrough.engine.pull.blobs.blobs import Blobs
from pullthrough.engine.pull.blobs.content import BlobPieces
from pullthrough.engine.pull.listings import Listing
from pullthrough.engine.pull.manifests.manifests import ManifestAnswer, Manifests
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.pull.pulls import Pulls
from pullthrough.engine.rules import Targets
from pullthrough.errors import PullthroughError
from pullthrough.faces.distribution.exchange import RegistryExchange, common_headers, json_response
from pullthrough.faces.distribution.permissions import Permissions
from pullthrough.faces.distribution.routes import MAX_PAGE, Endpoint, Route
from pullthrough.faces.http.bodies import BodySender, paced
from pullthrough.oci import media_types
from pullthrough.oci.ranges import ByteRange, parse_range
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Threads

_log = logging.getLogger(__name__)


class PullFace:
    """Answers GET and HEAD. `server_name` is the value of the Server header."""

    def __init__(
        self,
        *,
        pulls: Pulls,
        manifests: Manifests,
        blobs: Blobs,
        repositories: Repositories,
        configuration: Configuration,
        pull_times: PullTimes,
        permissions: Permissions,
        threads: Threads,
        server_name: str,
    ) -> None:
        self._pulls = pulls
        self._manifests = manifests
        self._blobs = blobs
        self._repositories = repositories
        self._configuration = configuration
        self._pull_times = pull_times
        self._permissions = permissions
        self._threads = threads
        self._server_name = server_name

    async def handle(self, exchange: RegistryExchange, route: Route, targets: Targets) -> web.StreamResponse:
        match route.kind:
            case Endpoint.MANIFEST:
                return await self._manifest(exchange, route, targets)
            case Endpoint.BLOB:
                return await self._blob(exchange, route, targets)
            case Endpoint.TAGS:
                return await self._tags(exchange, route, targets)
            case Endpoint.REFERRERS:
                return await self._referrers(exchange, route, targets)
        raise AssertionError(f"{route.kind} is nothing to pull")

    async def repositories(self, exchange: RegistryExchange) -> web.StreamResponse:
        """The list of `/v2/_catalog`."""
        self._permissions.check(exchange, "DescribeRepositories")
        limit = MAX_PAGE if exchange.query.n is None else exchange.query.n
        found = await self._threads.catalog(self._repositories.names, exchange.query.last, limit + 1)
        names = [str(name) for name in found]
        response = json_response({"repositories": names[:limit]}, exchange.outcome)
        if not exchange.is_head and isinstance(response.body, bytes):
            exchange.sent_bytes = len(response.body)
        if link := _next_page(exchange, "/v2/_catalog", names[limit - 1] if 0 < limit < len(names) else ""):
            response.headers["Link"] = link
        return response

    # --- manifests ---------------------------------------------------------------------------------------------------

    async def _manifest(self, exchange: RegistryExchange, route: Route, targets: Targets) -> web.StreamResponse:
        request = exchange.request
        assert route.reference is not None
        targets = await self._permissions.allowed(exchange, "BatchGetImage", targets)
        force = _wants_check(request)
        answer: ManifestAnswer | None = None
        if not force and targets.stripped is None:
            answer = self._manifests.from_memory(targets.literal, route.reference)
        if answer is None:
            targets = await self._permissions.importable(exchange, targets, route.reference)
            answer = await self._pulls.manifest(targets, route.reference, force=force)
        if not self._is_excluded(exchange):
            self._pull_times.note_manifest(answer.target.repository, answer.manifest.digest)
        manifest = answer.manifest
        exchange.outcome = answer.outcome
        headers = common_headers(exchange)
        headers["Docker-Content-Digest"] = manifest.digest
        headers["ETag"] = f'"{manifest.digest}"'
        if _matches(request.headers.get("If-None-Match"), manifest.digest):
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = manifest.media_type
        exchange.sent_bytes = 0 if exchange.is_head else len(manifest.body)
        return web.Response(body=paced(manifest.body), headers=headers)

    def _is_excluded(self, exchange: RegistryExchange) -> bool:
        """Whether pulls of this client leave an image's pull time as it is (RegisterPullTimeUpdateExclusion)."""
        excluded = self._configuration.pull_time_exclusions
        return bool(excluded) and exchange.principal is not None and exchange.principal.arn in excluded

    # --- blobs -------------------------------------------------------------------------------------------------------

    async def _blob(self, exchange: RegistryExchange, route: Route, targets: Targets) -> web.StreamResponse:
        request, digest = exchange.request, route.digest
        action = "BatchCheckLayerAvailability" if exchange.is_head else "GetDownloadUrlForLayer"
        targets = await self._permissions.allowed(exchange, action, targets)
        if exchange.is_head:
            facts = await self._pulls.blob_facts(targets, digest)
            exchange.outcome = facts.outcome
            headers = self._blob_headers(exchange, digest)
            if _matches(request.headers.get("If-None-Match"), digest):
                return web.Response(status=304, headers=headers)
            found = web.Response(headers=headers)
            if facts.size_bytes is not None:
                found.headers["Content-Length"] = str(facts.size_bytes)
            elif request.version >= (1, 1):
                found.enable_chunked_encoding()  # else the absent body would be said to have no bytes
            return found
        range_header = request.headers.get("Range")
        answer = None
        if targets.stripped is None:
            answer = await self._blobs.from_memory(targets.literal, digest)
        if answer is None:
            targets = await self._permissions.creatable(exchange, targets)
            answer = await self._pulls.blob(targets, digest, whole=range_header is None)
        try:
            exchange.outcome = answer.outcome
            headers = self._blob_headers(exchange, digest)
            if _matches(request.headers.get("If-None-Match"), digest):
                return web.Response(status=304, headers=headers)
            if_range = request.headers.get("If-Range")
            if if_range is not None and not _matches(if_range, digest):
                range_header = None
            size = answer.size_bytes
            wanted = parse_range(range_header, size) if size is not None else None
            if size is None and request.version < (1, 1):
                size = await answer.wait_until_whole()  # there is no chunked encoding in HTTP/1.0
            body = await answer.body(wanted)
            exchange.outcome = body.outcome
            headers["X-Cache"] = body.outcome.header()
            return await self._send(exchange, body, headers, wanted, size, has_length=not answer.is_late)
        finally:
            answer.close()

    def _blob_headers(self, exchange: RegistryExchange, digest: str) -> dict[str, str]:
        headers = common_headers(exchange)
        headers["Docker-Content-Digest"] = digest
        headers["ETag"] = f'"{digest}"'
        headers["Accept-Ranges"] = "bytes"
        headers["Content-Type"] = "application/octet-stream"
        return headers

    async def _send(
        self,
        exchange: RegistryExchange,
        body: BlobPieces,
        headers: dict[str, str],
        wanted: ByteRange | None,
        size: int | None,
        *,
        has_length: bool,
    ) -> web.StreamResponse:
        """Send the body, or break the connection off: never end a body that is not whole as if it were."""
        request = exchange.request
        start, stop = (wanted.start, wanted.stop) if wanted else (0, size)
        if wanted and size is not None:
            headers["Content-Range"] = wanted.content_range(size)
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        if stop is None or (not has_length and request.version >= (1, 1)):
            response.enable_chunked_encoding()
        else:
            response.headers["Content-Length"] = str(stop - start)
        response.headers["Server"] = self._server_name
        await response.prepare(request)
        sender = BodySender(request, response, self._threads.body)
        try:
            async with aclosing(body.pieces):
                await sender.send(body.pieces)
            if stop is not None and sender.sent_bytes < stop - start:
                raise ConnectionResetError("the body ended early")
            await response.write_eof()
        except PullthroughError as error:
            outcome = body.outcome
            exchange.outcome = Outcome(outcome.kind, outcome.rule, None, f"broken off: {error.message}")
            _log.warning("%s %s broken off: %s", request.method, exchange.loggable_path[:300], error.message)
            _break_off(request)
            raise ConnectionResetError("broken off") from error
        except ConnectionError:
            _break_off(request)
            raise
        finally:
            exchange.sent_bytes = sender.sent_bytes
        return response

    # --- lists -------------------------------------------------------------------------------------------------------

    async def _tags(self, exchange: RegistryExchange, route: Route, targets: Targets) -> web.StreamResponse:
        targets = await self._permissions.allowed(exchange, "ListImages", targets)
        query = exchange.query
        listing = await self._pulls.tags(targets, after=query.last, most=query.n, force=_wants_check(exchange.request))
        # The name as it was asked for: clients check that it is the one they sent.
        opening = f'{{"name":{json.dumps(route.name)},"tags":['
        link = _next_page(exchange, f"/v2/{route.name}/tags/list", listing.page.last)
        return self._listed(exchange, listing, opening, "application/json", link)

    async def _referrers(self, exchange: RegistryExchange, route: Route, targets: Targets) -> web.StreamResponse:
        targets = await self._permissions.allowed(exchange, "ListImageReferrers", targets)
        query, digest = exchange.query, route.digest
        assert digest is not None
        listing = await self._pulls.referrers(
            targets, digest, artifact_type=query.artifact_type, after=query.last, force=_wants_check(exchange.request)
        )
        opening = f'{{"schemaVersion":2,"mediaType":"{media_types.OCI_INDEX}","manifests":['
        link = _next_page(exchange, f"/v2/{route.name}/referrers/{digest}", listing.page.last)
        response = self._listed(exchange, listing, opening, media_types.OCI_INDEX, link)
        if query.artifact_type:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        return response

    def _listed(
        self, exchange: RegistryExchange, listing: Listing, opening: str, media_type: str, link: str | None
    ) -> web.Response:
        exchange.outcome = listing.outcome
        parts = (opening.encode(), listing.page.entries, b"]}")
        headers = {**common_headers(exchange), "Content-Type": media_type}
        if link:
            headers["Link"] = link
        if not exchange.is_head:
            exchange.sent_bytes = sum(len(part) for part in parts)
        return web.Response(body=paced(*parts), headers=headers)


def _wants_check(request: web.BaseRequest) -> bool:
    return "no-cache" in request.headers.get("Cache-Control", "").lower()


def _matches(header: str | None, digest: str) -> bool:
    """Whether an If-None-Match or If-Range names this digest's entity tag, or any."""
    if not header:
        return False
    candidates = (tag.strip().removeprefix("W/").strip('"') for tag in header.split(","))
    return any(tag in (digest, "*") for tag in candidates)


def _next_page(exchange: RegistryExchange, path: str, last: str) -> str | None:
    """The Link to what follows the entry `last` of a list; None where nothing does."""
    if not last:
        return None
    query = exchange.query
    asked = {"n": query.n, "last": last, "artifactType": query.artifact_type or None, "ns": query.ns}
    given = urlencode({name: value for name, value in asked.items() if value is not None}, safe="", quote_via=quote)
    return f'<{path}?{given}>; rel="next"'


def _break_off(request: web.BaseRequest) -> None:
    """Reset the connection, so that no client takes what it got for the whole."""
    if request.transport is not None:
        request.transport.abort()
