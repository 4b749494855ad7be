"""Room in memory for what clients send, shared out so that there is always some left for another one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple


class Sender(NamedTuple):
    """Whose a body is: the client's, as `asker` has it, and the API key's; that is empty where none is asked for.

    Key ids are no secret: a body in a key's name need not be from whom the key belongs to, until it has been verified.
    """

    client: str
    access_key_id: str


class _Wish(NamedTuple):
    sender: Sender
    size_bytes: int
    granted: asyncio.Future[None]


class Room:
    """Belongs to an event loop.

    A client may hold as much as it leaves free, and so may a key; a key at one client half of what that client may still
    take beside it. So whatever somebody does at one address, or in the name of one key, there is room for the others: another
    key at the same address too, and the same key at another one.
    """

    def __init__(self, total_bytes: int) -> None:
        self._free_bytes = total_bytes
        #: By sender; one without a key stands for the client, one without a client for the key.
        self._held: Counter[Sender] = Counter()
        self._wishes: list[_Wish] = []

    @asynccontextmanager
    async def take(self, sender: Sender, size_bytes: int, *, patience_seconds: float) -> AsyncIterator[None]:
        """Hold so much until the block ends. Raises TimeoutError where there is no room within that time."""
        if self._fits(sender, size_bytes):
            self._add(sender, size_bytes)
        else:
            await self._wait(_Wish(sender, size_bytes, asyncio.get_running_loop().create_future()), patience_seconds)
        try:
            yield
        finally:
            self._add(sender, -size_bytes)
            self._grant()

    async def _wait(self, wish: _Wish, patience_seconds: float) -> None:
        self._wishes.append(wish)
        try:
            async with asyncio.timeout(patience_seconds):
                await wish.granted
        except BaseException:
            if wish in self._wishes:
                self._wishes.remove(wish)
            else:  # granted and given up at the same moment
                self._add(wish.sender, -wish.size_bytes)
                self._grant()
            raise

    def _grant(self) -> None:
        """In the order of their coming, but nobody waits behind one whose share is used up."""
        for wish in list(self._wishes):
            if self._fits(wish.sender, wish.size_bytes):
                self._wishes.remove(wish)
                self._add(wish.sender, wish.size_bytes)
                if not wish.granted.done():
                    wish.granted.set_result(None)

    def _fits(self, sender: Sender, size_bytes: int) -> bool:
        free = self._free_bytes - size_bytes
        client, key, both = (self._held[owner] + size_bytes for owner in _owners(sender))
        if not sender.access_key_id:
            return client <= free
        return client + 2 * both <= free and key <= free

    def _add(self, sender: Sender, size_bytes: int) -> None:
        self._free_bytes -= size_bytes
        for owner in set(_owners(sender)):
            self._held[owner] += size_bytes
            if not self._held[owner]:
                del self._held[owner]


def _owners(sender: Sender) -> tuple[Sender, Sender, Sender]:
    """The client, the key, the key at the client."""
    return Sender(sender.client, ""), Sender("", sender.access_key_id), sender
