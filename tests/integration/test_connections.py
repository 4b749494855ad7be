"""More connections than there are places: clients that ask are served, whoever else is there, and little is said of it."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.certificates import Certificate, self_signed
from tests.e2e.clients import pullthrough
from tests.e2e.processes import Process, environment, wait_for
from tests.fakes.upstream import Gate, Hang, ScriptedUpstream
from tests.integration.sites import children, open_files
from tests.programs import needs

FILES = 300
#: Half of what is left without an eighth.
PLACES = 131
MANIFEST = "/v2/docker-hub/library/app/manifests/1"


class Served:
    """An engine that may open few files, with TLS where there is a certificate."""

    def __init__(self, process: Process, workers: int, certificate: Certificate | None) -> None:
        self.process = process
        self.workers = workers
        self._port = int(process.wait_for_line(r"listening on https?://127\.0\.0\.1:(\d+)")[1])
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.create_default_context(cafile=str(certificate.cert))
            self._tls.check_hostname = False

    def reach(self, source: str = "127.0.0.1") -> socket.socket:
        """A connection that says nothing."""
        return socket.create_connection(("127.0.0.1", self._port), timeout=60, source_address=(source, 0))

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        reached = self.reach(source)
        return reached if self._tls is None else self._tls.wrap_socket(reached)

    @property
    def pids(self) -> list[int]:
        return [self.process.pid] if self.workers == 1 else children(self.process.pid)

    @property
    def files(self) -> list[int]:
        """How many each worker has open."""
        return [open_files(pid) for pid in self.pids]

    def said(self, text: str) -> int:
        return self.process.text().count(text)


def status_of(connection: socket.socket, path: str = "/healthz") -> int | None:
    """None where the connection was closed."""
    try:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return read_status(connection)
    except ConnectionError:
        return None


def read_status(connection: socket.socket) -> int | None:
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return None
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return int(head.split()[1])


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path, workers: int, upstream: ScriptedUpstream) -> Iterator[Serve]:
    upstream.add("library/app", make_image("app", layer_sizes=(1000,)), "1")
    with ExitStack() as stack:

        def start(*, tls: bool = False, loop: str = "auto") -> Served:
            certificate = self_signed(tmp_path, "localhost") if tls else None
            config = tmp_path / "pullthrough.toml"
            config.write_text(
                f'standard_rules = false\n[serve]\nworkers = {workers}\nloop = "{loop}"\n'
                + (f'tls_cert = "{certificate.cert}"\ntls_key = "{certificate.key}"\n' if certificate else "")
                + '[rules.docker-hub]\nupstream = "registry-1.docker.io"\n'
                + f'[upstreams."registry-1.docker.io"]\nendpoint = "{upstream.url}"\nfirst_byte_timeout = "5m"\n'
            )
            command: list[str | Path] = [
                *(needs("prlimit"), f"--nofile={FILES}:{FILES}", pullthrough(), "serve", "--config", config),
                *("--data", tmp_path / "data", "--listen", "127.0.0.1:0"),
            ]
            process = Process("pullthrough serve", command, env=environment(tmp_path), log=tmp_path / "log")
            return Served(stack.enter_context(process), workers, certificate)

        yield start


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_connections_that_say_nothing_keep_nobody_out(serve: Serve, loop: str, tls: bool) -> None:
    served = serve(tls=tls, loop=loop)
    with ExitStack() as stack:
        first = stack.enter_context(served.connect())
        assert status_of(first, MANIFEST) == 200
        for _ in range(2 * served.workers * PLACES):
            stack.enter_context(served.reach())
        assert status_of(first, MANIFEST) == 200
        for _ in range(5):
            newcomer = stack.enter_context(served.connect())
            assert status_of(newcomer, MANIFEST) == 200
        wait_for(lambda: max(served.files) < PLACES + 100, "what gave way to be closed")
    assert 1 <= served.said("connections are short") <= served.workers
    assert not served.said("Traceback")
    assert not served.said("Too many open files")


def test_connections_between_two_requests_give_way_but_not_one_that_goes_on_asking(serve: Serve) -> None:
    served = serve()
    with ExitStack() as stack:
        first = stack.enter_context(served.connect())
        for number in range(2 * served.workers * PLACES):
            assert status_of(stack.enter_context(served.connect())) == 200
            if number % 20 == 0:
                assert status_of(first) == 200
    assert 1 <= served.said("connections are short") <= served.workers
    assert not served.said("Traceback")


def ask(connection: socket.socket) -> None:
    connection.sendall(f"GET {MANIFEST} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


def statuses_of(connections: list[socket.socket]) -> list[int | None]:
    statuses: list[int | None] = []
    for connection in connections:
        try:
            statuses.append(read_status(connection))
        except ConnectionError:
            statuses.append(None)
    return statuses


@pytest.mark.parametrize("workers", [1])
def test_one_client_gets_most_places_and_not_all_and_no_answer_is_broken_off(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    served, gate = serve(), Gate()
    upstream.script(Hang(gate), kind="manifest", repository="library/app")
    with ExitStack() as stack:
        other = stack.enter_context(served.connect("127.0.0.2"))
        asking = []
        for _ in range(PLACES):
            asking.append(stack.enter_context(served.connect()))
            ask(asking[-1])
            assert status_of(other) == 200  # by then most likely the request before was read
        for _ in range(5):
            assert status_of(stack.enter_context(served.connect("127.0.0.3"))) == 200
        gate.open()
        statuses = statuses_of(asking)
    # 115 are as many as seven times the 16 that are left, and three. One that is accepted before the request of another
    # was read may get in beyond.
    assert statuses[:115] == [200] * 115
    assert statuses.count(None) >= 8
    assert not served.said("Traceback")


def test_another_client_gets_in_though_one_asks_by_all_connections_at_once(
    serve: Serve, upstream: ScriptedUpstream
) -> None:
    served, gate = serve(), Gate()
    upstream.script(Hang(gate), kind="manifest", repository="library/app")
    with ExitStack() as stack:
        asking = [stack.enter_context(served.connect()) for _ in range(served.workers * PLACES)]
        for connection in asking:
            ask(connection)
        for _ in range(5):
            assert status_of(stack.enter_context(served.connect("127.0.0.2"))) == 200
        gate.open()
        statuses = statuses_of(asking)
    assert set(statuses) <= {200, None}
    assert not served.said("Traceback")


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_worker_without_descriptors_waits_for_some_and_says_so_once(serve: Serve, loop: str) -> None:
    served = serve(loop=loop)
    with served.connect() as first:
        assert status_of(first) == 200
        for pid in served.pids:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, FILES))
        with served.connect() as waiting:
            wait_for(lambda: served.said("could not be accepted") == served.workers, "the line of each worker")
            assert status_of(first) == 200
            for pid in served.pids:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (FILES, FILES))
            assert status_of(waiting) == 200
    assert served.said("could not be accepted") == served.workers
    assert not served.said("Traceback")


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_client_that_resets_behind_its_request_is_not_waited_for(
    serve: Serve, upstream: ScriptedUpstream, loop: str
) -> None:
    """Both come at once, as they do to a busy worker: it reads the request, and uvloop tells of no more."""
    served, gate = serve(loop=loop), Gate()
    upstream.script(Hang(gate), kind="manifest", repository="library/app")
    before = sum(served.files)
    connections = [served.connect() for _ in range(20)]
    for connection in connections:
        assert status_of(connection) == 200
    for pid in served.pids:
        os.kill(pid, signal.SIGSTOP)
    for connection in connections:
        ask(connection)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    for pid in served.pids:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: sum(served.files) < before + 15, "the connections to be closed")
    gate.open()


def test_handshakes_that_break_off_are_told_in_a_line(serve: Serve) -> None:
    served = serve(tls=True)
    for number in range(300):
        with served.reach() as reached:
            reached.sendall((b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello")[number % 3])
    with served.connect() as connection:
        assert status_of(connection) == 200
    wait_for(lambda: served.said("TLS handshakes broke off") > 0, "the line")
    assert served.said("TLS handshakes broke off") <= served.workers
    assert not served.said("Traceback")
    assert len(served.process.text()) < 10_000
