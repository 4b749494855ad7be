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

from pullthrough.cli.dependencies import Dependencies
from pullthrough.cli.main import execute
from pullthrough.errors import PullthroughError
from pullthrough.operations.json_form import from_json
from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, Performer, RequestT
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


class FakeOperations(Performer):
    """Answers what it was given, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, dict[str, Any] | PullthroughError]) -> None:
        self._answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        self.asked.append((operation.name, operation.document(request)))
        answer = self._answers[operation.name]
        if isinstance(answer, PullthroughError):
            raise answer
        return from_json(operation.answer, answer)


@dataclass
class Offline:
    """Stands for working on a folder that no engine holds; counts how often the folder was taken and given back."""

    operations: Performer
    taken: list[Loaded] = field(default_factory=list)
    given_back: int = 0

    @contextmanager
    def __call__(self, loaded: Loaded) -> Iterator[Performer]:
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

    def __call__(self, *arguments: str, environ: Mapping[str, str] | None = None, **dependencies: Any) -> Outcome:
        environ = {"HOME": str(self.folder), "PULLTHROUGH_SERVE_DATA": str(self.folder / "data"), **(environ or {})}
        code = execute(arguments, Dependencies(environ=environ, **dependencies))
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
