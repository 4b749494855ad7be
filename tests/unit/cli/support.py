"""Running a command with parts of the test's own."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pullthrough.cli.main import execute
from pullthrough.cli.operations import Operations
from pullthrough.cli.parts import Parts
from pullthrough.errors import PullthroughError
from pullthrough.settings import Loaded


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]


class FakeOperations:
    """Answers what it was given, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, dict[str, Any] | PullthroughError]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def _answer(self, what: str, request: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append((what, dict(request)))
        answer = self._answers[what]
        if isinstance(answer, PullthroughError):
            raise answer
        return answer

    def refresh(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("refresh", request)

    def pin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("pin", request)

    def unpin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("unpin", request)

    def evict(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("evict", request)

    def events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("events", request)

    def lifecycle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("lifecycle", request)

    def keys(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("keys", request)

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer("check", request)


@dataclass
class Offline:
    """Stands for working on a folder that no engine holds; counts how often the folder was taken and given back."""

    operations: Operations
    taken: list[Loaded] = field(default_factory=list)
    given_back: int = 0

    @contextmanager
    def __call__(self, loaded: Loaded) -> Iterator[Operations]:
        self.taken.append(loaded)
        try:
            yield self.operations
        finally:
            self.given_back += 1


@dataclass
class Command:
    """`run(...)` runs one command line in `folder`."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, environ: Mapping[str, str] | None = None, **parts: Any) -> Outcome:
        environ = {"HOME": str(self.folder), "PULLTHROUGH_SERVE_DATA": str(self.folder / "data"), **(environ or {})}
        code = execute(arguments, Parts(environ=environ, **parts))
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@dataclass
class ControlSocket:
    """A control socket that gives scripted answers: for each method and path a status and a body."""

    path: Path
    answers: dict[tuple[str, str], tuple[int, bytes]]
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    @contextmanager
    def serving(self) -> Iterator[ControlSocket]:
        control = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(length)
                control.asked.append((self.command, self.path, json.loads(body) if body else None))
                status, answer = control.answers[self.command, self.path]
                if not status:  # the engine dies here
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = _answer

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "unix"

        with _Server(str(self.path), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
