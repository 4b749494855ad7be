"""A registry that misbehaves on demand, and one that does not even speak HTTP.

`ScriptedUpstream` is the demo's Docker Hub look-alike (`pullthrough.demo.upstream`: token flow, rate limit, ranges,
redirects, referrers; see there for its options) in a thread of its own, so that blocking code, async code and other
processes can use it alike. Everything below may be called from any thread.

    image = make_index(make_image("app", layer_sizes=(100_000, 0)), make_image("app-arm", platform="linux/arm64"))
    with ScriptedUpstream(rate_limit=100) as upstream:
        upstream.add("library/app", image, "1", "latest")
        ...                                          # ask upstream.url, http://127.0.0.1:port; upstream.host has no http://
        assert upstream.requests.count(kind="manifest", method="GET") == 2
        assert upstream.requests.count(kind="blob", reference=digest) == 1
        assert upstream.requests.bytes_sent < 200_000
        upstream.stop()                              # cut off: connections are reset, new ones refused
        upstream.start()                             # back, on the same port

Without options it wants no authentication, to keep counts simple; `authentication="bearer"` or `"basic"` switch it on.

**Faults.** `script` takes one or more actions, and says which requests they befall: by kind, reference, repository,
method, and by number (`nth=1` the first that matches, `nth=(1, 3)`, `nth=range(2, 99)`, `None` all). The newest script
that matches wins; a request befalls one script only. `script.hits` counts, `script.remove()` ends it.

    upstream.script(Status(503), kind="manifest", method="HEAD")
    upstream.script(Reset(after_bytes=5000), kind="blob", reference=digest, nth=1)
    upstream.script(IgnoreRange(), Close(after_bytes=10), kind="blob", nth=2)    # actions add up

| action | what the client sees |
| --- | --- |
| `Status(code, retry_after=…)` | that status with the registry's JSON error |
| `Html(status=200)`, `Text(text, status=200)` | a page of something else altogether, none of the registry's headers |
| `Replace(body, content_type, status)` | another body, with the right Content-Length, under the headers of the true one |
| `Headers({...}, remove=(...))` | headers set or taken away, also `Docker-Content-Digest`, `Content-Range`, `ETag` |
| `Challenge(header)` | 401 with this WWW-Authenticate: hostile or broken realms |
| `Redirect(url)`, `RedirectLoop()` | a redirect there; a redirect that never ends |
| `IgnoreRange()` | 200 and the whole body for a Range request |
| `ChangedETag(etag)` | the blob changed since: If-Range with the old ETag gets the whole body, as it should |
| `Corrupt(at=0)` | one byte of the body is wrong, offset counted from the start of the whole blob |
| `Gzip()` | a gzip body with Content-Encoding |
| `HugeBody(size_bytes)` | an endless-looking body, never held in memory |
| `HugeHeaders(count, size_bytes)` | header lines without end |
| `ClaimLength(difference)` | Content-Length that is too large (the connection is closed after the body) or too small |
| `NoLength(chunked=True)` | chunked; or, with False, a body that ends with the connection |
| `Close(after_bytes)`, `Reset(after_bytes)` | the end (FIN, RST) after so many body bytes; None: before the headers |
| `Hang(gate, after_bytes)` | nothing more until `gate.open()`; None: not even headers. See `gate.wait_reached()` |
| `Throttle(valve)` | only as many body bytes as `valve.let(n)` has allowed so far |

With Close, Reset, Hang and Throttle exactly the stated bytes reach the client, also from a 206, whose bytes are counted
from its own start. Nothing sleeps: what has to wait waits for a gate or a valve, and `stop()` ends every wait.

`RawUpstream` answers connections with bytes that no HTTP server would write.

    with RawUpstream(b"HTP/9 banana\\r\\n\\r\\n") as upstream: ...                 # every connection
    with RawUpstream(b"...first...", b"...second...") as upstream: ...            # one each, then the last again
    with RawUpstream(endless_headers) as upstream: ...                            # until the client hangs up
    with RawUpstream(b"", keep_open=True) as upstream: ...                        # accepts, reads, never answers
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gzip
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from aiohttp import web
from multidict import CIMultiDict

from pullthrough.demo.images import Blob
from pullthrough.demo.listener import Listener
from pullthrough.demo.replies import Reply, answer_blob, failure
from pullthrough.demo.requests import ParsedRequest, RequestKind, RequestRecord
from pullthrough.demo.tokens import AuthenticationScheme
from pullthrough.demo.upstream import UpstreamOptions, UpstreamRegistry
from pullthrough.oci.codes import ErrorCode

#: A thread that does not answer within this time is stuck; tests then fail rather than hang.
_THREAD_SECONDS = 60
_CHUNK_BYTES = 64 * 1024
#: How often the send buffer is looked at before a reset.
_FLUSH_POLL_SECONDS = 0.001


# -- waiting


class Gate:
    """Closed until `open`. Requests wait in front of it; tests wait until requests do. Any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._reached = 0
        self._wakers: list[Callable[[], None]] = []

    def open(self) -> None:
        """Let all through, those that wait and those that come later."""
        with self._changed:
            self._open = True
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    @property
    def reached(self) -> int:
        """How many requests have come to the gate so far."""
        return self._reached

    def wait_reached(self, count: int = 1, timeout_seconds: float = _THREAD_SECONDS) -> None:
        """Block until `count` requests have come to the gate. Raises TimeoutError. In async code: `until_reached`."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._reached >= count, timeout_seconds):
                raise TimeoutError(f"{self._reached} of {count} requests came to the gate in {timeout_seconds} s")

    async def until_reached(self, count: int = 1, timeout_seconds: float = _THREAD_SECONDS) -> None:
        await asyncio.to_thread(self.wait_reached, count, timeout_seconds)

    async def _pass(self) -> None:
        loop, opened = asyncio.get_running_loop(), asyncio.Event()
        with self._changed:
            self._reached += 1
            self._changed.notify_all()
            if self._open:
                return
            self._wakers.append(partial(_call_in, loop, opened.set))
        await opened.wait()


class Valve:
    """Lets body bytes through as the test allows them; shared by all requests that are throttled by it. Any thread."""

    def __init__(self, allowed_bytes: int = 0) -> None:
        self._changed = threading.Condition()
        self._left: float = allowed_bytes
        self._wakers: list[Callable[[], None]] = []

    def let(self, size_bytes: float) -> None:
        """So many bytes more."""
        with self._changed:
            self._left += size_bytes
            wakers, self._wakers = self._wakers, []
        for wake in wakers:
            wake()

    def let_all(self) -> None:
        self.let(float("inf"))

    def wait_dry(self, count: int = 1, timeout_seconds: float = _THREAD_SECONDS) -> None:
        """Block until `count` requests have sent what they may and wait for more. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._wakers) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self._wakers)} of {count} requests wait at the valve")

    async def until_dry(self, count: int = 1, timeout_seconds: float = _THREAD_SECONDS) -> None:
        await asyncio.to_thread(self.wait_dry, count, timeout_seconds)

    async def _take(self, wanted: int) -> int:
        loop = asyncio.get_running_loop()
        while True:
            more = asyncio.Event()
            with self._changed:
                if self._left >= 1:
                    taken = int(min(wanted, self._left))
                    self._left -= taken
                    return taken
                wake = partial(_call_in, loop, more.set)
                self._wakers.append(wake)
                self._changed.notify_all()
            try:
                await more.wait()
            finally:
                with self._changed:
                    if wake in self._wakers:
                        self._wakers.remove(wake)


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(callback)
    except RuntimeError:
        pass  # the upstream is gone, and what waited there with it


# -- actions


@dataclass(slots=True)
class Delivery:
    """An answer on its way to being sent, and how it is to be sent. Actions change it."""

    answer: Reply
    #: Body bytes after which the connection ends; -1 before the headers, None never.
    end_after: int | None = None
    reset: bool = False
    hang_after: int | None = None
    gate: Gate | None = None
    valve: Valve | None = None
    #: What Content-Length says beyond the truth.
    length_lie: int = 0
    length_header: bool = True
    chunked: bool = False
    corrupt_at: int | None = None
    #: Sends so many bytes made up on the way in place of the answer's body.
    made_up_bytes: int | None = None

    @property
    def by_hand(self) -> bool:
        """Whether a web server would refuse to send it this way."""
        return (
            self.end_after is not None
            or self.gate is not None
            or self.valve is not None
            or self.length_lie != 0
            or not self.length_header
            or self.corrupt_at is not None
            or self.made_up_bytes is not None
        )


class Action(Protocol):
    """`ask` changes what the registry understands, `act` what it answers. Both may give back what they got."""

    def ask(self, question: ParsedRequest) -> ParsedRequest: ...

    def act(self, delivery: Delivery, question: ParsedRequest) -> None: ...


class _Action:
    def ask(self, question: ParsedRequest) -> ParsedRequest:
        return question

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        return None


_CODES = {
    400: ErrorCode.NAME_INVALID,
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.DENIED,
    404: ErrorCode.MANIFEST_UNKNOWN,
    429: ErrorCode.TOOMANYREQUESTS,
}


@dataclass(frozen=True, slots=True)
class Status(_Action):
    code: int
    retry_after: int | str | None = None
    message: str = ""

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        message = self.message or f"the script of this test says {self.code}"
        delivery.answer = failure(self.code, _CODES.get(self.code, ErrorCode.UNAVAILABLE), message)
        if self.retry_after is not None:
            delivery.answer.headers["Retry-After"] = str(self.retry_after)


@dataclass(frozen=True, slots=True)
class Replace(_Action):
    """Keeps the other headers, so that a digest in them becomes a lie."""

    body: bytes
    content_type: str | None = None
    status: int | None = None

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        answer = delivery.answer
        delivery.answer = Reply(self.status or answer.status, answer.headers, self.body)
        if self.content_type is not None:
            answer.headers["Content-Type"] = self.content_type


@dataclass(frozen=True, slots=True)
class Text(_Action):
    """None of the registry's headers are left."""

    text: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.answer = Reply(self.status, CIMultiDict({"Content-Type": self.content_type}), self.text.encode())


@dataclass(frozen=True, slots=True)
class Html(_Action):
    """A login page, as captive portals and misconfigured proxies send. None of the registry's headers are left."""

    status: int = 200

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        page = "<!DOCTYPE html><html><body>Please log in</body></html>"
        Text(page, self.status, "text/html; charset=utf-8").act(delivery, question)


@dataclass(frozen=True, slots=True)
class Headers(_Action):
    set: Mapping[str, str] = field(default_factory=dict)
    remove: Collection[str] = ()

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        for name in self.remove:
            delivery.answer.headers.popall(name, None)
        delivery.answer.headers.update(self.set)


@dataclass(frozen=True, slots=True)
class Challenge(_Action):
    header: str

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.answer = failure(401, ErrorCode.UNAUTHORIZED, "authentication required")
        delivery.answer.headers["WWW-Authenticate"] = self.header


@dataclass(frozen=True, slots=True)
class Redirect(_Action):
    url: str
    status: int = 307

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.answer = Reply(self.status, CIMultiDict({"Location": self.url}))


@dataclass(frozen=True, slots=True)
class RedirectLoop(_Action):
    """Each step to another query, so that it cannot be seen as a loop by comparing addresses."""

    status: int = 307

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        step = int(question.query.get("step", "0")) + 1
        delivery.answer = Reply(self.status, CIMultiDict({"Location": f"{question.path}?step={step}"}))


@dataclass(frozen=True, slots=True)
class IgnoreRange(_Action):
    def ask(self, question: ParsedRequest) -> ParsedRequest:
        headers = CIMultiDict(question.headers)
        headers.popall("Range", None)
        return replace(question, headers=headers)


@dataclass(frozen=True, slots=True)
class ChangedETag(_Action):
    """Answers blobs only; to send another ETag but ignore If-Range, use `Headers({"ETag": ...})`."""

    etag: str

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        if isinstance(delivery.answer.body, Blob):
            delivery.answer = answer_blob(delivery.answer.body, question.headers, etag=self.etag)


@dataclass(frozen=True, slots=True)
class Corrupt(_Action):
    at: int = 0

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.corrupt_at = self.at


@dataclass(frozen=True, slots=True)
class Gzip(_Action):
    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        answer = delivery.answer
        body = answer.body if isinstance(answer.body, bytes) else answer.body.read()
        answer.headers["Content-Encoding"] = "gzip"
        delivery.answer = Reply(answer.status, answer.headers, gzip.compress(body[answer.start : answer.stop], mtime=0))


@dataclass(frozen=True, slots=True)
class HugeBody(_Action):
    """Keeps status and headers. Counted in `bytes_sent` like any body."""

    size_bytes: int = 1 << 30

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.made_up_bytes = self.size_bytes


@dataclass(frozen=True, slots=True)
class HugeHeaders(_Action):
    count: int = 1
    size_bytes: int = 100_000

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        for number in range(self.count):
            delivery.answer.headers[f"X-Huge-{number}"] = "x" * self.size_bytes


@dataclass(frozen=True, slots=True)
class ClaimLength(_Action):
    """`difference` is added to Content-Length. Body and bytes stay as they are."""

    difference: int

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.length_lie = self.difference


@dataclass(frozen=True, slots=True)
class NoLength(_Action):
    chunked: bool = True

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.length_header = False
        delivery.chunked = self.chunked


@dataclass(frozen=True, slots=True)
class Close(_Action):
    after_bytes: int | None = None

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.end_after = -1 if self.after_bytes is None else self.after_bytes


@dataclass(frozen=True, slots=True)
class Reset(_Action):
    """The stated bytes have reached the client's machine before the reset."""

    after_bytes: int | None = None

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.end_after = -1 if self.after_bytes is None else self.after_bytes
        delivery.reset = True


@dataclass(frozen=True, slots=True)
class Hang(_Action):
    gate: Gate
    after_bytes: int | None = None

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.gate = self.gate
        delivery.hang_after = -1 if self.after_bytes is None else self.after_bytes


@dataclass(frozen=True, slots=True)
class Throttle(_Action):
    valve: Valve

    def act(self, delivery: Delivery, question: ParsedRequest) -> None:
        delivery.valve = self.valve


@dataclass(slots=True, eq=False)
class Script:
    """Actions, and the requests that they befall."""

    actions: tuple[Action, ...]
    kind: str | None
    reference: str | None
    repository: str | None
    method: str | None
    nth: Collection[int] | None
    #: How many requests it befell.
    hits: int = 0
    _matched: int = 0
    _removed: bool = False

    def remove(self) -> None:
        """Requests under way keep their fault; later ones are answered rightly."""
        self._removed = True

    def befalls(self, question: ParsedRequest) -> bool:
        """Whether this request is meant; counts it where all but the number agrees."""
        if self._removed or not (
            self.kind in (None, question.kind)
            and self.reference in (None, question.reference)
            and self.repository in (None, question.repository)
            and self.method in (None, question.method)
        ):
            return False
        self._matched += 1
        if self.nth is not None and self._matched not in self.nth:
            return False
        self.hits += 1
        return True


# -- sending what a web server would not


async def _send_by_hand(request: web.BaseRequest, delivery: Delivery, record: RequestRecord) -> None:
    """Write the answer to the connection past the web server, which would correct it, and end the connection."""
    transport = request.transport
    if transport is None:
        return
    if delivery.gate is not None and delivery.hang_after == -1:
        await delivery.gate._pass()
    if delivery.end_after == -1:
        await _end(transport, reset=delivery.reset)
        return
    record.status = delivery.answer.status
    transport.write(_head(delivery))
    if request.method != "HEAD":
        async for piece in _pieces(delivery):
            if transport.is_closing():
                return  # the client left; drain() would not say so before the loop has turned
            record.bytes_sent += len(piece)
            transport.write(b"%x\r\n%s\r\n" % (len(piece), piece) if delivery.chunked else piece)
            await request.writer.drain()
        if delivery.chunked and delivery.end_after is None:
            transport.write(b"0\r\n\r\n")
    await _end(transport, reset=delivery.reset)


def _head(delivery: Delivery) -> bytes:
    answer = delivery.answer
    length = answer.length_bytes if delivery.made_up_bytes is None else delivery.made_up_bytes
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in answer.headers.items())]
    if delivery.length_header:
        lines.append(f"Content-Length: {length + delivery.length_lie}")
    elif delivery.chunked:
        lines.append("Transfer-Encoding: chunked")
    if not delivery.length_header or (delivery.end_after is None and delivery.length_lie == 0):
        # The connection ends after the body. A client that was not told might use it for its next request.
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


async def _pieces(delivery: Delivery) -> AsyncIterator[bytes]:
    """The body as far as it may go, cut where a fault is due and where the valve says."""
    sent = 0
    async for chunk in _whole_body(delivery):
        rest = memoryview(chunk)
        while rest:
            if delivery.gate is not None and delivery.hang_after == sent:
                await delivery.gate._pass()
            if delivery.end_after == sent:
                return
            size = len(rest)
            for stop in (delivery.end_after, delivery.hang_after):
                if stop is not None and stop > sent:
                    size = min(size, stop - sent)
            if delivery.valve is not None:
                size = await delivery.valve._take(size)
            yield bytes(rest[:size])
            sent += size
            rest = rest[size:]
    if delivery.gate is not None and delivery.hang_after is not None and delivery.hang_after >= sent:
        await delivery.gate._pass()


async def _whole_body(delivery: Delivery) -> AsyncIterator[bytes]:
    if delivery.made_up_bytes is not None:
        for start in range(0, delivery.made_up_bytes, _CHUNK_BYTES):
            yield b"x" * min(_CHUNK_BYTES, delivery.made_up_bytes - start)
        return
    position = delivery.answer.start
    async for chunk in delivery.answer.chunks(_CHUNK_BYTES):
        if delivery.corrupt_at is not None and position <= delivery.corrupt_at < position + len(chunk):
            changed = bytearray(chunk)
            changed[delivery.corrupt_at - position] ^= 0xFF
            chunk = bytes(changed)
        yield chunk
        position += len(chunk)


async def _end(transport: asyncio.Transport, *, reset: bool) -> None:
    if not reset:
        transport.close()
        return
    connection = transport.get_extra_info("socket")
    while not transport.is_closing() and (  # noqa: ASYNC110 - Linux has no event for an acknowledged buffer
        transport.get_write_buffer_size() or _unacknowledged_bytes(connection)
    ):
        await asyncio.sleep(_FLUSH_POLL_SECONDS)
    if not transport.is_closing():
        # On, for no seconds: close() sends RST instead of FIN (socket(7), SO_LINGER).
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _unacknowledged_bytes(connection: socket.socket) -> int:
    """SIOCOUTQ of tcp(7)."""
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0])


# -- the registry


class ScriptedUpstream(UpstreamRegistry):
    """See the module. Listens from `__enter__` (or `start`) until `__exit__`.

    `options` are those of `UpstreamOptions`; authentication is off unless asked for. `cdn_address`, such as
    "127.0.0.2", serves redirected blobs from a second port there. `tls` makes both of them https.
    """

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        cdn_address: str = "",
        clock: Callable[[], float] = time.time,
        authentication: AuthenticationScheme | str = AuthenticationScheme.NONE,
        **options: Any,
    ) -> None:
        super().__init__(UpstreamOptions(authentication=AuthenticationScheme(authentication), **options), clock=clock)
        self._scripts: list[Script] = []
        self._scripts_lock = threading.Lock()
        self._listener = Listener(self.handle, address=address, tls=tls)
        self._cdn = Listener(self.handle, address=cdn_address, tls=tls) if cdn_address else None
        self.url = self._listener.url
        if self._cdn is not None:
            self.options = replace(self.options, blob_redirect=True, cdn_url=self._cdn.url)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"upstream {self.host}", daemon=True)

    @property
    def host(self) -> str:
        """`address:port`."""
        return self._listener.host

    @property
    def port(self) -> int:
        return self._listener.port

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for listener in self._listeners():
                self._in_thread(listener.close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_THREAD_SECONDS)

    def start(self) -> None:
        """Listen, again on the same port after a `stop`."""
        for listener in self._listeners():
            self._in_thread(listener.start())

    def stop(self) -> None:
        """Reset all connections, end all waiting at gates and valves, and refuse new connections until `start`."""
        for listener in self._listeners():
            self._in_thread(listener.stop())

    def script(
        self,
        *actions: Action,
        kind: RequestKind | str | None = None,
        reference: str | None = None,
        repository: str | None = None,
        method: str | None = None,
        nth: int | Collection[int] | None = None,
    ) -> Script:
        """From now on, let these actions befall the requests that agree with everything given. See the module."""
        script = Script(
            actions,
            None if kind is None else RequestKind(kind),
            reference,
            repository,
            method,
            (nth,) if isinstance(nth, int) else nth,
        )
        with self._scripts_lock:
            self._scripts.insert(0, script)
        return script

    def clear_scripts(self) -> None:
        """Behave from now on."""
        with self._scripts_lock:
            self._scripts.clear()

    async def respond(
        self, request: web.BaseRequest, question: ParsedRequest, record: RequestRecord
    ) -> web.StreamResponse:
        with self._scripts_lock:
            script = next((script for script in self._scripts if script.befalls(question)), None)
        if script is None:
            return await super().respond(request, question, record)
        asked = question
        for action in script.actions:
            asked = action.ask(asked)
        delivery = Delivery(self.answer(asked))
        for action in script.actions:
            action.act(delivery, asked)
        if delivery.by_hand:
            await _send_by_hand(request, delivery, record)
            return web.Response()  # goes nowhere: the connection is closed
        return await self.send(request, delivery.answer, record)

    def _listeners(self) -> list[Listener]:
        return [self._listener, self._cdn] if self._cdn is not None else [self._listener]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._end_tasks())
        finally:
            self._loop.close()

    async def _end_tasks(self) -> None:
        """What asyncio.run does at its end: nothing is left for the garbage collector to complain about."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()

    def _in_thread(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_THREAD_SECONDS)


# -- no HTTP at all

#: Bytes, or what makes them piece by piece, for ever if need be.
RawAnswer = bytes | Callable[[], Iterable[bytes]]


def endless_headers() -> Iterator[bytes]:
    """A good status line, and then header lines until the client hangs up."""
    yield b"HTTP/1.1 200 OK\r\n"
    while True:
        yield b"X-Bomb: " + b"x" * 8000 + b"\r\n"


def endless_header_line() -> Iterator[bytes]:
    """One header line that never ends."""
    yield b"HTTP/1.1 200 OK\r\nX-Bomb: "
    while True:
        yield b"x" * 8192


def endless_status_line() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 "
    while True:
        yield b"x" * 8192


class RawUpstream:
    """Reads a request's head, writes an answer made of any bytes, and closes. See the module.

    The n-th connection gets the n-th answer; the last answer is for all that follow. With `keep_open` a connection is
    left as it is after the answer, until the client or the test ends it. `tls` makes it https.
    """

    def __init__(self, *answers: RawAnswer, keep_open: bool = False, tls: ssl.SSLContext | None = None) -> None:
        self._answers = answers
        self._keep_open = keep_open
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"
        #: The request heads as they came, one a connection.
        self.heads: list[bytes] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # shutdown() wakes the accept() and the recv() of the other threads; close() would not.
        self._listening.shutdown(socket.SHUT_RDWR)
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client was first
        for thread in list(self._threads):
            thread.join(_THREAD_SECONDS)
        self._listening.close()

    @property
    def connections(self) -> int:
        """How many were made so far."""
        with self._lock:
            return len(self._connections)

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=f"raw upstream {self.host}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                answer = self._answers[min(len(self._connections), len(self._answers) - 1)]
                self._connections.append(connection)
            self._spawn(self._serve, connection, answer)

    def _serve(self, accepted: socket.socket, answer: RawAnswer) -> None:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(accepted)
            try:
                if self._tls:
                    connection = stack.enter_context(self._tls.wrap_socket(accepted, server_side=True))
                head = b""
                while b"\r\n\r\n" not in head:
                    received = connection.recv(65536)
                    if not received:
                        return
                    head += received
                self.heads.append(head)
                for piece in (answer,) if isinstance(answer, bytes) else answer():
                    connection.sendall(piece)
                if not self._keep_open:
                    connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass  # a close() with unread bytes would reset the connection and lose the answer
            except OSError:
                pass  # the client hung up
