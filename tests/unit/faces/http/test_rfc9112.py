"""What is taken for a request, held against RFC 9112 read to the letter: whoever stands before this engine reads it so, or
more strictly, and no body of one client may be another one's request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.faces.http.wires import Connected, on_a_clock, settle

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TEXT = rb"\x21-\x7e\x80-\xff"
#: More than one space may be read as one: section 3.
_LINE = re.compile(rb"(" + _TOKEN + rb") +([\x21-\x7e]+) +HTTP/1\.([01])")
_FIELD = re.compile(
    rb"(" + _TOKEN + rb"):[ \t]*((?:[" + _TEXT + rb"](?:[ \t" + _TEXT + rb"]*[" + _TEXT + rb"])?)?)[ \t]*"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;[ \t" + _TEXT + rb"]*)?")


@dataclass(frozen=True)
class Request:
    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class NotOne(Exception):
    """What comes is no request, or is not all here."""


def read(data: bytes) -> list[Request]:
    """The requests up to the first that is none, or ends the connection; one with trailers does that here."""
    found: list[Request] = []
    try:
        while True:
            # Empty lines before a request, of whatever ends: section 2.2.
            request, data, is_last = _read_one(data.lstrip(b"\r\n"))
            found.append(request)
            if is_last:
                return found
    except NotOne:
        return found


def _read_one(data: bytes) -> tuple[Request, bytes, bool]:
    head, data = _cut(data, b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise NotOne
    fields = tuple(_field(text) for text in lines)
    is_old = line[3] == b"0"
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    has_trailers = False
    if codings:
        if lengths or is_old or codings != [b"chunked"]:
            raise NotOne
        body, data, has_trailers = _read_chunks(data)
    else:
        if len(lengths) > 1 or not all(re.fullmatch(rb"[0-9]+", length) for length in lengths):
            raise NotOne
        size = int(lengths[0]) if lengths else 0
        if len(data) < size:
            raise NotOne
        body, data = data[:size], data[size:]
    said = [word.strip().lower() for name, value in fields if name == b"connection" for word in value.split(b",")]
    is_last = has_trailers or b"close" in said or (is_old and b"keep-alive" not in said)
    return Request(line[1], line[2], fields, body), data, is_last


def _read_chunks(data: bytes) -> tuple[bytes, bytes, bool]:
    body, has_trailers = b"", False
    while True:
        line, data = _cut(data, b"\r\n")
        chunk = _CHUNK.fullmatch(line)
        if chunk is None:
            raise NotOne
        if not (size := int(chunk[1], 16)):
            break
        if data[size : size + 2] != b"\r\n":
            raise NotOne
        body, data = body + data[:size], data[size + 2 :]
    while True:
        line, data = _cut(data, b"\r\n")
        if not line:
            return body, data, has_trailers
        _field(line)
        has_trailers = True


def _field(line: bytes) -> tuple[bytes, bytes]:
    field = _FIELD.fullmatch(line)
    if field is None:
        raise NotOne
    return field[1].lower(), field[2]


def _cut(data: bytes, end: bytes) -> tuple[bytes, bytes]:
    before, found, after = data.partition(end)
    if not found:
        raise NotOne
    return before, after


FIELDS = [
    *(
        b"Content-Length: 5",
        b"Content-Length: 3",
        b"Content-Length: +5",
        b"Content-Length: -5",
        b"Content-Length: 5, 5",
    ),
    *(
        b"Content-Length: 0x5",
        b"Content-Length: 1_0",
        b"Content-Length:\t5 ",
        b"Content-Length: ",
        b"Content-Length: 005",
    ),
    *(b"Content-Length: 99999999999999999999999", b"Content-Length : 5", b"Content_Length: 3", b" Content-Length: 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: chunked, chunked"),
    *(b"Transfer-Encoding: identity", b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked"),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding:", b'Transfer-Encoding: "chunked"', b"Connection: close"),
    *(
        b"X: a\r\n b",
        b"X: a\x00b",
        b"X: a\rb",
        b"X\x00: a",
        b"X: \xff",
        b"X: a\n b",
        b": x",
        b"nocolon",
        b"X:",
        b"X: \x7f",
    ),
]
BODIES = [
    *(b"", b"hello", b"hel", b"5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n"),
    *(b"0x5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n"),
    *(
        b"5\r\nhello0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
    ),
    *(b"0\r\nContent-Length: 5\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\nA: b\n\r\n", b"FFFFFFFFFFFFFFFFF\r\nx"),
    *(b"7fffffffffffffff\r\nx", b"00000000000000000005\r\nhello\r\n0\r\n\r\n", b'5;a="x\r\ny"\r\nhello\r\n0\r\n\r\n'),
    *(b"5\r\r\nhello\r\n0\r\n\r\n", b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"\r\n5\r\nhello\r\n0\r\n\r\n"),
    *(b"5\x0b\r\nhello\r\n0\r\n\r\n", b"5\xc2\xa0\r\nhello\r\n0\r\n\r\n", b"0;x\r\n\r\n", b"00\r\n\r\n"),
]
LINES = [
    *(b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"HEAD http://x/a HTTP/1.1", b"PUT / HTTP/1.0", b"GET  / HTTP/1.1"),
    *(
        b"GET /a b HTTP/1.1",
        b"GET /\xff HTTP/1.1",
        b"G\x00T / HTTP/1.1",
        b"GET / HTTP/1.10",
        b"GET / http/1.1",
        b"GET /",
    ),
]
ENDS = [*[b"\r\n"] * 40, b"\n", b"\r", b"\r\r\n", b"\n\r\n"]
NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    end = st.sampled_from(ENDS)
    lines = [draw(st.sampled_from(LINES)), b"Host: x", *draw(st.lists(st.sampled_from(FIELDS), max_size=2))]
    return b"".join(line + draw(end) for line in lines) + draw(end) + draw(st.sampled_from(BODIES))


@settings(max_examples=examples(200))
@given(sent=st.lists(requests(), min_size=1, max_size=2), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_nothing_is_a_request_here_that_is_none_by_the_standard(sent: list[bytes], cuts: list[int]) -> None:
    stream = b"".join((*sent, NEXT))
    cuts = sorted(min(cut, len(stream)) for cut in cuts)
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    seen: list[Request] = []

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await request.read()
        except web.RequestPayloadError:
            return web.Response(status=400)
        fields = tuple((name.lower(), value) for name, value in request.raw_headers)
        seen.append(Request(request.method.encode(), request.raw_path.encode(), fields, body))
        return web.Response(text="ok")

    @on_a_clock
    async def play() -> None:
        connected = Connected(handle)
        await connected.say(*(piece for piece in pieces if piece))
        await settle()
        await connected.end()
        assert set(connected.wire.statuses) <= {200, 400, 505}

    play()
    assert seen == read(stream)[: len(seen)]
