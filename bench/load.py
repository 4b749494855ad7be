"""What puts load on a candidate, on the clients' core: the C program for bodies, wrk for small answers, slow readers."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.assets import ACCEPT
from bench.machine import CLIENT_CORE, cpu_seconds, need, pinned
from bench.processes import Failed
from bench.servers import Server

GB = 1e9


@dataclass(frozen=True)
class BodyLoad:
    """Result of one load of bodies. `server_cpu_seconds` is of the same span."""

    seconds: float
    bytes: int
    client_cpu_seconds: float
    server_cpu_seconds: float
    responses: int
    first_byte_seconds: tuple[float, ...]
    connection_seconds: tuple[float, ...]

    @property
    def mb_per_second(self) -> float:
        return self.bytes / 1e6 / self.seconds

    @property
    def cpu_seconds_per_gb(self) -> float:
        return self.server_cpu_seconds / (self.bytes / GB)

    @property
    def first_byte_ms(self) -> float:
        return statistics.median(self.first_byte_seconds) * 1000

    def values(self) -> dict[str, float]:
        """The figures every body scenario reports; `client_busy` near 1 means that the client set the pace."""
        return {
            "mb_per_second": self.mb_per_second,
            "cpu_seconds_per_gb": self.cpu_seconds_per_gb,
            "client_busy": self.client_cpu_seconds / self.seconds,
        }


def start_body_load(
    program: Path, server: Server, path: str, *, clients: int = 1, requests: int = 1, seconds: float = 0
) -> subprocess.Popen[str]:
    """Start the C client: `requests` whole bodies a connection, or bodies until `seconds` are over."""
    command = [str(program), "-c", str(clients)]
    command += ["-s", str(seconds)] if seconds else ["-n", str(requests)]
    command += ["-t"] if server.tls else []
    command += [str(server.port), path]
    return subprocess.Popen(pinned(CLIENT_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish_body_load(client: subprocess.Popen[str], server: Server, cpu_before: float, *, settle: bool) -> BodyLoad:
    """Wait for it. With `settle` the server's CPU time counts until it is at rest (the work of a fill goes on behind)."""
    out, err = client.communicate(timeout=600)
    if settle:
        time.sleep(0.05)
        server.process.settle()
    cpu = cpu_seconds(server.process.pid) - cpu_before
    if client.returncode != 0:
        raise Failed(f"the load generator against {server.name}: {err.strip() or client.returncode}")
    result = json.loads(out)
    if result["errors"]:
        raise Failed(f"{server.name}: {result['errors']} of the clients failed; first: {result['error']}")
    return BodyLoad(
        seconds=result["seconds"],
        bytes=result["bytes"],
        client_cpu_seconds=result["cpu_seconds"],
        server_cpu_seconds=cpu,
        responses=result["responses"],
        first_byte_seconds=tuple(result["first_byte_seconds"]),
        connection_seconds=tuple(result["connection_seconds"]),
    )


def run_body_load(
    program: Path,
    server: Server,
    path: str,
    *,
    clients: int = 1,
    requests: int = 1,
    seconds: float = 0,
    settle: bool = False,
) -> BodyLoad:
    before = cpu_seconds(server.process.pid)
    client = start_body_load(program, server, path, clients=clients, requests=requests, seconds=seconds)
    return finish_body_load(client, server, before, settle=settle)


@dataclass(frozen=True)
class SmallLoad:
    requests_per_second: float
    p50_ms: float
    p99_ms: float

    def values(self) -> dict[str, float]:
        return {"requests_per_second": self.requests_per_second, "p99_ms": self.p99_ms}


#: wrk's units of time, in milliseconds.
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def run_small_load(
    server: Server, path: str, *, seconds: float, connections: int = 32, script: Path | None = None
) -> SmallLoad:
    """wrk with keep-alive connections; a `script` may make other requests than GET.

    Raises Failed where an answer was not 2xx, or a connection broke.
    """
    command = [
        need("wrk", "wrk"),
        "-t1",
        f"-c{connections}",
        f"-d{seconds:.0f}s",
        "--latency",
        "-H",
        f"Accept: {ACCEPT}",
        *(["-s", str(script)] if script else []),
    ]
    run = subprocess.run(
        pinned(CLIENT_CORE, [*command, f"{server.url}{path}"]), capture_output=True, text=True, check=False, timeout=120
    )
    found = re.search(r"^Requests/sec:\s+([\d.]+)", run.stdout, re.MULTILINE)
    percentiles = {
        int(match[1]): float(match[2]) * _UNITS[match[3]]
        for match in re.finditer(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", run.stdout, re.MULTILINE)
    }
    if found is None or "Non-2xx" in run.stdout or "Socket errors" in run.stdout or len(percentiles) < 2:
        raise Failed(f"wrk against {server.name}:\n{run.stdout}{run.stderr}")
    return SmallLoad(float(found[1]), percentiles[50], percentiles[99])


@contextlib.contextmanager
def slow_clients(server: Server, path: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have asked for a body and read almost nothing of it; closed at the end of the block.

    Their receive buffers are left as the kernel makes them: what is measured is the server.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    request = f"GET {path} HTTP/1.1\r\nHost: {server.address}\r\nAccept: */*\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            if server.tls:
                connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
            connection.sendall(request)
            sockets.append(connection)
        yield sockets


def sip(sockets: list[socket.socket], *, chunk_bytes: int, seconds: float, pause: float) -> int:
    """Read a little from each connection in turn, again and again for that long. Returns the bytes read."""
    total = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for connection in sockets:
            total += len(connection.recv(chunk_bytes))
        time.sleep(pause)
    return total
