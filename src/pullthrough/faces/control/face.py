"""The engine's end of the control socket."""

from __future__ import annotations

import json
import logging
from typing import Any

from aiohttp import web

from pullthrough.errors import ConfigurationError, ContentUnknown, PullthroughError, RequestError, UpstreamError
from pullthrough.faces.face import FastAnswer
from pullthrough.operations.json_form import from_json, to_json
from pullthrough.operations.table import Operations, chosen, operations_named

_log = logging.getLogger(__name__)
_MAX_REQUEST_BYTES = 64 * 1024


class ControlFace:
    """Answers the requests of one worker's control socket."""

    at_once: FastAnswer | None = None

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

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
        operations = operations_named(request.method, request.path.removeprefix("/"))
        if not operations:
            raise RequestError(f"the control socket knows no {request.method} {request.path[:100]}")
        document = await _document(request) if any(operation.has_input for operation in operations) else {}
        operation = chosen(operations, document)
        try:
            asked = from_json(operation.request, document)
        except ValueError as error:
            raise ConfigurationError(str(error)) from error
        return to_json(await self._operations.perform(operation, asked))


def _refusal(error: PullthroughError, status: int) -> web.Response:
    return web.json_response(
        {"error": {"reference": error.reference, "message": error.message, "hint": error.hint}}, status=status
    )


async def _document(request: web.BaseRequest) -> dict[str, Any]:
    body = await request.content.read(_MAX_REQUEST_BYTES + 1)
    try:
        document = json.loads(body[:_MAX_REQUEST_BYTES])
    except ValueError as error:
        raise ConfigurationError("the request is not JSON") from error
    if not isinstance(document, dict):
        raise ConfigurationError("the request is not a JSON object")
    return document
