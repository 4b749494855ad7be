"""The demo's listener, which is the fakes' too: it goes away at any moment, and nothing of it is left."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
from aiohttp import web

from pullthrough.demo.listener import Listener


@pytest.mark.parametrize("turns", range(8))
async def test_a_connection_that_is_just_being_accepted_ends_with_the_listener(turns: int) -> None:
    async def never(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError(f"{request.path} was asked for")

    listener = Listener(never)
    await listener.start()
    with socket.create_connection((listener.address, listener.port), timeout=60) as client:
        for _ in range(turns):
            await asyncio.sleep(0)
        await listener.close()
        gc.collect()  # what the loop has lost says so here
        with pytest.raises(ConnectionResetError):
            client.recv(1)
