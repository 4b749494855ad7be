"""Fills: one upstream transfer for each blob, owner and secret, whoever asks and in whichever worker.

Clients read along from the start at their own pace. The newest bytes are held back until size and digest match, so that a
wrong body is never sent as a complete one.

Nobody reads along with another owner's upstream, which may send anything, or a byte a second, nor with who asks by another
secret, which may open more: the same digest under another owner, or secret, is another fill.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

from pullthrough.engine.pull.fills.fetching import MAX_THREADS, Fetcher
from pullthrough.engine.pull.fills.fill import Fill, Watcher
from pullthrough.engine.pull.fills.landing import Landing
from pullthrough.engine.pull.fills.queueing import Queue
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import PullthroughError
from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import FairQueue, one_each
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import GrowingKey, GrowingStore
from pullthrough.upstream.interfaces import Upstreams


class FillCounts(Watcher, Protocol):
    """Told how many fills there are, as well."""

    def fills(self, *, active: int, queued: int) -> None: ...


class Fills:
    """The fills of one worker. `is_shared`: other workers have the same store; `ended` is told of each fill's end, with None
    for one that was published."""

    def __init__(
        self,
        *,
        store: GrowingStore,
        landing: Landing,
        upstreams: Upstreams,
        tasks: Tasks,
        watcher: FillCounts,
        make_room: Callable[[int], Awaitable[None]],
        max_fills: int,
        is_shared: bool,
        ended: Callable[[Fill, PullthroughError | None], None],
    ) -> None:
        self._store = store
        self._landing = landing
        self._upstreams = upstreams
        self._tasks = tasks
        self._watcher = watcher
        self._is_shared = is_shared
        self._ended = ended
        #: Its slots are by upstream, after its own queue; each may always have one.
        self._queue = Queue(Gate(FairQueue(max_fills, one_each, places=MAX_THREADS)), self._queued)
        self._fetcher = Fetcher(make_room)
        self._active: dict[GrowingKey, Fill] = {}
        self._waiting = 0

    @property
    def turns(self) -> Gate:
        """The worker's transfers, for who brings a turn along."""
        return self._queue.slots

    def join(
        self, target: Target, digest: Digest, *, size_bytes: int | None, admitted: AsyncExitStack | None = None
    ) -> tuple[Fill, bool]:
        """The fill of this blob for the target's owner and secret, and whether it was begun for this call.

        `admitted` holds a turn for it, where there is one already; it is the fill's from then on, if it is begun.
        """
        key = _key(target, digest)
        if (fill := self._active.get(key)) is not None:
            fill.ask(target)
            return fill, False
        fill = Fill(
            target,
            digest,
            size_bytes=size_bytes,
            admitted=admitted,
            upstream=self._upstreams.get(target.upstream),
            store=self._store,
            landing=self._landing,
            fetcher=self._fetcher,
            queue=self._queue,
            tasks=self._tasks,
            watcher=self._watcher,
            is_shared=self._is_shared,
            ended=self._finished,
        )
        self._active[key] = fill
        self._count()
        return fill, True

    def is_active(self, target: Target, digest: Digest) -> bool:
        """Whether the blob comes in here from this target's upstream, by whatever name, for the same account."""
        return any(fill.digest == digest and fill.target.source == target.source for fill in self._active.values())

    async def size_of(self, target: Target, digest: Digest) -> int | None:
        """The size of a blob that is being filled for this target's owner and secret, in any worker; None where it is
        not."""
        key = _key(target, digest)
        fill = self._active.get(key)
        if fill is not None and fill.course.size_bytes is not None:
            return fill.course.size_bytes
        told = await self._store.peek(key)
        return told.total_bytes if told is not None and told.owner == target.owner else None

    def digests(self) -> set[Digest]:
        """What is being filled here, for eviction to leave alone."""
        return {fill.digest for fill in self._active.values()}

    def close(self) -> None:
        """After the tasks have ended."""
        self._fetcher.close()

    def _queued(self, change: int) -> None:
        self._waiting += change
        self._count()

    def _finished(self, fill: Fill, error: PullthroughError | None) -> None:
        self._active.pop(_key(fill.target, fill.digest), None)
        self._count()
        self._ended(fill, error)

    def _count(self) -> None:
        self._watcher.fills(active=len(self._active) - self._waiting, queued=self._waiting)


def _key(target: Target, digest: Digest) -> GrowingKey:
    return GrowingKey(digest, target.upstream_owner, target.secret)
