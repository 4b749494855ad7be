"""Room is shared out so that nobody, by whatever names, takes it all."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from pullthrough.faces.ecr.wire.bodies import MAX_HELD_BYTES
from pullthrough.faces.ecr.wire.protocol import Dialect, RequestedOperation
from pullthrough.faces.ecr.wire.room import BodyOwner, Room

#: The largest body of all.
LARGEST = RequestedOperation(Dialect.JSON, "ecr", "UploadLayerPart").max_body_bytes


class Holders:
    def __init__(self, stack: AsyncExitStack, room: Room) -> None:
        self._stack = stack
        self._room = room

    async def take(self, sender: BodyOwner, size: int = LARGEST) -> bool:
        """Whether there was room, at once."""
        try:
            await self._stack.enter_async_context(self._room.take(sender, size, patience_seconds=0))
        except TimeoutError:
            return False
        return True

    async def fill(self, *senders: BodyOwner, size: int = LARGEST) -> int:
        """As many as there is room for, from each in turn."""
        count = 0
        for sender in senders:
            while await self.take(sender, size):
                count += 1
        return count


async def test_there_is_room_for_another_client_another_key_and_the_same_key_at_another_client() -> None:
    """However much somebody sends from one address, in the name of one key or of several that he has heard of."""
    keys = [f"AKIA{number}" for number in range(5)]
    for known in (1, 2, 5):
        for size in (LARGEST, 1_000_000):
            async with AsyncExitStack() as stack:
                holders = Holders(stack, Room(MAX_HELD_BYTES))
                assert await holders.fill(*(BodyOwner("flood", key) for key in keys[:known]), size=size)
                for sender in (BodyOwner("other", "another"), BodyOwner("other", keys[0])):
                    async with AsyncExitStack() as another:
                        assert await Holders(another, holders._room).take(sender)
                if known == 1:
                    assert await holders.take(BodyOwner("flood", "another"))


async def test_without_keys_clients_share_alike() -> None:
    async with AsyncExitStack() as stack:
        holders = Holders(stack, Room(MAX_HELD_BYTES))
        assert await holders.fill(BodyOwner("flood", "")) == 4
        assert await holders.take(BodyOwner("other", ""))


async def test_what_is_given_back_is_given_to_who_waits() -> None:
    room = Room(400)
    order: list[str] = []
    end = {name: asyncio.Event() for name in "abcd"}

    async def hold(name: str, sender: BodyOwner, size: int) -> None:
        async with room.take(sender, size, patience_seconds=3600):
            order.append(name)
            await end[name].wait()

    one, other = BodyOwner("one", "k"), BodyOwner("other", "l")
    tasks = [asyncio.create_task(hold("a", one, 100)), asyncio.create_task(hold("b", one, 100))]
    await settle()
    # Nobody waits behind one whose share is used up.
    tasks.append(asyncio.create_task(hold("c", other, 50)))
    await settle()
    assert order == ["a", "c"]
    end["a"].set()
    await settle()
    assert order == ["a", "c"]
    end["c"].set()
    await settle()
    assert order == ["a", "c", "b"]
    # Who goes away while it waits, or as it is granted room, leaves it to others.
    waiting = asyncio.create_task(hold("d", one, 100))
    await settle()
    waiting.cancel()
    end["b"].set()
    await asyncio.gather(*tasks)
    async with room.take(one, 100, patience_seconds=0):
        pass


@pytest.mark.parametrize("steps", range(5))
async def test_room_is_not_lost_to_who_goes_away_as_it_is_given(steps: int) -> None:
    room, sender = Room(4), BodyOwner("one", "k")
    end = asyncio.Event()

    async def hold() -> None:
        async with room.take(sender, 1, patience_seconds=3600):
            await end.wait()

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await settle()
    end.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    async with room.take(sender, 1, patience_seconds=0):
        pass


async def test_nothing_is_remembered_of_who_holds_nothing() -> None:
    room = Room(100)
    for number in range(10):
        async with room.take(BodyOwner(f"{number}", f"k{number}"), 10, patience_seconds=0):
            assert not room.is_idle
    assert room.is_idle


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
