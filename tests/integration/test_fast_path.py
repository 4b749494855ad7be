"""The fast path gives the answer that the ordinary path gives, and keeps its place on a shared connection."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.conftest import StartEngine

PATH = "/v2/docker-hub/library/app/manifests/1"
#: A header the fast path does not know: the ordinary path answers.
UNUSUAL = "X-Unusual: 1\r\n"


class Connection:
    """One raw connection; answers are read one by one."""

    def __init__(self, engine: Engine) -> None:
        url = urlsplit(engine.url)
        self._socket = socket.create_connection((url.hostname, url.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, *, head: bool = False) -> tuple[list[str], bytes]:
        """Status line and header lines, without what the moment decides, and the body."""
        lines = []
        while line := self._file.readline().decode().rstrip():
            lines.append(re.sub(r"age=\d+", "age", line))
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("Content-Length"))
        kept = sorted(line for line in lines if not line.startswith(("Date", "Connection")))
        return kept, b"" if head else self._file.read(length)

    def at_end_or_answers(self, data: bytes) -> int | None:
        """None where the other side has closed, else the status of the one answer that `data` gets."""
        try:
            self.send(data)
            line = self._file.readline()
        except ConnectionError:
            return None
        return int(line.split()[1]) if line else None

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def request(*, method: str = "GET", path: str = PATH, more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: cache\r\n{more}\r\n".encode()


@pytest.fixture
def engine(start_engine: StartEngine, upstream: ScriptedUpstream) -> Engine:
    upstream.add("library/app", make_image("app", layer_sizes=(1000,)), "1")
    return start_engine()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Warm: this connection's worker has the manifest in memory, and waits for the next request."""
    connection = Connection(engine)
    for _ in range(2):
        connection.send(request())
        assert connection.receive()[0][0]
    yield connection
    connection.close()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [PATH, "/v2/library/app/manifests/1?ns=docker.io"])
def test_both_paths_give_the_same_answer(connection: Connection, method: str, path: str) -> None:
    answers = []
    for more in ("", UNUSUAL):
        connection.send(request(method=method, path=path, more=more))
        answers.append(connection.receive(head=method == "HEAD"))
    assert answers[0] == answers[1]
    assert any(line.startswith("X-Cache: hit") for line in answers[0][0])


def test_requests_sent_together_are_answered_in_their_order(connection: Connection) -> None:
    blob = "/v2/docker-hub/library/app/tags/list"
    connection.send(request() + request(path=blob) + request(more=UNUSUAL) + request())
    bodies = [connection.receive()[1] for _ in range(4)]
    assert bodies[0] == bodies[2] == bodies[3]
    assert bodies[1].startswith(b'{"name"')


def test_a_request_in_pieces_is_put_together(connection: Connection) -> None:
    whole = request()
    for piece in (whole[:10], whole[10:-2], whole[-2:]):
        connection.send(piece)
    first = connection.receive()
    connection.send(whole)
    assert connection.receive() == first


def test_the_bytes_of_a_body_are_never_taken_for_a_request(connection: Connection) -> None:
    """A body that looks like a plain request for a manifest, behind headers that went out on their own."""
    smuggled = request()
    connection.send(f"POST {PATH} HTTP/1.1\r\nHost: cache\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode())
    connection.send(smuggled)
    lines, _ = connection.receive()
    assert "HTTP/1.1 401 Unauthorized" in lines
    assert connection.at_end_or_answers(request()) in (None, 200)


def test_a_change_in_the_catalog_is_seen_by_the_next_request(
    connection: Connection, engine: Engine, upstream: ScriptedUpstream
) -> None:
    connection.send(request())
    before = connection.receive()[1]
    upstream.add("library/app", make_image("other", layer_sizes=(2000,)), "1")
    engine.command("refresh", "docker-hub/library/app:1")
    connection.send(request())
    assert connection.receive()[1] != before


def test_fast_answers_are_counted_and_logged(connection: Connection, engine: Engine) -> None:
    connection.send(request())
    connection.receive()
    assert 'pullthrough_requests_total{kind="manifest",outcome="hit",rule="docker-hub"} 2.0' in engine.metrics()
    wait_for(lambda: engine.log.read_text().count('"outcome": "hit"') == 2, "two log lines")
