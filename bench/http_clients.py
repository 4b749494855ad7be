"""Our client for upstreams against urllib3: the CPU time of small questions and of bodies, plain and over TLS, on loopback.

    python -m bench.http_clients [--rounds 12] [--seconds 0.5]

Both ask the same server, a process of its own, over one kept connection; they take turns within a round, in random order,
and what counts is the ratio of their CPU times in a round (bench/compare.py). The result stands in docs/dependencies.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import socket
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import urllib3

from bench.compare import interval
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import anywhere_but_metadata, classify
from pullthrough.upstream.http.connections import Connections
from pullthrough.upstream.http.dialing import Dialer
from pullthrough.upstream.http.proxies import Proxies
from pullthrough.upstream.http.resolver import Resolver
from pullthrough.upstream.http.tls import SystemTrust, TlsContexts
from pullthrough.upstream.http.transport import Transport
from pullthrough.upstream.http.urls import parse_url

SMALL = bytes(2048)
BODY_BYTES = 256 * 1024 * 1024
READ_BYTES = 1024 * 1024
_PIECE = bytes(1024 * 1024)
_HEADERS = (
    "Content-Type: application/vnd.oci.image.index.v1+json\r\nDocker-Content-Digest: sha256:" + "0" * 64 + "\r\n"
    'Docker-Distribution-Api-Version: registry/2.0\r\nEtag: "sha256:' + "0" * 64 + '"\r\n'
    "Date: Tue, 01 Dec 2026 01:00:00 GMT\r\nRateLimit-Limit: 100;w=21600\r\nRateLimit-Remaining: 76;w=21600\r\n"
)


# -- the server


def serve(ports: multiprocessing.Queue[int], certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for tls in (None, context):
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=_accept, args=(listener, tls), daemon=True).start()
        ports.put(listener.getsockname()[1])
    threading.Event().wait()


def _accept(listener: socket.socket, tls: ssl.SSLContext | None) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_answer, args=(sock, tls), daemon=True).start()


def _answer(sock: socket.socket, tls: ssl.SSLContext | None) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection = tls.wrap_socket(sock, server_side=True) if tls else sock
    with connection, connection.makefile("rb") as reader:
        while line := reader.readline():
            while reader.readline() not in (b"\r\n", b""):
                pass
            is_body = b" /body " in line
            size = BODY_BYTES if is_body else len(SMALL)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n{_HEADERS}\r\n".encode()
            if not is_body:
                connection.sendall(head + SMALL)
                continue
            connection.sendall(head)
            for _ in range(size // len(_PIECE)):
                connection.sendall(_PIECE)


# -- the clients


class _Nobody:
    def on_request(self, upstream: str, method: str, status: int | None) -> None: ...
    def on_bytes(self, upstream: str, size_bytes: int) -> None: ...
    def on_budget(self, upstream: str, remaining: int | None, paused_until: float) -> None: ...
    def on_health(self, upstream: str, healthy: bool) -> None: ...
    def on_credential(self, upstream: str, ok: bool) -> None: ...


_ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"


class Ours:
    def __init__(self, base: str, certificate: Path) -> None:
        dialer = Dialer(
            "upstream",
            proxies=Proxies("", {}),
            tls=TlsContexts(ca_file=certificate, client_cert=None, client_key=None, system=SystemTrust()),
            resolver=Resolver(),
            connect_timeout_seconds=10,
            classify=classify,
            monotonic=time.monotonic,
        )
        self._transport = Transport(
            "upstream",
            Connections(dialer),
            first_byte_timeout_seconds=30,
            stall_timeout_seconds=60,
            observe=_Nobody(),
        )
        self._base = parse_url(base)
        self._buffer = memoryview(bytearray(READ_BYTES))

    def small(self) -> int:
        abort = AbortHandle()
        response = self._transport.send(
            "GET", self._base.at("/small"), {"Accept": _ACCEPT}, own=True, admits=anywhere_but_metadata, abort=abort
        )
        return len(response.read(1024 * 1024, "it"))

    def body(self) -> int:
        abort, got = AbortHandle(), 0
        response = self._transport.send(
            "GET", self._base.at("/body"), {}, own=True, admits=anywhere_but_metadata, is_body=True, abort=abort
        )
        while count := response.readinto(self._buffer):
            got += count
        response.finish()
        return got


class Urllib3:
    def __init__(self, base: str, certificate: Path) -> None:
        self._pool = urllib3.PoolManager(
            ca_certs=str(certificate), retries=False, timeout=urllib3.Timeout(connect=10, read=60)
        )
        self._base = base

    def small(self) -> int:
        response = self._pool.request(
            "GET",
            f"{self._base}/small",
            headers={"Accept": _ACCEPT, "Accept-Encoding": "identity", "User-Agent": "pullthrough/0"},
            redirect=False,
            preload_content=False,
        )
        body = response.read(1024 * 1024, decode_content=False)
        response.drain_conn()
        response.release_conn()
        return len(body)

    def body(self) -> int:
        got = 0
        response = self._pool.request("GET", f"{self._base}/body", redirect=False, preload_content=False)
        while piece := response.read(READ_BYTES, decode_content=False):
            got += len(piece)
        response.release_conn()
        return got


# -- the measurement


@dataclass(frozen=True)
class Figure:
    cpu_seconds: float
    wall_seconds: float
    count: int


def measure(work: Callable[[], int], seconds: float) -> Figure:
    count, cpu, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < seconds or not count:
        work()
        count += 1
    return Figure(time.process_time() - cpu, time.perf_counter() - wall, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certificate = _certificate(Path(folder))
        ports: multiprocessing.Queue[int] = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(ports, certificate), daemon=True)
        server.start()
        bases = {"plain": f"http://127.0.0.1:{ports.get()}", "TLS": f"https://127.0.0.1:{ports.get()}"}
        print(f"urllib3 {version('urllib3')}, {ssl.OPENSSL_VERSION}, {options.rounds} rounds\n")
        print("| work | ours | urllib3 | CPU time, urllib3 / ours |\n| --- | --- | --- | --- |")
        for transport, base in bases.items():
            clients: dict[str, Ours | Urllib3] = {
                "ours": Ours(base, certificate),
                "urllib3": Urllib3(base, certificate),
            }
            for work in ("small", "body"):
                _row(f"{work}, {transport}", work, clients, options.rounds, options.seconds)
        server.terminate()


def _row(title: str, work: str, clients: dict[str, Ours | Urllib3], rounds: int, seconds: float) -> None:
    expected = len(SMALL) if work == "small" else BODY_BYTES
    figures: dict[str, list[Figure]] = {name: [] for name in clients}
    for client in clients.values():
        assert getattr(client, work)() == expected
    for _ in range(rounds):
        for name in random.sample(list(clients), len(clients)):
            figures[name].append(measure(getattr(clients[name], work), seconds))
    ratios = [
        (theirs.cpu_seconds / theirs.count) / (ours.cpu_seconds / ours.count)
        for ours, theirs in zip(figures["ours"], figures["urllib3"], strict=True)
    ]
    cells = [_text(work, figures[name]) for name in clients]
    print(f"| {title} | {' | '.join(cells)} | {interval(ratios).text(3)} |", flush=True)


def _text(work: str, figures: list[Figure]) -> str:
    cpu = statistics.median(each.cpu_seconds / each.count for each in figures)
    if work == "small":
        rate = statistics.median(each.count / each.wall_seconds for each in figures)
        return f"{cpu * 1e6:.0f} µs CPU, {rate:,.0f}/s"
    return f"{cpu / BODY_BYTES * 1e9:.3f} CPU s/GB"


def _certificate(folder: Path) -> Path:
    path = folder / "server.pem"
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", path)
    name = ("-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-out", folder / "crt")
    subprocess.run(["openssl", "req", "-x509", *key, *name], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (folder / "crt").read_bytes())
    return path


if __name__ == "__main__":
    main()
