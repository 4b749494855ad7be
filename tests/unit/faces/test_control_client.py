"""The control socket's client against a real socket: answers, errors, and engines that are not there."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest

from pullthrough.cli.exit_codes import ExitCode, exit_code_of
from pullthrough.errors import UpstreamUnavailable
from pullthrough.faces.control.client import ControlClient, EngineError
from pullthrough.operations.check import CHECK
from pullthrough.operations.images import PIN, ImageRequest
from pullthrough.operations.operation import CacheOperation, NoInput
from tests.unit.cli.support import ControlSocket


@dataclass(frozen=True)
class Ready:
    ready: bool


class Engine:
    async def is_ready(self, request: NoInput) -> Ready:
        raise NotImplementedError("the scripted socket answers")


ARE_YOU_READY = CacheOperation("status", NoInput, Ready, Engine, Engine.is_ready, method="GET")


def test_an_answer_is_the_object_that_was_sent(short_path: Path) -> None:
    control = ControlSocket(short_path / "control.sock", {("GET", "/status"): (200, b'{"ready": true}')})
    with control.serving():
        client = ControlClient(control.path)
        assert client.is_live()
        assert client.perform(ARE_YOU_READY, NoInput()) == Ready(True)
    assert control.asked == [("GET", "/status", None)]


@pytest.mark.parametrize(
    ("status", "reference", "code"),
    [
        (404, "PT206", ExitCode.FAILED),
        (503, "PT303", ExitCode.UNREACHABLE),
        (400, "PT201", ExitCode.USAGE),
        (500, "PT999", 1),
    ],
)
def test_an_error_keeps_its_reference_message_hint_and_exit_code(
    short_path: Path, status: int, reference: str, code: int
) -> None:
    body = json.dumps({"error": {"reference": reference, "message": "what", "hint": "try"}}).encode()
    control = ControlSocket(short_path / "control.sock", {("POST", "/pin"): (status, body)})
    with control.serving(), pytest.raises(EngineError) as caught:
        ControlClient(control.path).perform(PIN, ImageRequest("a"))
    assert (caught.value.reference, caught.value.message, caught.value.hint) == (reference, "what", "try")
    assert exit_code_of(caught.value) == code


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b"\xff"),
        (500, b"{}"),
        (500, b'{"error": "x"}'),
        (404, b""),
        (0, b""),
    ],
)
def test_an_answer_that_cannot_be_right_is_said_to_be_so(short_path: Path, status: int, body: bytes) -> None:
    control = ControlSocket(short_path / "control.sock", {("POST", "/check"): (status, body)})
    with control.serving(), pytest.raises(UpstreamUnavailable, match="the engine at"):
        ControlClient(control.path).perform(CHECK, NoInput())


def test_no_socket_and_a_socket_that_nobody_listens_to_are_no_engine(short_path: Path) -> None:
    path = short_path / "control.sock"
    assert not ControlClient(path).is_live()
    assert not ControlClient(short_path / "nowhere" / "control.sock").is_live()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    assert not ControlClient(path).is_live()
    path.unlink()
    path.write_text("not a socket")
    assert not ControlClient(path).is_live()


def test_a_path_longer_than_a_sockets_address_is_reached(short_path: Path) -> None:
    folder = short_path / ("x" * 120)
    folder.mkdir()
    control = ControlSocket(short_path / "control.sock", {("GET", "/status"): (200, b'{"ready": false}')})
    with control.serving():
        (short_path / "control.sock").rename(folder / "control.sock")
        client = ControlClient(folder / "control.sock")
        assert client.is_live()
        assert client.perform(ARE_YOU_READY, NoInput()) == Ready(False)
