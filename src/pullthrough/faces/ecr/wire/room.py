"""Room in memory for what clients send, shared out so that there is always some left for another one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import FairQueue, Shares


class BodyOwner(NamedTuple):
    """Whose a body is: the client's (`client_of`), and the API key's, which is empty where none is asked for.

    Key ids are no secret: until its signature is verified, a body that names a key may be from anybody.
    """

    client: str
    access_key_id: str


class Room:
    """Belongs to an event loop.

    A client may hold as much as it leaves free, and so may a key; a key at one client half of what that client may still
    take beside it. So whatever somebody does at one address, or in the name of one key, there is room for the others: another
    key at the same address too, and the same key at another one.
    """

    def __init__(self, total_bytes: int) -> None:
        self._bytes = Gate(FairQueue(total_bytes, _leaves_room, places=sys.maxsize))

    @asynccontextmanager
    async def take(self, sender: BodyOwner, size_bytes: int, *, patience_seconds: float) -> AsyncIterator[None]:
        """Hold so much until the block ends. Raises TimeoutError where there is no room within that time."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(patience_seconds):
                await stack.enter_async_context(self._bytes.hold(*_shares(sender), amount=size_bytes))
            yield

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds any or waits for some, so that nothing is remembered of anybody."""
        return self._bytes.is_idle


def _shares(sender: BodyOwner) -> Shares:
    """The client, the key, the key at the client."""
    return (sender.client, sender.access_key_id, sender) if sender.access_key_id else (sender.client,)


def _leaves_room(held: Sequence[int], amount: int, free: int) -> bool:
    left = free - amount
    client, *key = (each + amount for each in held)
    if not key:
        return client <= left
    anywhere, here = key
    return client + 2 * here <= left and anywhere <= left
