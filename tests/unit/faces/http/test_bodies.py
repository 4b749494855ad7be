"""Bodies from memory, at the client's pace."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from aiohttp import Payload, web
from hypothesis import given, settings
from hypothesis import strategies as st

from pullthrough.engine.pull.blobs.content import Part
from pullthrough.faces.http.bodies import SLICE_BYTES, BodySender, paced
from pullthrough.storage.bodies import Body
from pullthrough.storage.files.reading import StoredFile
from tests.effort import examples
from tests.unit.faces.http.wires import Connected, on_a_clock, settle

P = ParamSpec("P")
T = TypeVar("T")

BODY = bytes(range(256)) * 4096


def sends(body: bytes) -> Connected:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=paced(body), headers={"Content-Type": "text/x"})

    return Connected(handler)


def request(method: str = "GET") -> bytes:
    return f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@settings(max_examples=examples(20))
@given(size=st.one_of(st.integers(0, 3), st.integers(SLICE_BYTES - 2, SLICE_BYTES + 2), st.integers(0, len(BODY))))
def test_it_is_sent_whole_with_its_length(size: int) -> None:
    @on_a_clock
    async def play() -> None:
        connected = sends(BODY[:size])
        await connected.say(request())
        head, _, body = bytes(connected.wire.sent).partition(b"\r\n\r\n")
        assert f"Content-Length: {size}\r\nContent-Type: text/x".encode() in b"\r\n".join(sorted(head.split(b"\r\n")))
        assert body == BODY[:size]
        assert not connected.wire.is_closed

    play()


@on_a_clock
async def test_no_more_than_a_slice_waits_for_a_client_that_does_not_read() -> None:
    connected = sends(BODY)
    await settle()
    connected.wire.is_stalled = True
    await connected.say(request())
    assert SLICE_BYTES <= len(connected.wire.waiting) < SLICE_BYTES + 1000
    for _ in range(len(BODY) // SLICE_BYTES):
        connected.wire.take()
        connected.wire.is_stalled = True
        await settle()
        assert len(connected.wire.waiting) < SLICE_BYTES + 1000
    connected.wire.take()
    assert connected.wire.sent.endswith(BODY)


@on_a_clock
async def test_head_gets_the_length_and_nothing_else() -> None:
    connected = sends(BODY)
    await connected.say(request("HEAD"), request("HEAD"))
    assert connected.wire.sent.count(f"Content-Length: {len(BODY)}".encode()) == 2
    assert len(connected.wire.sent) < 1000


@on_a_clock
async def test_a_client_that_leaves_ends_it() -> None:
    connected = sends(BODY)
    await settle()
    connected.wire.is_stalled = True
    await connected.say(request())
    connected.wire.abort()
    await settle()
    assert len(connected.wire.waiting) < SLICE_BYTES + 1000
    assert connected.phase == "none"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def whole(body: Body, size_bytes: int) -> AsyncIterator[Part | bytes]:
    yield Part(body, 0, size_bytes)


async def at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


@on_a_clock
async def test_the_loop_sees_to_others_while_a_blob_goes_to_a_client_that_takes_all(tmp_path: Path) -> None:
    """By TLS, where nothing waits for the network unless the client is slow."""
    (tmp_path / "blob").write_bytes(BODY * 4)
    body, turns, ended = StoredFile(os.open(tmp_path / "blob", os.O_RDONLY), at_once), 0, asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(body.size_bytes)})
        await response.prepare(request)
        await BodySender(request, response, asyncio.to_thread).send(whole(body, body.size_bytes))
        ended.set()
        return response

    connected = Connected(handler)
    connected.wire.tls = object()
    await settle()
    connected.protocol.data_received(request())
    while not ended.is_set():
        turns += 1
        await asyncio.sleep(0)
    await settle()
    assert connected.wire.sent.endswith(BODY * 4)
    assert turns > 16
    body.close()


@pytest.mark.parametrize("size", [0, SLICE_BYTES])
def test_a_small_one_stays_as_it_is(size: int) -> None:
    assert paced(bytes(size)) == bytes(size)


def test_a_large_one_can_still_be_read() -> None:
    body = paced(b"a" * (SLICE_BYTES + 1))
    assert isinstance(body, Payload)
    assert body.decode() == "a" * (SLICE_BYTES + 1)
