"""Face of the control socket: what the command line asks of a running engine.

HTTP/1.1 over a unix socket of mode 0600; JSON both ways. Who may open the socket may do all of this.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from aiohttp import web

from pullthrough.access.administration import KeyAdministration
from pullthrough.engine.engine import Engine
from pullthrough.errors import ConfigurationError, ContentUnknown, PullthroughError, RequestError, UpstreamError
from pullthrough.faces.face import FastAnswer

_log = logging.getLogger(__name__)
_MAX_REQUEST_BYTES = 64 * 1024
#: In one answer.
MAX_EVENTS = 10_000


class Control:
    """Answers the requests of one worker's control socket."""

    at_once: FastAnswer | None = None

    def __init__(self, engine: Engine, keys: KeyAdministration) -> None:
        self._engine = engine
        self._keys = keys

    def takes(self, request: web.BaseRequest) -> bool:
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return web.json_response(await self._dispatch(request))
        except PullthroughError as error:
            status = 404 if isinstance(error, ContentUnknown) else 502 if isinstance(error, UpstreamError) else 400
            return _refusal(error, status)
        except Exception:
            _log.exception("the control request %s failed", request.path[:100])
            return _refusal(PullthroughError("the engine failed", hint="see the engine's log"), 500)

    async def _dispatch(self, request: web.BaseRequest) -> dict[str, Any]:
        engine = self._engine
        if not engine.configuration.is_current:
            await engine.configuration.refresh()
        match request.method, request.path:
            case "GET", "/status":
                return await engine.status()
            case "POST", "/refresh":
                return await engine.refresh(await _text(request, "image"))
            case "POST", "/pin":
                return await engine.pin(await _text(request, "image"))
            case "POST", "/unpin":
                return await engine.unpin(await _text(request, "image"))
            case "POST", "/evict":
                dry_run = (await _document(request)).get("dry_run")
                if not isinstance(dry_run, bool):
                    raise ConfigurationError("the member dry_run must be true or false")
                return await engine.evict(dry_run=dry_run)
            case "POST", "/lifecycle":
                document = await _document(request)
                repository, dry_run = document.get("repository"), document.get("dry_run")
                if not isinstance(dry_run, bool) or not isinstance(repository, str | None):
                    raise ConfigurationError("dry_run must be true or false, and repository a text or null")
                return await engine.lifecycle(repository, dry_run=dry_run)
            case "POST", "/events":
                limit = (await _document(request)).get("limit")
                if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit <= MAX_EVENTS:
                    raise ConfigurationError(f"the member limit must be a number from 1 to {MAX_EVENTS}")
                return await engine.newest_events(limit)
            case "POST", "/keys":
                return await engine.call(self._keys.do, await _document(request))
            case "POST", "/check":
                return await engine.check()
        raise RequestError(f"the control socket knows no {request.method} {request.path[:100]}")


def _refusal(error: PullthroughError, status: int) -> web.Response:
    return web.json_response(
        {"error": {"reference": error.reference, "message": error.message, "hint": error.hint}}, status=status
    )


async def _text(request: web.BaseRequest, key: str) -> str:
    value = (await _document(request)).get(key)
    if not isinstance(value, str):
        raise ConfigurationError(f"the member {key} must be a text")
    return value


async def _document(request: web.BaseRequest) -> dict[str, Any]:
    body = await request.content.read(_MAX_REQUEST_BYTES + 1)
    try:
        document = json.loads(body[:_MAX_REQUEST_BYTES])
    except ValueError as error:
        raise ConfigurationError("the request is not JSON") from error
    if not isinstance(document, dict):
        raise ConfigurationError("the request is not a JSON object")
    return document
