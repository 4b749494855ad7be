"""A fill's place in the queue: behind its upstream's limits, then behind the worker's.

What waits has no file and no lock: there may be many of it, and a client of another worker can begin at once what waits here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from pullthrough.engine.pull.fills.readers import Readers
from pullthrough.engine.rules import Target
from pullthrough.errors import UpstreamThrottled
from pullthrough.fairness.gate import Gate
from pullthrough.oci.digests import Digest
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.interfaces import Upstream

#: How often a fill in the queue looks whether another worker has begun it.
_POLL_SECONDS = 0.25
#: How long a fill waits in the queue, at most. containerd gives up a pull after five minutes without progress.
_LONGEST_SECONDS = 300.0
#: What clients are told then: when to come again.
_BUSY_SECONDS = 10.0


class Queue:
    """The queue of one worker's fills. `slots` are its transfers, by upstream; `queued` is told of each that comes or goes."""

    def __init__(self, slots: Gate, queued: Callable[[int], None]) -> None:
        self.slots = slots
        self.queued = queued


class QueuePlace:
    """Of one fill. `is_led_elsewhere` is None where no other worker shares the folder; `admitted` holds the turn once it has
    come, or at once where it was brought along."""

    def __init__(
        self,
        queue: Queue,
        upstream: Upstream,
        target: Target,
        digest: Digest,
        *,
        errand: Errand,
        readers: Readers,
        is_led_elsewhere: Callable[[], bool] | None,
        admitted: AsyncExitStack | None,
    ) -> None:
        self._queue = queue
        self._upstream = upstream
        self._repository = target.upstream_repository
        self._host = target.upstream
        self._digest = digest
        self._errand = errand
        self._readers = readers
        self._is_led_elsewhere = is_led_elsewhere
        self.admitted = admitted or AsyncExitStack()
        self.has_turn = admitted is not None
        #: Whether it waits for its turn.
        self.is_queued = False

    async def take(self) -> None:
        """Wait for a turn, or until another worker has begun the transfer. Raises UpstreamThrottled after a long time."""
        host = self._host
        if self._upstream.admits_at_once(self._repository) and self._queue.slots.is_open(host):
            await self.take_turn(behind=not self._readers.count)
            return
        self.is_queued = True
        self._queue.queued(+1)
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                while not await self._stand_in_line():
                    pass  # in another place of the queue
        except TimeoutError:
            raise UpstreamThrottled(
                f"{self._digest} waited {_LONGEST_SECONDS:.0f} s for other transfers from {host}",
                upstream=host,
                retry_after_seconds=_BUSY_SECONDS,
            ) from None
        finally:
            self.is_queued = False
            self._queue.queued(-1)

    async def _stand_in_line(self) -> bool:
        """False where the place has become the wrong one: behind, while somebody waits for it, or ahead, while nobody does."""
        readers = self._readers
        behind = not readers.count
        waiting = asyncio.ensure_future(self.take_turn(behind=behind))
        is_led_elsewhere = False
        try:
            while not waiting.done() and not is_led_elsewhere and behind is not bool(readers.count):
                readers.changed.clear()
                changed = asyncio.ensure_future(readers.changed.wait())
                limit = _POLL_SECONDS if self._is_led_elsewhere else None
                try:
                    await asyncio.wait((waiting, changed), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                is_led_elsewhere = self._is_led_elsewhere is not None and self._is_led_elsewhere()
        finally:
            waiting.cancel()
            await asyncio.wait((waiting,))
        if waiting.cancelled():
            return is_led_elsewhere
        waiting.result()
        return True

    async def take_turn(self, *, behind: bool) -> None:
        """The upstream's own queue comes first: whoever waits there keeps nobody else's turn."""
        async with AsyncExitStack() as taken:
            await taken.enter_async_context(self._upstream.admit(self._repository, self._errand, behind=behind))
            await taken.enter_async_context(self._queue.slots.hold(self._host, behind=behind))
            # Nothing waits from here on, so that no turn is lost between the two stacks.
            self.admitted.push_async_exit(taken.pop_all())
            self.has_turn = True

    async def give_back(self) -> None:
        """The turn, if it has one."""
        await self.admitted.aclose()
        self.has_turn = False
