"""Bodies are read as far as they may be, and count as held only as long as they are."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientPayloadError, StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import ContentLengthError, TransferEncodingError
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from pullthrough.faces.ecr.wire.bodies import SMALL_BYTES, RequestBodies, is_left, waits
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.room import BodyOwner


def request(*chunks: bytes, **headers: str) -> web.Request:
    """One without a length, as in chunked encoding."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return make_mocked_request(
        "POST", "/", headers={name.replace("_", "-"): value for name, value in headers.items()}, payload=reader
    )


ALICE = BodyOwner("192.0.2.1", "AKIALICE")
#: More than needs no room.
LARGE = SMALL_BYTES + 1


async def refusal(bodies: RequestBodies, asked: web.Request, limit: int, sender: BodyOwner = ALICE) -> str:
    with pytest.raises(ApiError) as raised:
        async with bodies.read(asked, limit, sender):
            pass
    return raised.value.code


async def test_a_body_is_put_together() -> None:
    async with RequestBodies().read(request(b"ab", b"c"), 3, ALICE) as body:
        assert body == b"abc"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "RequestEntityTooLargeException"),
        ({"Content_Length": "9"}, "RequestEntityTooLargeException"),
        ({"Content_Encoding": "gzip"}, "UnsupportedMediaTypeException"),
        ({"Content_Encoding": " identity , GZIP"}, "UnsupportedMediaTypeException"),
        ({"Content_Encoding": "gzip, aws-chunked"}, "UnsupportedMediaTypeException"),
    ],
)
async def test_what_may_not_be_is_refused(headers: dict[str, str], code: str) -> None:
    assert await refusal(RequestBodies(), request(b"abcd", b"e", **headers), 4) == code


async def test_of_several_encodings_none_is_passed_over() -> None:
    asked = request(b"abcd").clone(
        headers=CIMultiDict([("Content-Encoding", "identity"), ("Content-Encoding", "gzip")])
    )
    assert await refusal(RequestBodies(), asked, 4) == "UnsupportedMediaTypeException"
    for harmless in ("", "identity", "aws-chunked"):
        async with RequestBodies().read(request(b"abcd", Content_Encoding=harmless), 4, ALICE) as body:
            assert body == b"abcd"


async def test_bodies_that_are_held_leave_no_room_for_others() -> None:
    bodies = RequestBodies(max_held_bytes=4 * LARGE, patience_seconds=0)
    body = b"x" * LARGE
    async with bodies.read(request(body, Content_Length=str(LARGE)), LARGE, ALICE) as held:
        assert held == body
        assert await refusal(bodies, request(body, Content_Length=str(LARGE)), LARGE) == "ThrottlingException"
        # One whose length is not known may be as large as any.
        assert await refusal(bodies, request(b"x"), LARGE) == "ThrottlingException"
        async with bodies.read(request(b"x" * SMALL_BYTES), SMALL_BYTES, ALICE) as small:
            assert len(small) == SMALL_BYTES
    with pytest.raises(RuntimeError):
        async with bodies.read(request(body), LARGE, ALICE):
            raise RuntimeError("whatever happens to it, it is given back")
    assert await refusal(bodies, request(body, b"more"), LARGE) == "RequestEntityTooLargeException"
    async with bodies.read(request(body), LARGE, ALICE) as held:
        assert len(held) == LARGE


async def test_a_body_that_comes_too_slowly_is_not_waited_for() -> None:
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    for sent in (b"", b"1234"):
        reader = StreamReader(protocol, 2**16, loop=loop)
        if sent:
            reader.feed_data(sent)
        asked = make_mocked_request("POST", "/", headers={"Content-Length": "5"}, payload=reader)
        assert await refusal(RequestBodies(grace_seconds=0), asked, 5) == "RequestTimeoutException"


@pytest.mark.parametrize(
    "error",
    [web.RequestPayloadError("x"), TransferEncodingError("x"), ClientPayloadError("x"), ContentLengthError("x")],
)
async def test_a_body_that_is_no_http_is_said_to_be_so(error: Exception) -> None:
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    reader.set_exception(error)
    asked = make_mocked_request("POST", "/", payload=reader)
    assert await refusal(RequestBodies(), asked, 5) == "SerializationException"


async def test_a_sender_that_waits_to_be_told_is_told_only_if_its_body_is_wanted() -> None:
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16, loop=asyncio.get_running_loop())
    expecting = {"Expect": "100-Continue", "Content-Length": "5"}
    asked = make_mocked_request("POST", "/", headers=expecting, payload=reader)
    assert waits(asked)
    assert is_left(asked)
    assert await refusal(RequestBodies(), asked, 4) == "RequestEntityTooLargeException"
    assert waits(asked)
    reader.feed_data(b"12345")
    assert not waits(asked)
    assert not is_left(asked)


async def test_a_connection_is_kept_where_little_is_left_on_it() -> None:
    loop = asyncio.get_running_loop()
    for headers, left in (
        ({"Content-Length": str(SMALL_BYTES)}, False),
        ({"Content-Length": str(LARGE)}, True),
        ({"Transfer-Encoding": "chunked"}, True),
    ):
        reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
        asked = make_mocked_request("POST", "/", headers=headers, payload=reader)
        assert is_left(asked) is left
        reader.feed_eof()
        assert not is_left(asked)
