"""One engine for many tests of transfers, each in a corner of its own, and clients that read at the test's pace.

A corner is a rule, an upstream's name and a repository that no other test uses. All corners lead to one scripted upstream,
but the engine keeps a breaker and connections for each, so that what one test breaks does not reach the next.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

from pullthrough.demo.images import Blob, Image, make_blob, make_image
from pullthrough.demo.requests import RequestRecord
from tests.e2e.engine import Answer, Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Action, Script, ScriptedUpstream

#: What the engine keeps back until the digest is known (engine/pull/fills/fills.py).
HELD_BACK = 64 * 1024
KIB = 1024
MIB = 1024 * 1024


class Broken(Exception):
    """The body did not end as its head said it would."""


class Served(Protocol):
    """Whatever answers at a URL."""

    @property
    def url(self) -> str: ...


class Download:
    """One request on a connection; the body is read as the test says.

    `connection` may be one that leads to a certain worker (`Site.connect`).
    """

    def __init__(
        self,
        engine: Served,
        path: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        version: str = "HTTP/1.1",
        connection: socket.socket | None = None,
    ) -> None:
        url = urlsplit(engine.url)
        assert url.hostname
        assert url.port
        self.socket = connection or socket.create_connection((url.hostname, url.port), timeout=60)
        lines = [
            f"{method} {path} {version}",
            f"Host: {url.netloc}",
            *(f"{k}: {v}" for k, v in (headers or {}).items()),
        ]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._response = http.client.HTTPResponse(self.socket, method=method)
        self._answered = False

    def _answer(self) -> http.client.HTTPResponse:
        """Waits for the head, the first time."""
        if not self._answered:
            try:
                self._response.begin()
            except (OSError, http.client.HTTPException) as error:
                raise Broken(f"no answer: {error!r}") from error
            self._answered = True
        return self._response

    @property
    def status(self) -> int:
        return self._answer().status

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self._answer().getheaders()}

    @property
    def outcome(self) -> str:
        return self.headers.get("x-cache", "").partition(";")[0].strip()

    def read(self, size_bytes: int) -> bytes:
        """Exactly so many bytes."""
        try:
            data = self._answer().read(size_bytes)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(repr(error)) from error
        if len(data) < size_bytes:
            raise Broken(f"{len(data)} of {size_bytes} bytes came")
        return data

    def rest(self) -> bytes:
        """All that is left. Raises Broken where the body does not end as it should; what came is `broken.args[0]`."""
        received = bytearray()
        try:
            while part := self._answer().read1(65536):
                received += part
            if self._response.length:
                raise Broken(bytes(received))
        except (OSError, http.client.HTTPException) as error:
            raise Broken(bytes(received)) from error
        return bytes(received)

    @property
    def is_silent(self) -> bool:
        """Whether no byte of the body has come since the last read. The line end behind a chunk is none, of which the first
        half may have been read with the chunk."""
        self.socket.setblocking(False)
        try:
            return self.socket.recv(16, socket.MSG_PEEK) in (b"", b"\r", b"\r\n", b"\n")
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(60)

    def close(self) -> None:
        self._response.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Corner:
    """The repository of one test."""

    site: Site
    prefix: str
    #: As the upstream knows it.
    repository: str

    @property
    def engine(self) -> Engine:
        return self.site.engine

    @property
    def upstream(self) -> ScriptedUpstream:
        return self.site.upstream

    def add(self, image: Image, tag: str = "1", *, known: bool = True) -> Image:
        """`known`: the engine has its manifest, and so the sizes and places of its blobs."""
        self.upstream.add(self.repository, image, tag)
        if known:
            assert self.engine.get(f"/v2/{self.prefix}/{self.repository}/manifests/{tag}").status == 200
        return image

    def blob(self, size_bytes: int, *, known: bool = True, algorithm: str = "sha256") -> Blob:
        """A layer, alone in its image."""
        return self.blobs(size_bytes, known=known, algorithm=algorithm)[0]

    def blobs(self, *sizes: int, known: bool = True, algorithm: str = "sha256") -> tuple[Blob, ...]:
        """The layers of one image."""
        seed = f"{self.prefix}/{sizes}"
        layers = tuple(make_blob(f"{seed}/{number}", size, algorithm=algorithm) for number, size in enumerate(sizes))
        self.add(make_image(seed, layers=layers), "-".join(map(str, sizes)), known=known)
        return layers

    def path(self, digest: str) -> str:
        return f"/v2/{self.prefix}/{self.repository}/blobs/{digest}"

    def get(self, blob: Blob, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        return self.engine.get(self.path(blob.digest), method=method, headers=headers)

    def open(
        self,
        blob: Blob,
        *,
        headers: Mapping[str, str] | None = None,
        version: str = "HTTP/1.1",
        connection: socket.socket | None = None,
    ) -> Download:
        return Download(self.engine, self.path(blob.digest), headers=headers, version=version, connection=connection)

    def script(
        self,
        *actions: Action,
        reference: str | None = None,
        kind: str = "blob",
        method: str | None = "GET",
        nth: int | range | None = None,
    ) -> Script:
        return self.upstream.script(
            *actions, kind=kind, repository=self.repository, reference=reference, method=method, nth=nth
        )

    def asked(self, blob: Blob, method: str = "GET") -> list[RequestRecord]:
        """What the upstream was asked about the blob under this repository's name."""
        return self.upstream.requests.select(
            kind="blob", repository=self.repository, reference=blob.digest, method=method
        )

    def cost(self, blob: Blob) -> dict[str, int]:
        """Method -> requests that the upstream had for the blob."""
        counted = {method: len(self.asked(blob, method)) for method in ("GET", "HEAD")}
        return {method: count for method, count in counted.items() if count}

    def wait_for_cost(self, blob: Blob, method: str, count: int) -> None:
        self.upstream.requests.wait_for(lambda _: len(self.asked(blob, method)) >= count)

    def is_published(self, blob: Blob) -> bool:
        algorithm, _, hexadecimal = blob.digest.partition(":")
        return (self.engine.data / "blobs" / algorithm / hexadecimal[:2] / hexadecimal).exists()

    def wait_published(self, blob: Blob) -> None:
        wait_for(lambda: self.is_published(blob), f"{blob.digest} in the store")
        # The file comes before the row.
        wait_for(lambda: self.get(blob, method="HEAD").outcome == "hit", f"{blob.digest} in the catalog")

    def partial(self, blob: Blob) -> Path:
        owner = f"{self.prefix}.example/{self.repository}"
        key = hashlib.sha256(owner.encode()).hexdigest()[:16]
        return self.engine.data / "fills" / f"{blob.digest.replace(':', '-')}@{key}"


@dataclass
class Site:
    engine: Engine
    upstream: ScriptedUpstream
    workers: int
    prefixes: list[str]
    _used: Iterator[str] = field(init=False)

    def __post_init__(self) -> None:
        self._used = iter(self.prefixes)

    def corner(self) -> Corner:
        prefix = next(self._used)
        return Corner(self, prefix, f"acme/{prefix}")

    def hasty_corner(self) -> Corner:
        """The one whose upstream is given 300 ms to go on; for one test a site."""
        return Corner(self, "hasty", "acme/hasty")

    @property
    def pids(self) -> list[int]:
        """The processes that serve."""
        return [self.engine.pid] if self.workers == 1 else children(self.engine.pid)

    def connect(self, pid: int, address: str = "") -> socket.socket:
        """A connection that this very worker has accepted: the others are halted meanwhile. `address` is the client's."""
        url = urlsplit(self.engine.url)
        others = [other for other in self.pids if other != pid]
        for other in others:
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGSTOP)
        try:
            where, source = (url.hostname or "", url.port or 0), (address, 0) if address else None
            connection = socket.create_connection(where, timeout=60, source_address=source)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
            return connection
        finally:
            for other in others:
                with suppress(ProcessLookupError):
                    os.kill(other, signal.SIGCONT)

    def two_connections(self) -> tuple[socket.socket, socket.socket]:
        """To two workers, or twice to the only one."""
        first, second = (self.pids * 2)[:2]
        return self.connect(first), self.connect(second)

    def leader_of(self, path: Path) -> int:
        """The process that holds the lock on a partial file."""
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            match = re.search(r"FLOCK\s+ADVISORY\s+WRITE\s+(\d+)\s+\S+:(\d+)\s", line)
            if match and int(match[2]) == inode:
                return int(match[1])
        raise AssertionError(f"nobody leads {path}")

    @property
    def is_idle(self) -> bool:
        """At most a few ticks of a hundredth of a second in a third of one: timers, no work."""
        before = sum(map(cpu_ticks, self.pids))
        time.sleep(0.3)  # there is nothing to wait for but time itself
        return sum(map(cpu_ticks, self.pids)) - before <= 3

    def logged(self) -> str:
        return self.engine.log.read_text()


@contextmanager
def open_site(
    folder: Path, workers: int, *, serve: str = "", reach: str = "", rule: str = "", corners: int = 60
) -> Iterator[Site]:
    with ScriptedUpstream() as upstream:
        yield from _site(folder, upstream, workers, serve, reach, rule, corners)


def _site(
    folder: Path, upstream: ScriptedUpstream, workers: int, serve: str, reach: str, rule: str, corners: int
) -> Iterator[Site]:
    engine = Engine(folder / "engine", configuration(upstream, workers, serve, reach, rule, corners))
    try:
        engine.start()
        yield Site(engine, upstream, workers, [f"c{number}" for number in range(corners)])
    finally:
        engine.end()


def configuration(
    upstream: ScriptedUpstream, workers: int, serve: str = "", reach: str = "", rule: str = "", corners: int = 1
) -> str:
    lines = ["standard_rules = false", "[serve]", f"workers = {workers}", serve]
    for number in range(corners):
        lines += [f"[rules.c{number}]", f'upstream = "c{number}.example"', rule]
        lines += [f'[upstreams."c{number}.example"]', f'endpoint = "{upstream.url}"', "retries = 0", reach]
    lines += ["[rules.hasty]", 'upstream = "hasty.example"', '[upstreams."hasty.example"]']
    lines += [f'endpoint = "{upstream.url}"', "retries = 0", 'stall_timeout = "300ms"']
    return "\n".join(lines)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident_bytes(pid: int) -> int:
    """Memory that the process has for itself: what workers share with their parent counts once, what files take not."""
    text = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"RssAnon:\s+(\d+) kB", text)
    assert match
    return int(match[1]) * KIB


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def in_threads(count: int, work: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def gather(count: int, work: Callable[[int], bytes]) -> list[bytes]:
    """What `count` clients got at once."""
    results: list[bytes | BaseException | None] = [None] * count

    def one(number: int) -> None:
        try:
            results[number] = work(number)
        except BaseException as error:  # raised again where pytest sees it
            results[number] = error

    for thread in in_threads(count, one):
        thread.join(100)
    bodies = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        assert result is not None, "a client hangs"
        bodies.append(result)
    return bodies


def is_whole(blob: Blob, body: bytes) -> bool:
    algorithm, _, hexadecimal = blob.digest.partition(":")
    return hashlib.new(algorithm, body).hexdigest() == hexadecimal
