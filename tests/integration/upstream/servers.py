"""Tiny blocking servers on loopback that say exactly what a test tells them to, byte for byte."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlsplit

#: A thread that does not end within this time is stuck; the test then fails rather than hang.
STUCK_SECONDS = 60


@dataclass(frozen=True)
class Asked:
    """One request as it arrived. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    #: Number of the connection it came over, from 0.
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.target).query)

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Reply:
    """An answer with a right Content-Length, unless `raw` says otherwise."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self, method: str) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Whatever"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not any(name.lower() in ("content-length", "transfer-encoding") for name in self.headers):
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        return head if method == "HEAD" else head + self.body


def json_reply(document: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "application/json", **named}, json.dumps(document).encode())


def error_reply(status: int, code: str, message: str = "says the test", **headers: str) -> Reply:
    return json_reply({"errors": [{"code": code, "message": message}]}, status, **headers)


#: Gives a Reply, bytes to be sent as they are (the connection is closed after them), or writes to the socket itself and
#: gives None (closed, too).
Handler = Callable[[Asked, socket.socket], "Reply | bytes | None"]


def answering(reply: Reply) -> Handler:
    """The same to everything."""
    return lambda asked, sock: reply


class Server:
    """Serves until the end of its `with`. `asked` grows in the order of arrival."""

    def __init__(self, handler: Handler, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.handler = handler
        self.asked: list[Asked] = []
        self.connections = 0
        #: Certificates that clients showed, as getpeercert gives them.
        self.client_certificates: list[object] = []
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.host, self.port = host, int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._closed = threading.Event()
        self._arrived = threading.Condition()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def lines(self) -> list[str]:
        return [str(asked) for asked in self.asked]

    @property
    def closed(self) -> threading.Event:
        """Handlers that wait should wait for this."""
        return self._closed

    def hang(self) -> None:
        """For handlers: nothing more until the server ends."""
        self._closed.wait(STUCK_SECONDS)

    async def until_asked(self, count: int = 1) -> None:
        """Until so many requests have arrived. Raises TimeoutError."""

        def wait() -> None:
            with self._arrived:
                if not self._arrived.wait_for(lambda: len(self.asked) >= count, STUCK_SECONDS):
                    raise TimeoutError(f"{len(self.asked)} of {count} requests arrived")

        await asyncio.to_thread(wait)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        # close() alone would leave accept() blocked.
        for sock in (self._listener, *self._sockets):
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass
        self._listener.close()
        for thread in self._threads:
            thread.join(STUCK_SECONDS)
            assert not thread.is_alive(), "a server's thread is stuck"

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            self._sockets.append(sock)
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._sockets.append(sock)
                self.client_certificates.append(sock.getpeercert())
            with sock, sock.makefile("rb") as reader:
                while (asked := read_request(reader.readline, number)) is not None:
                    with self._arrived:
                        self.asked.append(asked)
                        self._arrived.notify_all()
                    reply = self.handler(asked, sock)
                    if isinstance(reply, Reply):
                        sock.sendall(reply.encode(asked.method))
                        continue
                    if reply is not None:
                        sock.sendall(reply)
                    close_cleanly(sock)
                    return
        except OSError:
            pass  # the client left
        finally:
            sock.close()


def silent() -> Server:
    """Takes requests and never answers."""
    server = Server(lambda asked, sock: server.hang())
    return server


def read_request(readline: Callable[[], bytes], connection: int = 0) -> Asked | None:
    line = readline().decode("latin-1")
    if not line.strip():
        return None
    method, target, _ = line.split(" ", 2)
    headers: dict[str, str] = {}
    while (line := readline().decode("latin-1").rstrip("\r\n")) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(method, target, headers, connection)


def close_cleanly(sock: socket.socket) -> None:
    """FIN, then wait for the other side's: closing with unread input would reset the connection."""
    try:
        socket.socket.shutdown(sock, socket.SHUT_WR)
        sock.settimeout(STUCK_SECONDS)
        while sock.recv(4096):
            pass
    except OSError:
        pass


class ConnectProxy:
    """A real proxy: CONNECT tunnels, and plain requests with a whole URL. `route` says where a name really is."""

    def __init__(
        self, route: Callable[[str, int], tuple[str, int]], *, refuse: bytes = b"", answer: Reply | None = None
    ) -> None:
        self._route = route
        self._refuse = refuse
        self._answer = answer
        self.asked: list[Asked] = []
        self._server = Server(self._handle)

    @property
    def url(self) -> str:
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def lines(self) -> list[str]:
        return [f"{asked.method} {asked.target}" for asked in self._server.asked]

    @property
    def requests(self) -> list[Asked]:
        return self._server.asked

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.__exit__(*exc)

    def _handle(self, asked: Asked, sock: socket.socket) -> Reply | bytes | None:
        if self._refuse:
            return self._refuse
        if asked.method != "CONNECT":
            assert self._answer is not None
            return self._answer
        host, _, port = asked.target.rpartition(":")
        with socket.create_connection(self._route(host.strip("[]"), int(port))) as far:
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(far, sock), daemon=True)
            back.start()
            _pump(sock, far)
            back.join(STUCK_SECONDS)
        return None


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while part := source.recv(65536):
            target.sendall(part)
    except OSError:
        pass
    for sock in (target, source):
        try:
            sock.shutdown(socket.SHUT_WR if sock is target else socket.SHUT_RD)
        except OSError:
            pass
