"""Fills: one upstream transfer for each blob, whoever asks and in whichever worker.

A `Fill` is a blob on its way in, as this worker sees it: it leads (its thread in transfer.py writes the partial file) or it
follows the leader in another worker by looking at the file every few milliseconds. Clients read along from the start at
their own pace. The newest bytes are held back until size and digest match, so that a wrong body is never sent as a
complete one. A fill belongs to the engine: clients that leave change nothing.

    led:      queue -> transfer -> digest matches -> tail released -> fsync, rename, catalog -> done
    followed: look at size and sidecar -> done, failed, or the leader died: lead

A fill that no client waits for (a prefetch) queues before it takes the lead: a client of another worker can then begin
at once what waits here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from pullthrough.engine.partials import Partial, Sidecar, State, is_led, look_at, pack_error, unpack_error
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Caller, Tasks, wait_out
from pullthrough.engine.transfer import Body, Transfer
from pullthrough.engine.turns import Turns
from pullthrough.errors import (
    ContentError,
    DiskFull,
    PullthroughError,
    StorageError,
    UpstreamUnavailable,
)
from pullthrough.metrics import Metrics
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.catalog import Catalog
from pullthrough.storage.locks import Locks
from pullthrough.upstream.abort import AbortHandle
from pullthrough.upstream.upstreams import Upstreams

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: Not sent before the digest is known to match. A client that lacks these cannot take the body for a whole one.
HOLD_BACK_BYTES = 64 * 1024
#: What a fill's thread is nicer than the event loop: where they share a core, it has a sixth of it while the loop wants all
#: of it, and what is left otherwise (sched(7): a step is a factor of 1.25 in their shares).
_NICER = 7
#: How often a follower looks at the file of a leader in another process.
_POLL_SECONDS = 0.005
#: A follower tries to take over at every so many looks.
_POLLS_PER_LOCK = 20
#: How often a prefetch looks whether another worker's have left it a slot.
_SLOT_POLL_SECONDS = 0.05
#: How long the sidecar of a failed fill stays behind for its followers.
_FAILURE_STAYS_SECONDS = 1.0
#: What a sidecar takes at most.
_SIDECAR_BYTES = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Room(Protocol):
    """Tries to free so many bytes of disk; blocking."""

    def __call__(self, needed_bytes: int, /) -> None: ...


class LookAgain(PullthroughError):
    """Things changed since the blob was looked up: it was published, or the fill that was joined may not go on here."""


class Fills:
    """The fills of one worker, and what they share."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        call: Caller,
        locks: Locks,
        upstreams: Upstreams,
        tasks: Tasks,
        metrics: Metrics,
        clock: Callable[[], float],
        boot_id: str,
        make_room: Room,
        max_fills: int,
        behind_per_upstream: int,
        ended: Callable[[Fill, PullthroughError | None], None],
    ) -> None:
        self.store = store
        self.catalog = catalog
        self.call = call
        self.upstreams = upstreams
        self.tasks = tasks
        self.metrics = metrics
        self.clock = clock
        self.boot_id = boot_id
        self.make_room = make_room
        self.turns = Turns(max_fills)
        #: Told of each fill's end, with None for one that was published.
        self.ended = ended
        self.threads = ThreadPoolExecutor(max_fills, thread_name_prefix="fill", initializer=_step_back)
        self._locks = locks
        self._behind_per_upstream = behind_per_upstream
        self._behind_turns: dict[str, Turns] = {}
        self._active: dict[str, Fill] = {}
        self._queued = 0

    def join(
        self, target: Target, digest: Digest, *, size_bytes: int | None, behind: bool = False, proof: bool = False
    ) -> tuple[Fill, bool]:
        """The fill of this blob, and whether it was begun for this call. Raises DiskFull where not even that is possible.

        `proof`: a transfer under this repository's own name, though the bytes are here or on their way under another's.
        """
        key = f"{digest}@{target.repository}" if proof else str(digest)
        if (fill := self._active.get(key)) is not None:
            fill.ask(target, wanted=not behind)
            return fill, False
        try:
            partial = Partial(self._partial_path(target, digest, proof=proof))
        except OSError as error:
            raise _storage_error(f"no partial file could be made for {digest}", error) from error
        fill = Fill(self, key, partial, target, digest, size_bytes=size_bytes, behind=behind)
        self._active[key] = fill
        self.count()
        return fill, True

    def size_of(self, target: Target, digest: Digest) -> int | None:
        """The size of a blob that is being filled under this repository's name, in any worker; None where it is not."""
        fill = self._active.get(str(digest))
        if fill is not None and fill.known_owner == target.repository and fill.size_bytes is not None:
            return fill.size_bytes
        told = look_at(self._partial_path(target, digest, proof=False), self.store.path(digest))
        return told.total_bytes if told is not None and told.repository == target.repository else None

    def _partial_path(self, target: Target, digest: Digest, *, proof: bool) -> Path:
        return self.store.partial_path(digest, target.repository if proof else "")

    def digests(self) -> set[Digest]:
        """What is being filled here, for eviction to leave alone."""
        return {fill.digest for fill in self._active.values()}

    @asynccontextmanager
    async def behind_turn(self, upstream: str) -> AsyncIterator[None]:
        """One of the few prefetches that may run at once from one upstream, in all workers together."""
        turns = self._behind_turns.setdefault(upstream, Turns(self._behind_per_upstream))
        async with turns.take():
            slots = [f"prefetch {upstream} {number}" for number in range(self._behind_per_upstream)]
            while (lock := next(filter(None, map(self._locks.try_lock, slots)), None)) is None:  # noqa: ASYNC110 - held by another process
                await asyncio.sleep(_SLOT_POLL_SECONDS)
            with lock:
                yield

    def queued(self, change: int) -> None:
        self._queued += change
        self.count()

    def finished(self, fill: Fill, error: PullthroughError | None) -> None:
        self._active.pop(fill.key, None)
        self.count()
        self.ended(fill, error)

    def count(self) -> None:
        self.metrics.fills(active=len(self._active) - self._queued, queued=self._queued)

    def close(self) -> None:
        """After the tasks have ended."""
        self.threads.shutdown()


class Fill:
    """One blob on its way in, as this worker sees it. On the event loop only; `Fills.join` makes them.

    Who reads along calls `attach` before anything else, and `detach` at the end: the file stays open until then.
    """

    def __init__(
        self,
        fills: Fills,
        key: str,
        partial: Partial,
        target: Target,
        digest: Digest,
        *,
        size_bytes: int | None,
        behind: bool,
    ) -> None:
        self.key = key
        self.digest = digest
        #: For whom the transfer is, where this worker does it.
        self.target = target
        #: The size, as soon as the manifest or the upstream names it.
        self.size_bytes = size_bytes
        #: Whether another worker does the transfer.
        self.follows = False
        #: Whether the rest of the image was begun because of this blob.
        self.siblings_begun = False
        self._fills = fills
        self._expected_bytes = size_bytes
        self._proof = "@" in key
        self._makes_repository = False
        self._partial = partial
        self._readers = 0
        self._ended = False
        self._asked = {target.repository: target}
        self._confirmed: set[RepositoryName] = set()
        self._has_turn = False
        self._attempt = ""
        self._written = 0
        self._verified = False
        self._error: PullthroughError | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._loop = asyncio.get_running_loop()
        self._wake_scheduled = False
        self._stop = threading.Event()
        self._abort = AbortHandle()
        self._wanted = asyncio.Event()
        if not behind:
            self._wanted.set()
        self._owner: asyncio.Future[RepositoryName | None] = self._loop.create_future()
        self.done = fills.tasks.spawn(self._run(), name=f"fill {target.repository}@{digest}")

    # --- for readers -------------------------------------------------------------------------------------------------

    def ask(self, target: Target, *, wanted: bool) -> None:
        """This repository asks for the blob as well. `wanted`: a client waits, so a prefetch in the queue moves ahead."""
        self._asked.setdefault(target.repository, target)
        if wanted:
            self._wanted.set()

    def confirm(self, repository: RepositoryName) -> None:
        """This repository's own upstream has the blob: it may read along, and go on where the leader dies."""
        self._confirmed.add(repository)

    def is_confirmed(self, repository: RepositoryName) -> bool:
        return repository in self._confirmed

    async def owner(self) -> RepositoryName:
        """The repository under whose name the bytes come in. Raises what ended the fill before that was known."""
        owner = await asyncio.shield(self._owner)
        if owner is None:
            raise self._error or LookAgain(f"the fill of {self.digest} ended")
        return owner

    @property
    def known_owner(self) -> RepositoryName | None:
        return self._owner.result() if self._owner.done() else None

    @property
    def visible_bytes(self) -> int:
        return self._written if self._verified else max(0, self._written - HOLD_BACK_BYTES)

    @property
    def is_verified(self) -> bool:
        return self._verified

    @property
    def written_bytes(self) -> int:
        """What has arrived, the part that is held back included."""
        return self._written

    async def wait(self, offset: int) -> int:
        """Wait for bytes behind `offset`; returns where they end for now. Equal to `offset` only at the body's end.

        Raises what ended the fill, once all bytes that may be sent have been given out.
        """
        while True:
            visible = self.visible_bytes
            if visible > offset or self._verified:
                return visible
            if self._error is not None:
                raise self._error
            future: asyncio.Future[None] = self._loop.create_future()
            entry = (offset, future)
            self._waiters.append(entry)
            try:
                await future
            finally:
                if entry in self._waiters:
                    self._waiters.remove(entry)

    def attach(self) -> None:
        """Keep the file open."""
        self._readers += 1

    def detach(self) -> None:
        self._readers -= 1
        self._close_if_done()

    def fileno(self) -> int:
        """The growing file. Always the same one once `wait` has returned: what replaces it has nobody's bytes."""
        return self._partial.fd

    def interrupt(self) -> None:
        """End the transfer; what has arrived stays and can be continued."""
        self._stop.set()
        self._abort.abort()

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        error: PullthroughError | None = None
        try:
            async with AsyncExitStack() as admitted:
                await self._lead_or_follow(admitted)
        except PullthroughError as caught:
            error = caught
        except OSError as caught:
            error = _storage_error(f"the fill of {self.digest} failed on our side", caught)
            _log.exception("%s@%s: the fill failed", self.target.repository, self.digest)
        except asyncio.CancelledError:
            error = UpstreamUnavailable("the engine is stopping", upstream=self.target.upstream)
            raise
        except Exception:
            # A fault of ours, which the task logs: whoever waits must hear of it all the same.
            error = StorageError(f"the fill of {self.digest} failed on our side")
            raise
        finally:
            if error is not None and not self._verified:
                self._error = error
            if not self._owner.done():
                self._owner.set_result(None)
            self._ended = True
            self._wake()
            self._leave_nothing_empty()
            self._partial.unlock()
            self._close_if_done()
            self._fills.finished(self, error)

    def _leave_nothing_empty(self) -> None:
        """A fill that is ended before its first byte (a prefetch in the queue, at a stop) leaves nothing to go on from.

        Others who have the file open find that it is no longer current, and begin another one.
        """
        partial = self._partial
        if not partial.size() and partial.try_lead() and partial.is_current():
            partial.remove_sidecar(self._attempt)
            partial.discard()

    def _close_if_done(self) -> None:
        if self._ended and not self._readers:
            self._partial.close()

    async def _lead_or_follow(self, admitted: AsyncExitStack) -> None:
        if not self._wanted.is_set():
            await self._queue(admitted)
        looks = 0
        while True:
            if looks % _POLLS_PER_LOCK == 0 and self._partial.try_lead():
                if self._look(led=False):
                    return
                if self._may_lead():
                    self.follows = False
                    await self._lead(admitted)
                    return
            if not self.follows:
                self.follows = True
                await admitted.aclose()  # the turn of a prefetch, if it has one
                self._has_turn = False
            if self._look(led=True):
                # Readers have it all by now; the end is told once the catalog has it too, for grants wait for that.
                while is_led(self._fills.store.path(self.digest)):  # noqa: ASYNC110 - held by another process
                    await asyncio.sleep(_POLL_SECONDS)
                return
            looks += 1
            await asyncio.sleep(_POLL_SECONDS)

    def _may_lead(self) -> bool:
        """Called with the lock: whether this worker is to do the transfer, and then for whom.

        Where the bytes so far came for another repository, only one that asked here and whose own upstream has the blob
        too may go on with them.
        """
        if not self._partial.is_current():
            # Given up and removed. A new file may be begun only if no reader has bytes of the old one.
            if self._written:
                raise UpstreamUnavailable(
                    f"the fill of {self.digest} ended in another worker", upstream=self.target.upstream
                )
            self._partial.reopen()
            return self._partial.try_lead() and self._partial.is_current()
        owner = self.known_owner
        if owner is not None:
            entitled = [self._asked[name] for name in (owner, *sorted(self._confirmed)) if name in self._asked]
            if not entitled:
                raise LookAgain(f"the fill of {self.digest} ended in another worker, and is no other repository's")
            self.target = entitled[0]
        return True

    def _look(self, *, led: bool) -> bool:
        """See how far the leader in another process is. True at the end; raises what the leader failed with.

        `led` is False where nobody can be leading (we hold the lock): what the sidecar says is then the last word of
        an attempt that may have ended long ago.
        """
        published = self._partial.is_published_as(self._fills.store.path(self.digest))
        sidecar = self._partial.read_sidecar()
        size = self._partial.size()
        verified = False
        if sidecar is not None and not led and sidecar.attempt != self._attempt:
            sidecar = None
        if sidecar is not None:
            if sidecar.state is State.FAILED:
                if sidecar.attempt == self._attempt:
                    raise unpack_error(sidecar.error)
                sidecar = None
            elif sidecar.state is State.VERIFIED:
                verified = size == sidecar.total_bytes
                if not verified:
                    sidecar = None
        if sidecar is not None:
            self._attempt = sidecar.attempt
            if not self._owner.done():
                self._owner.set_result(RepositoryName(sidecar.repository))
            if sidecar.total_bytes is not None:
                self.size_bytes = sidecar.total_bytes
            self._written = max(self._written, size)
        if published and not self._owner.done():
            raise LookAgain(f"{self.digest} was published meanwhile")
        if published or verified:
            self._written = self.size_bytes = size
            self._verified = True
        self._wake()
        return published

    async def _lead(self, admitted: AsyncExitStack) -> None:
        fills = self._fills
        if self._partial.size() and not self._may_continue(self._partial.read_sidecar()):
            if self._written:
                raise UpstreamUnavailable(f"the fill of {self.digest} cannot go on", upstream=self.target.upstream)
            self._partial.restart()
        self._attempt = uuid.uuid4().hex
        try:
            while not await wait_out(fills.call(self._prepare), self.interrupt):  # noqa: ASYNC110 - done by another process
                await asyncio.sleep(_POLL_SECONDS)
            self._written = self._partial.size()
            if not self._owner.done():
                self._owner.set_result(self.target.repository)
            await self._queue(admitted)
            await wait_out(self._loop.run_in_executor(fills.threads, self._transfer), self.interrupt)
        except LookAgain:
            self._partial.remove_sidecar(self._attempt)
            self._partial.discard()
            raise
        except PullthroughError as error:
            self._fail(error)
            raise

    def _may_continue(self, left: Sidecar | None) -> bool:
        """Not bytes that a power failure may have spoiled, or that another repository's upstream sent."""
        return (
            left is not None
            and left.boot_id == self._fills.boot_id
            and (left.repository == self.target.repository or self.is_confirmed(self.target.repository))
        )

    def _prepare(self) -> bool:
        """Tell the followers, and see that the blob is really missing. False while another worker just publishes it."""
        fills = self._fills
        self._tell(State.FILLING)
        publishing = is_led(fills.store.path(self.digest))
        # In this order: who publishes keeps the lock until the catalog has it.
        record = fills.catalog.find_blob(self.target.repository, self.digest)
        self._makes_repository = not record.repository_known
        here = record.published and (record.granted or not self._proof)
        if here and fills.store.size(self.digest) is not None:
            raise LookAgain(f"{self.digest} was published meanwhile")
        return not publishing

    async def _queue(self, admitted: AsyncExitStack) -> None:
        """Wait for a turn: behind all others while nobody wants this blob, and ahead of those once somebody does.

        Does nothing where there is a turn already.
        """
        if self._has_turn:
            return
        self._fills.queued(+1)
        try:
            await self._wait_for_turn(admitted)
            self._has_turn = True
        finally:
            self._fills.queued(-1)

    async def _wait_for_turn(self, admitted: AsyncExitStack) -> None:
        if not self._wanted.is_set():
            behind = asyncio.ensure_future(self._queue_behind(admitted))
            wanted = asyncio.ensure_future(self._wanted.wait())
            try:
                await asyncio.wait((behind, wanted), return_when=asyncio.FIRST_COMPLETED)
            finally:
                wanted.cancel()
                behind.cancel()
            await asyncio.wait((behind,))
            if not behind.cancelled():
                behind.result()
                return
        await admitted.enter_async_context(self._fills.turns.take())
        await admitted.enter_async_context(self._fills.upstreams.get(self.target.upstream).admit())

    async def _queue_behind(self, admitted: AsyncExitStack) -> None:
        async with AsyncExitStack() as taken:
            await taken.enter_async_context(self._fills.behind_turn(self.target.upstream))
            await taken.enter_async_context(self._fills.turns.take(behind=True))
            await taken.enter_async_context(self._fills.upstreams.get(self.target.upstream).admit(behind=True))
            # Nothing waits from here on, so no turn is lost between the two stacks.
            await admitted.enter_async_context(taken.pop_all())

    def _transfer(self) -> None:
        """In the fill's thread: transfer, verify, release the tail, publish."""
        fills = self._fills
        started = time.monotonic()
        upstream = fills.upstreams.get(self.target.upstream)

        def open_body(start: int, if_range: str) -> Body:
            return upstream.open_blob(
                self.target.upstream_repository,
                self.digest,
                self.target.rule.credential,
                start=start,
                if_range=if_range,
                abort=self._abort,
            )

        size = Transfer(
            digest=self.digest,
            fd=self._partial.fd,
            upstream=self.target.upstream,
            open_body=open_body,
            expected_bytes=self._expected_bytes,
            stop=self._stop,
            progress=self._progress,
            size_known=self._size_known,
            make_room=fills.make_room,
            wait=self._stop.wait,
        ).run()
        self._tell(State.VERIFIED, size)
        self._loop.call_soon_threadsafe(self._release, size)
        self._publish(size)
        self._partial.remove_sidecar(self._attempt)
        fills.metrics.fill_published(self.target.upstream, time.monotonic() - started)

    def _publish(self, size_bytes: int) -> None:
        """Into the store and the catalog; where the disk is full, once more after making room."""
        fills = self._fills
        renamed = False
        for is_last in (False, True):
            try:
                if not renamed:
                    fills.store.publish(self._partial.path, self.digest)
                    renamed = True
                fills.catalog.publish_blob(
                    self.target.repository,
                    self.digest,
                    size_bytes,
                    boot_id=fills.boot_id,
                    now=fills.clock(),
                    makes_repository=self._makes_repository,
                )
                return
            except StorageError as error:
                if isinstance(error, DiskFull) and not is_last:
                    fills.make_room(_SIDECAR_BYTES)
                    continue
                if renamed and not self._proof and fills.catalog.inventory.unknown_blobs([self.digest]):
                    # Nothing knows the file, so nothing would ever evict it. Readers have it open.
                    fills.store.remove(self.digest)
                raise

    def _progress(self, written: int) -> None:
        self._written = written
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._loop.call_soon_threadsafe(self._wake)

    def _size_known(self, size_bytes: int) -> None:
        if size_bytes != self.size_bytes:
            self.size_bytes = size_bytes
            self._tell(State.FILLING)

    def _tell(self, state: State, total_bytes: int | None = None) -> None:
        """In a thread. Raises DiskFull where there is no room even for that, and none could be made."""
        sidecar = self._sidecar(state, total_bytes)
        try:
            self._partial.write_sidecar(sidecar)
        except OSError as caught:
            if caught.errno not in _FULL:
                raise
            self._fills.make_room(_SIDECAR_BYTES)
            try:
                self._partial.write_sidecar(sidecar)
            except OSError as error:
                raise _storage_error(f"the sidecar of {self.digest} could not be written", error) from error

    def _sidecar(self, state: State, total_bytes: int | None = None, error: PullthroughError | None = None) -> Sidecar:
        return Sidecar(
            repository=self.target.repository,
            boot_id=self._fills.boot_id,
            attempt=self._attempt,
            state=state,
            total_bytes=total_bytes if total_bytes is not None else self.size_bytes,
            error=pack_error(error) if error else None,
        )

    def _release(self, size_bytes: int) -> None:
        self._written = self.size_bytes = size_bytes
        self._verified = True
        self._wake()

    def _fail(self, error: PullthroughError) -> None:
        """Tell the followers, and remove what cannot be continued."""
        metrics = self._fills.metrics
        metrics.fill_failed(self.target.upstream)
        if self._verified:
            # The bytes are right and every reader has them; only keeping them failed. Followers are told nothing worse.
            _log.error("%s@%s was served but could not be kept: %s", self.target.repository, self.digest, error)
        else:
            if isinstance(error, ContentError):
                metrics.digest_mismatch(self.target.upstream)
                _log.error("%s@%s: %s", self.target.repository, self.digest, error)
            else:
                _log.warning("%s@%s could not be filled: %s", self.target.repository, self.digest, error)
            try:
                self._partial.write_sidecar(self._sidecar(State.FAILED, error=error))
            except OSError as caught:
                _log.warning("the followers of %s could not be told: %s", self.digest, caught)
        if self._verified or isinstance(error, ContentError | DiskFull) or self._partial.size() == 0:
            self._partial.discard()
            self._fills.tasks.spawn(self._forget_failure(), name=f"forget the failure of {self.digest}")

    async def _forget_failure(self) -> None:
        """Without its body the sidecar is of use to the followers only, and they look often."""
        await asyncio.sleep(_FAILURE_STAYS_SECONDS)
        self._partial.remove_sidecar(self._attempt)

    def _wake(self) -> None:
        self._wake_scheduled = False
        if not self._waiters:
            return
        visible = self.visible_bytes
        final = self._verified or self._error is not None
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for offset, future in self._waiters:
            if final or visible > offset:
                if not future.done():
                    future.set_result(None)
            else:
                waiting.append((offset, future))
        self._waiters = waiting


def _step_back() -> None:
    """First in each of the fills' threads: it gets what the event loop leaves. On Linux a thread has a niceness of its own
    (setpriority(2)). Small answers wait for the loop; a fill that shares its core would otherwise have most of it.
    """
    with suppress(OSError):  # a container that forbids the call: fills work as well without
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


def _storage_error(what: str, error: OSError) -> StorageError:
    return (DiskFull if error.errno in _FULL else StorageError)(f"{what}: {error.strerror or error}")
