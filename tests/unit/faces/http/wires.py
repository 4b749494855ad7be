"""A connection without a socket, on a clock that a test moves on."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ParamSpec

from aiohttp import web

from pullthrough.faces.face import FastAnswer
from pullthrough.faces.http.admission import Admission, Place
from pullthrough.faces.http.protocol import HttpProtocol

P = ParamSpec("P")


class Clock(asyncio.SelectorEventLoop):
    """Time passes in `pass_by` only."""

    now = 1000.0

    def time(self) -> float:
        return self.now


def on_a_clock(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run a test on such a loop."""

    @wraps(test)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=Clock) as runner:
            runner.run(test(*arguments, **options))

    return run


async def pass_by(seconds: float) -> None:
    """Let time pass, and what is due then happen."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Clock)
    loop.now += seconds
    await settle()


async def settle() -> None:
    """Until whatever is ready has run, in steps that wait for one another."""
    for _ in range(30):
        await asyncio.sleep(0)


class Kernel:
    """What a socket is asked for."""

    family = socket.AF_INET
    is_reset = False

    def setsockopt(self, *_: object) -> None: ...

    def getsockopt(self, level: int, option: int, length: int) -> bytes:
        assert (level, option, length) == (socket.IPPROTO_TCP, socket.TCP_INFO, 1)
        return bytes([7 if self.is_reset else 1])


class Wire(asyncio.Transport):
    """What the client has of the connection. `is_stalled`: it takes nothing, and what is sent waits here."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.waiting = bytearray()
        self.is_stalled = False
        self.is_read = True
        self.is_closed = False
        self.kernel = Kernel()
        self.tls: object = None
        self.protocol: HttpProtocol | None = None
        self._high = 64 * 1024

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("192.0.2.1", 5), "socket": self.kernel, "sslcontext": self.tls}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_stalled:
            self.sent += data
            return
        self.waiting += data
        if len(self.waiting) > self._high and self.protocol is not None and not self.protocol.writing_paused:
            self.protocol.pause_writing()

    def take(self) -> None:
        """The client reads again."""
        self.is_stalled = False
        self.sent += self.waiting
        self.waiting.clear()
        if self.protocol is not None and self.protocol.writing_paused:
            self.protocol.resume_writing()

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            if self.protocol is not None:
                asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", self.sent)]


async def ok(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=request.raw_path)


@dataclass
class Connected:
    """A connection that has been made. Use in a running loop."""

    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = ok
    fast: FastAnswer | None = None
    wire: Wire = field(default_factory=Wire)
    admission: Admission = field(default_factory=lambda: Admission(10))

    def __post_init__(self) -> None:
        place = self.admission.admit("192.0.2.1", self.wire.abort)
        assert place is not None
        self.place: Place = place
        server = web.Server(self.handler, handler_cancellation=True)
        self.protocol = HttpProtocol(server, place, self.fast, "192.0.2.1")
        self.wire.protocol = self.protocol
        self.protocol.connection_made(self.wire)

    async def say(self, *pieces: bytes) -> None:
        """What the client sends, each piece as the socket gives it; nothing after the connection's end."""
        for piece in pieces:
            if not self.wire.is_closed:
                self.protocol.data_received(piece)
            await settle()

    @property
    def phase(self) -> str:
        names = {id(getattr(self.admission, name)): name for name in ("new", "idle", "busy")}
        return names.get(id(self.place.line), "none")

    async def end(self) -> None:
        self.wire.abort()
        await settle()
