"""One connection of HTTP: what is read of it, what is kept, how long, and what the client is told."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from pullthrough.faces.http.framing import MAX_HEAD_BYTES
from tests.effort import examples
from tests.unit.faces.http.wires import Connected, on_a_clock, pass_by, settle

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
BAD_CHUNK = b"zz\r\n\r\n"


class Bodies:
    """A handler that reads bodies, or not, and notes how it went."""

    def __init__(self, *, reads: bool = True) -> None:
        self._reads = reads
        self.seen: list[Any] = []

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._reads:
            try:
                self.seen.append(await request.content.read())
            except web.RequestPayloadError as error:
                self.seen.append(error)
                return web.Response(status=400)
        return web.Response(text="ok")


class Held:
    """A handler that answers when it is told to."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        await self.go.wait()
        return web.Response(text="ok")


def error_of(connected: Connected) -> dict[str, Any]:
    error: dict[str, Any] = json.loads(connected.wire.sent.partition(b"\r\n\r\n")[2])["errors"][0]
    return error


# --- heads -----------------------------------------------------------------------------------------------------------


def head_of(size_bytes: int) -> bytes:
    """A request of that length, in headers of the largest size that is allowed for one."""
    head = bytearray(GET[:-2])
    number = 0
    while (left := size_bytes - len(head) - 2) > 0:
        name = b"X-%02d: " % number
        head += name + b"v" * min(left - len(name) - 2, 16_000) + b"\r\n"
        number += 1
    return bytes(head) + b"\r\n"


@pytest.mark.parametrize("piece", [1000, 16_000, 10**6])
@on_a_clock
async def test_a_head_may_have_so_many_bytes_and_no_more(piece: int) -> None:
    for size, statuses in ((MAX_HEAD_BYTES, [200]), (MAX_HEAD_BYTES + 1, [431])):
        head = head_of(size)
        assert len(head) == size
        connected = Connected()
        await connected.say(*(head[at : at + piece] for at in range(0, size, piece)))
        assert connected.wire.statuses == statuses
        assert connected.wire.is_closed is (statuses == [431])
        await connected.end()


@on_a_clock
async def test_one_that_is_too_large_is_told_so() -> None:
    connected = Connected()
    await connected.say(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000)
    assert error_of(connected)["code"] == "UNSUPPORTED"
    assert "65,536 bytes" in error_of(connected)["message"]


@on_a_clock
async def test_nothing_is_kept_of_heads_that_do_not_end() -> None:
    connections = [Connected() for _ in range(20)]
    await settle()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(97):
        for connected in connections:
            await connected.say(GET[:-2] if not number else b"X-%d: " % number + b"a" * 15_900 + b"\r\n")
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert all(connected.wire.statuses == [431] for connected in connections)
    assert kept < 20 * 100_000


@on_a_clock
async def test_empty_lines_before_a_request_are_part_of_its_head() -> None:
    connected = Connected()
    await connected.say(b"\r\n\r\n" + GET)
    assert connected.wire.statuses == [200]
    await connected.say(b"\r\n" * 40_000)
    assert connected.wire.statuses == [200, 431]


@on_a_clock
async def test_a_connection_that_says_nothing_is_closed() -> None:
    connected = Connected()
    await pass_by(29)
    assert not connected.wire.is_closed
    await pass_by(2)
    assert connected.wire.is_closed
    assert not connected.wire.sent
    assert connected.admission.count == 0


@on_a_clock
async def test_a_head_has_its_time_from_its_first_byte() -> None:
    connected = Connected()
    await connected.say(GET)
    await pass_by(60)
    for byte in GET[:14]:
        await connected.say(bytes([byte]))
        await pass_by(2)
    assert not connected.wire.is_closed
    await pass_by(2)
    assert connected.wire.statuses == [200, 408]
    assert connected.wire.is_closed


@on_a_clock
async def test_an_idle_connection_is_kept_for_longer() -> None:
    connected = Connected()
    await connected.say(GET)
    await pass_by(74)
    await connected.say(GET)
    await pass_by(74)
    assert not connected.wire.is_closed
    await pass_by(2)
    assert connected.wire.is_closed
    assert connected.wire.statuses == [200, 200]


# --- requests, one at a time -----------------------------------------------------------------------------------------


@on_a_clock
async def test_the_next_request_waits_unread_until_the_one_before_is_answered() -> None:
    held = Held()
    connected = Connected(held)
    await connected.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(5)))
    assert held.paths == ["/0"]
    assert not connected.wire.is_read
    assert len(connected.protocol._messages) == 0
    held.go.set()
    await settle()
    assert held.paths == ["/0", "/1", "/2", "/3", "/4"]
    assert connected.wire.statuses == [200] * 5
    assert connected.wire.is_read
    await connected.end()


@on_a_clock
async def test_who_sends_far_ahead_gets_one_answer_and_the_end() -> None:
    held = Held()
    connected = Connected(held)
    await connected.say(GET, GET * 3000, GET * 3000)
    held.go.set()
    await settle()
    assert connected.wire.statuses == [200]
    assert connected.wire.is_closed
    await connected.end()


@on_a_clock
async def test_an_answer_that_is_not_taken_holds_the_next_request_up() -> None:
    connected = Connected(fast=lambda data, client: b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
    await settle()
    connected.wire.is_stalled = True
    await connected.say(*[GET] * 20)
    assert len(connected.wire.waiting) < 3000
    assert not connected.wire.is_read
    connected.wire.take()
    for _ in range(20):
        await settle()
    assert len(connected.wire.statuses) == 20
    await connected.end()


@on_a_clock
async def test_nothing_is_read_behind_a_request_that_ends_the_connection() -> None:
    connected = Connected()
    await connected.say(GET[:-2] + b"Connection: close\r\n\r\n" + GET, GET)
    assert connected.wire.statuses == [200]
    assert connected.wire.is_closed


@pytest.mark.parametrize(
    "request_",
    [
        GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc",
        b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=["websocket", "with-a-body", "connect"],
)
@on_a_clock
async def test_nothing_is_kept_for_a_protocol_that_is_not_spoken(request_: bytes) -> None:
    connected = Connected()
    await connected.say(request_, b"x" * 100_000)
    assert connected.wire.statuses == [200]
    assert connected.wire.is_closed


@on_a_clock
async def test_the_fast_path_is_asked_for_whole_requests_between_others() -> None:
    connected = Connected()
    asked: list[bytes] = []
    connected = Connected(fast=lambda data, client: asked.append(data))
    await settle()
    await connected.say(GET, GET[:5], GET[5:], GET[:-2] + b"Content-Length: 2\r\n\r\n", b"ab", GET)
    assert asked == [GET, GET[:5], GET[:-2] + b"Content-Length: 2\r\n\r\n", GET]
    assert connected.wire.statuses == [200] * 4
    await connected.end()


# --- bodies ----------------------------------------------------------------------------------------------------------


@on_a_clock
async def test_a_body_is_given_as_it_was_sent() -> None:
    bodies = Bodies()
    connected = Connected(bodies)
    sent = b"\x1f\x8b no gzip"
    for framing in (b"Content-Length: %d\r\n\r\n%s" % (len(sent), sent), chunked(sent)):
        await connected.say(GET[:-2] + b"Content-Encoding: gzip\r\n" + framing)
    assert bodies.seen == [sent, sent]
    assert connected.wire.statuses == [200, 200]
    await connected.end()


def chunked(*parts: bytes) -> bytes:
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


@pytest.mark.parametrize("reads", [True, False], ids=["read", "not-read"])
@on_a_clock
async def test_a_broken_body_is_the_only_answer_where_it_comes_at_once(reads: bool, caplog: Any) -> None:
    connected = Connected(Bodies(reads=reads))
    await settle()
    await connected.say(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + BAD_CHUNK + GET)
    assert connected.wire.statuses == [400]
    assert connected.wire.is_closed
    assert not caplog.records


@pytest.mark.parametrize("reads", [True, False], ids=["read", "not-read"])
@on_a_clock
async def test_a_body_that_breaks_later_ends_the_connection_with_its_own_answer(reads: bool, caplog: Any) -> None:
    bodies = Bodies(reads=reads)
    connected = Connected(bodies)
    await settle()
    await connected.say(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", BAD_CHUNK + GET, GET)
    assert connected.wire.statuses == [400 if reads else 200]
    assert [type(seen) for seen in bodies.seen] == [web.RequestPayloadError] * reads
    assert connected.wire.is_closed
    assert not caplog.records


@on_a_clock
async def test_a_broken_body_is_never_taken_for_a_whole_one() -> None:
    """However its parts and the turns of the loop fall together."""
    for turns in range(6):
        bodies = Bodies()
        connected = Connected(bodies)
        await settle()
        connected.protocol.data_received(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        for _ in range(turns):
            await asyncio.sleep(0)
        connected.protocol.data_received(BAD_CHUNK)
        await settle()
        assert b"abc" not in bodies.seen
        assert connected.wire.statuses == [400]
        await connected.end()


@on_a_clock
async def test_the_end_of_a_body_in_chunks_is_no_request_for_the_fast_path() -> None:
    """A header's value that begins in the packet with the body's end, and goes on in one of its own, like a request."""
    asked: list[bytes] = []
    connected = Connected(fast=lambda data, client: asked.append(data))
    await settle()
    hidden = b"GET /hidden HTTP/1.1\r\nX: y\r\n\r\n"
    await connected.say(GET[:-2] + chunked(b"abc") + b"GET /b HTTP/1.1\r\nHost: x\r\nX-Text: ", hidden, GET)
    assert hidden not in asked
    assert connected.wire.statuses == [200] * 3
    assert connected.wire.sent.count(b"/hidden") == 0


@on_a_clock
async def test_trailers_are_limited_as_headers_are() -> None:
    for pieces, status in (([], 400), ([b"3\r\nabc\r\n"], 200)):
        connected = Connected()
        await settle()
        trailers = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 15_000) for number in range(5))
        framed = GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
        whole = [framed, *pieces, b"0\r\n" + trailers] if pieces else [framed + b"0\r\n" + trailers]
        await connected.say(*whole, b"\r\n")
        assert connected.wire.statuses == [status]
        assert connected.wire.is_closed


@pytest.mark.parametrize("cut", [None, -1, -5, -30])
@on_a_clock
async def test_the_trailers_of_one_request_are_no_headers_of_the_next(cut: int | None) -> None:
    """Behind a proxy the two may be of two clients."""
    seen: list[list[bytes]] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        seen.append([name for name, _ in request.raw_headers])
        return web.Response(text="ok")

    connected = Connected(handle)
    await settle()
    first = GET[:-2] + chunked(b"abc")[:-2] + b"Authorization: Basic eDp5\r\n\r\n"
    await connected.say(*(first[:cut], first[cut:]) if cut else (first,), GET)
    assert seen == [[b"Host", b"Transfer-Encoding"]]
    assert connected.wire.statuses == [200]
    assert connected.wire.is_closed


@pytest.mark.parametrize("line", [b"GET /", b"GET / HTTP/0.9", b"GET / HTTP/2.0"])
@on_a_clock
async def test_another_version_is_refused(line: bytes, caplog: Any) -> None:
    bodies = Bodies()
    connected = Connected(bodies)
    await connected.say(line + b"\r\nHost: x\r\n\r\n" + GET, GET)
    assert connected.wire.statuses == [505]
    assert connected.wire.is_closed
    assert not bodies.seen
    assert not caplog.records


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nTransfer-Encoding:",
        b"GET / HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 3",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive",
    ],
    ids=["empty", "empty-with-a-length", "of-http-1.0"],
)
@on_a_clock
async def test_a_transfer_encoding_that_others_may_read_otherwise_is_refused(head: bytes) -> None:
    bodies = Bodies()
    connected = Connected(bodies)
    await connected.say(head + b"\r\nHost: x\r\n\r\n0\r\n\r\n" + GET, GET)
    assert connected.wire.statuses == [400]
    assert error_of(connected)["message"] == "the Transfer-Encoding is not the chunked one of HTTP/1.1"
    assert connected.wire.is_closed
    assert not bodies.seen


@on_a_clock
async def test_a_body_that_fills_the_buffer_with_its_last_byte_is_whole() -> None:
    for size in (500_000, 524_288, 524_289, 600_000, 1_000_000):
        for framed in (b"Content-Length: %d\r\n\r\n%s" % (size, bytes(size)), chunked(bytes(size))):
            bodies = Bodies()
            connected = Connected(bodies)
            await settle()
            connected.protocol.data_received(GET[:-2] + framed + GET)
            for _ in range(5):
                await settle()
            assert [len(body) for body in bodies.seen] == [size, 0]
            assert connected.wire.statuses == [200, 200]
            assert connected.wire.is_read


@on_a_clock
async def test_a_body_that_breaks_while_its_rest_is_drained_ends_the_connection(caplog: Any) -> None:
    connected = Connected(Bodies(reads=False))
    await settle()
    await connected.say(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", BAD_CHUNK)
    assert connected.wire.statuses == [200]
    assert connected.wire.is_closed
    assert not caplog.records


@on_a_clock
async def test_a_body_that_never_comes_holds_nothing_for_long() -> None:
    connected = Connected(Bodies(reads=False))
    await settle()
    await connected.say(GET[:-2] + b"Content-Length: 1000\r\n\r\n", b"a")
    assert connected.wire.statuses == [200]
    assert connected.phase == "idle"
    await pass_by(11)
    assert connected.wire.is_closed


@on_a_clock
async def test_a_body_that_is_not_read_stops_being_taken_from_the_socket() -> None:
    held = Held()
    connected = Connected(held)
    body = bytes(4_000_000)
    await connected.say(GET[:-2] + b"Content-Length: %d\r\n\r\n" % len(body))
    taken = 0
    while connected.wire.is_read:
        connected.protocol.data_received(body[taken : taken + 100_000])
        taken += 100_000
    assert taken < 1_000_000
    held.go.set()
    while taken < len(body):
        await settle()
        assert connected.wire.is_read
        connected.protocol.data_received(body[taken : taken + 100_000])
        taken += 100_000
    await connected.say(GET)
    assert connected.wire.statuses == [200, 200]
    await connected.end()


# --- all of it -------------------------------------------------------------------------------------------------------

BODIES = st.one_of(st.binary(max_size=40), st.just(b"a\r\n\r\nb"), st.just(GET), st.just(bytes(15_000)))
LARGE = bytes(150_000)


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """The bytes of a request, and its body."""
    return _request(draw, draw(BODIES))


@st.composite
def large_requests(draw: st.DrawFn) -> tuple[bytes, bytes]:
    return _request(draw, LARGE)


def _request(draw: st.DrawFn, body: bytes) -> tuple[bytes, bytes]:
    match draw(st.sampled_from(["none", "length", "chunked"])):
        case "none":
            return draw(st.sampled_from([GET, b"\r\n" + GET])), b""
        case "length":
            return GET[:-2] + b"Content-Length: %d\r\n\r\n%s" % (len(body), body), body
        case _:
            middle = len(body) // 2
            parts = [part for part in (body[:middle], body[middle:]) if part]
            return GET[:-2] + chunked(*parts), body


@settings(max_examples=examples(150))
@given(first=large_requests(), others=st.lists(requests(), max_size=4), data=st.data())
def test_requests_are_the_same_however_their_bytes_come(
    first: tuple[bytes, bytes], others: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    """Requests that are sent before the answers to others have to be small together, but not those others."""
    sent = [first, *others]
    stream = b"".join(request for request, _ in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    @on_a_clock
    async def play() -> None:
        bodies = Bodies()
        connected = Connected(bodies)
        await connected.say(*(piece for piece in pieces if piece))
        for _ in sent:
            await settle()
        assert bodies.seen == [body for _, body in sent]
        assert connected.wire.statuses == [200] * len(sent)
        assert connected.phase == "idle"
        assert not connected.wire.is_closed
        await connected.end()
        assert connected.phase == "none"

    play()


@settings(max_examples=examples(150))
@given(sent=st.lists(st.one_of(requests().map(lambda made: made[0]), st.binary(max_size=30)), max_size=6))
def test_no_bytes_do_harm(sent: list[bytes]) -> None:
    @on_a_clock
    async def play() -> None:
        connected = Connected(Bodies(reads=False))
        await connected.say(*(piece for piece in sent if piece))
        assert set(connected.wire.statuses) <= {200, 400}
        await connected.end()

    play()


@on_a_clock
async def test_a_reset_that_the_loop_did_not_tell_of_is_noticed() -> None:
    held = Held()
    connected = Connected(held)
    await connected.say(GET)
    connected.protocol.notice_reset()
    await settle()
    assert connected.phase == "busy"
    connected.wire.kernel.is_reset = True
    connected.protocol.notice_reset()
    await settle()
    assert connected.phase == "none"
    connected.protocol.notice_reset()


# --- its place -------------------------------------------------------------------------------------------------------


@on_a_clock
async def test_a_place_is_new_then_busy_then_idle_and_then_given_back() -> None:
    held = Held()
    connected = Connected(held)
    await settle()
    phases = [connected.phase]
    await connected.say(GET[:9])
    phases.append(connected.phase)
    await connected.say(GET[9:])
    phases.append(connected.phase)
    held.go.set()
    await settle()
    phases.append(connected.phase)
    await connected.end()
    assert [*phases, connected.phase] == ["new", "new", "busy", "idle", "none"]


@on_a_clock
async def test_an_answer_that_is_not_taken_keeps_its_place_busy() -> None:
    fast = Connected(fast=lambda data, client: b"HTTP/1.1 200 OK\r\n\r\n" + bytes(1000))
    ordinary = Connected()
    for connected in (fast, ordinary):
        await settle()
        connected.wire.is_stalled = True
        await connected.say(GET)
        assert connected.phase == "busy"
        connected.wire.take()
        await settle()
        assert connected.phase == "idle"
        await connected.end()
