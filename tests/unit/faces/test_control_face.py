"""The engine's end of the control socket: requests for operations of the table, and refusals in one form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from pullthrough.errors import ContentUnknown, PullthroughError, RequestError, UpstreamUnavailable
from pullthrough.faces.control.face import ControlFace
from pullthrough.operations.events import EventOperations
from pullthrough.operations.table import Operations
from tests.unit.faces.http.wires import Connected, settle


@dataclass
class FakeEvents:
    """Answers with what it was asked for, or fails."""

    error: Exception | None = None

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return [{"asked": limit}]


@dataclass
class Reply:
    status: int
    document: Any


async def ask(body: bytes, *, method: str = "POST", path: str = "/events", error: Exception | None = None) -> Reply:
    face = ControlFace(Operations(EventOperations(FakeEvents(error))))
    connected = Connected(face.handle)
    await connected.say(
        f"{method} {path} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    await settle()
    _, _, answer = bytes(connected.wire.sent).partition(b"\r\n\r\n")
    return Reply(connected.wire.statuses[0], json.loads(answer))


async def test_an_operation_is_done_and_answered() -> None:
    assert await ask(b'{"limit": 3}') == Reply(200, {"events": [{"asked": 3}]})


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"body": b"{" * 70_000}, "the request is not JSON"),
        ({"body": b""}, "the request is not JSON"),
        ({"body": b"[]"}, "the request is not a JSON object"),
        ({"body": b'{"limit": 0}'}, "the member limit must be a number from 1 to 10000"),
        ({"body": b"{}", "path": "/nothing"}, "the control socket knows no POST /nothing"),
        ({"body": b"", "method": "DELETE", "path": "/status"}, "the control socket knows no DELETE /status"),
    ],
)
async def test_nonsense_is_refused_with_a_reason(request_: Mapping[str, Any], sentence: str) -> None:
    reply = await ask(**request_)
    assert (reply.status, reply.document["error"]["message"]) == (400, sentence)
    assert set(reply.document["error"]) == {"reference", "message", "hint"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContentUnknown("what"), 404),
        (UpstreamUnavailable("what", upstream="r.example"), 502),
        (RequestError("what", hint="try"), 400),
    ],
)
async def test_the_error_of_an_operation_has_its_reference(error: PullthroughError, status: int) -> None:
    reply = await ask(b'{"limit": 3}', error=error)
    refusal = {"reference": error.reference, "message": "what", "hint": error.hint}
    assert reply == Reply(status, {"error": refusal})


async def test_what_nobody_expected_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reply = await ask(b'{"limit": 3}', error=ZeroDivisionError("a secret"))
    assert (reply.status, reply.document["error"]["message"]) == (500, "the engine failed")
    assert "a secret" in caplog.text
