"""Bodies are read as far as they may be, and count as held only as long as they are."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import StreamReader, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.test_utils import make_mocked_request

from pullthrough.ecr.bodies import Bodies, waits
from pullthrough.ecr.errors import ApiError


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


async def refusal(bodies: Bodies, asked: web.Request, limit: int) -> str:
    with pytest.raises(ApiError) as raised:
        async with bodies.read(asked, limit):
            pass
    return raised.value.code


async def test_a_body_is_put_together() -> None:
    async with Bodies().read(request(b"ab", b"c"), 3) as body:
        assert body == b"abc"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "RequestEntityTooLargeException"),
        ({"Content_Length": "9"}, "RequestEntityTooLargeException"),
        ({"Content_Encoding": "gzip"}, "UnsupportedMediaTypeException"),
    ],
)
async def test_what_may_not_be_is_refused(headers: dict[str, str], code: str) -> None:
    assert await refusal(Bodies(), request(b"abcd", b"e", **headers), 4) == code


async def test_bodies_that_are_held_leave_no_room_for_others() -> None:
    bodies = Bodies(max_held_bytes=10)
    async with bodies.read(request(b"123456"), 100):
        assert await refusal(bodies, request(b"12345"), 100) == "ThrottlingException"
        async with bodies.read(request(b"1234"), 100) as body:
            assert body == b"1234"
    with pytest.raises(RuntimeError):
        async with bodies.read(request(b"1234567890"), 100):
            raise RuntimeError("whatever happens to it, it is given back")
    async with bodies.read(request(b"1234567890"), 100) as body:
        assert len(body) == 10


async def test_a_sender_that_waits_to_be_told_is_told_only_if_its_body_is_wanted() -> None:
    reader = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**16, loop=asyncio.get_running_loop())
    expecting = {"Expect": "100-Continue", "Content-Length": "5"}
    asked = make_mocked_request("POST", "/", headers=expecting, payload=reader)
    assert waits(asked)
    assert await refusal(Bodies(), asked, 4) == "RequestEntityTooLargeException"
    assert waits(asked)
    reader.feed_data(b"12345")
    assert not waits(asked)
