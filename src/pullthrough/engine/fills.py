"""Fills: one upstream transfer for each blob, owner and secret, whoever asks and in whichever worker.

A `Fill` is a blob on its way in, as this worker sees it: it leads (its thread in transfer.py writes the partial file) or it
follows the leader in another worker by looking at the file every few milliseconds. Clients read along from the start at
their own pace. The newest bytes are held back until size and digest match, so that a wrong body is never sent as a
complete one. A fill belongs to the engine: clients that leave change nothing, but that it queues behind others then.

    led:      queue -> transfer -> digest matches -> tail released -> fsync, rename, catalog -> done
    followed: look at size and sidecar -> done, failed, or the leader died: lead

Nobody reads along with another owner's upstream, which may send anything, or a byte a second, nor with who asks by
another secret, which may open more: the same digest under another owner, or secret, is another fill. What is in the queue
has no file and no lock: there may be many of it, and a client of another worker can begin at once what waits here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Protocol

from pullthrough.asker import ASKER
from pullthrough.engine.partials import Partial, Sidecar, State, is_led, look_at, pack_error, unpack_error
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Caller, Tasks, wait_out
from pullthrough.engine.transfer import Body, Transfer
from pullthrough.errors import (
    ContentError,
    DiskFull,
    PullthroughError,
    StorageError,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.fairness.gate import LINE, Gate, Line
from pullthrough.fairness.queue import one_each
from pullthrough.metrics import Metrics
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.catalog import Catalog
from pullthrough.upstream.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstreams

_log = logging.getLogger(__name__)

#: Not sent before the digest is known to match. A client that lacks these cannot take the body for a whole one.
HOLD_BACK_BYTES = 64 * 1024
#: What a fill's thread is nicer than the event loop: where they share a core, it has a sixth of it while the loop wants all
#: of it, and what is left otherwise (sched(7): a step is a factor of 1.25 in their shares).
_NICER = 7
#: How often a follower looks at the file of a leader in another process.
_POLL_SECONDS = 0.005
#: A follower tries to take over at every so many looks.
_POLLS_PER_LOCK = 20
#: How often a fill in the queue looks whether another worker has begun it.
_QUEUE_POLL_SECONDS = 0.25
#: How long a fill waits in the queue, at most. containerd gives up a pull after five minutes without progress.
_QUEUE_SECONDS = 300.0
#: What clients are told then: when to come again.
_BUSY_SECONDS = 10.0
#: How long the sidecar of a failed fill stays behind for its followers.
_FAILURE_STAYS_SECONDS = 1.0
#: What a sidecar takes at most.
_SIDECAR_BYTES = 4096
#: More than there are transfers: `max_fills`, and one for each upstream beyond.
_MAX_THREADS = 4096
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

#: Who shares a fill: the blob, whose it is, and the secret that it is asked for with.
_Key = tuple[Digest, Owner, str]


class Room(Protocol):
    """Tries to free so many bytes of disk; blocking."""

    def __call__(self, needed_bytes: int, /) -> None: ...


class LookAgain(PullthroughError):
    """Things changed since the blob was looked up: it was published, or the fill that was joined may not go on here."""


class Fills:
    """The fills of one worker, and what they share. `is_shared`: other workers have the same folder."""

    def __init__(
        self,
        *,
        store: BlobStore,
        catalog: Catalog,
        call: Caller,
        upstreams: Upstreams,
        tasks: Tasks,
        metrics: Metrics,
        clock: Callable[[], float],
        boot_id: str,
        make_room: Room,
        max_fills: int,
        is_shared: bool,
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
        self.is_shared = is_shared
        #: By upstream, after its own queue; each may always have one.
        self.turns = Gate(max_fills, one_each, places=_MAX_THREADS)
        #: Told of each fill's end, with None for one that was published.
        self.ended = ended
        #: Threads are made as they are needed: one a transfer, also of upstreams beyond the limit.
        self.threads = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="fill", initializer=_step_back)
        self._active: dict[_Key, Fill] = {}
        self._queued = 0

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
        fill = Fill(self, target, digest, size_bytes=size_bytes, admitted=admitted)
        self._active[key] = fill
        self.count()
        return fill, True

    def is_active(self, target: Target, digest: Digest) -> bool:
        """Whether the blob comes in here from this target's upstream, by whatever name, for the same account."""
        return any(fill.digest == digest and fill.target.source == target.source for fill in self._active.values())

    def size_of(self, target: Target, digest: Digest) -> int | None:
        """The size of a blob that is being filled for this target's owner and secret, in any worker; None where it is
        not."""
        fill = self._active.get(_key(target, digest))
        if fill is not None and fill.size_bytes is not None:
            return fill.size_bytes
        told = look_at(self.partial_path(target, digest), self.store.path(digest))
        return told.total_bytes if told is not None and told.owner == target.owner else None

    def partial_path(self, target: Target, digest: Digest) -> Path:
        return self.store.partial_path(digest, target.upstream_owner, target.secret)

    def digests(self) -> set[Digest]:
        """What is being filled here, for eviction to leave alone."""
        return {fill.digest for fill in self._active.values()}

    def queued(self, change: int) -> None:
        self._queued += change
        self.count()

    def finished(self, fill: Fill, error: PullthroughError | None) -> None:
        self._active.pop(_key(fill.target, fill.digest), None)
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
        target: Target,
        digest: Digest,
        *,
        size_bytes: int | None,
        admitted: AsyncExitStack | None,
    ) -> None:
        self.digest = digest
        self.target = target
        #: The size, as soon as the manifest or the upstream names it.
        self.size_bytes = size_bytes
        #: Whether another worker does the transfer.
        self.follows = False
        #: Whether the rest of the image was begun because of this blob.
        self.siblings_begun = False
        #: Whether it waits for its turn.
        self.is_queued = False
        self._fills = fills
        self._path = fills.partial_path(target, digest)
        self._published_path = fills.store.path(digest)
        self._expected_bytes = size_bytes
        self._makes_repository = False
        self._partial: Partial | None = None
        self._readers = 0
        self._ended = False
        #: Repositories of this owner, under whatever rule with this secret, that may read it when it is here.
        self._asked = {target.repository}
        #: For the upstream's connections: of each client that asks, for one may have so much under way that it waits long.
        self._line = Line()
        self._has_turn = admitted is not None
        self._attempt = ""
        self._written = 0
        self._verified = False
        self._error: PullthroughError | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._loop = asyncio.get_running_loop()
        self._wake_scheduled = False
        self._stop = threading.Event()
        self._abort = AbortHandle()
        self._errand = fills.upstreams.get(target.upstream).errand()
        #: Set when the first reader comes or the last one goes: the place in the queue is another one then.
        self._wanted_changed = asyncio.Event()
        self.done = fills.tasks.spawn(
            self._run(admitted or AsyncExitStack()), name=f"fill {target.repository}@{digest}"
        )

    # --- for readers -------------------------------------------------------------------------------------------------

    def ask(self, target: Target) -> None:
        """This repository, of the same owner and secret, asks for the blob as well."""
        self._asked.add(target.repository)
        self._line.join(ASKER.get())

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
        self._wanted_changed.set()

    def detach(self) -> None:
        self._readers -= 1
        self._wanted_changed.set()
        self._close_if_done()

    def fileno(self) -> int:
        """The growing file. Always the same one once `wait` has returned: what replaces it has nobody's bytes."""
        return self._partial.fd if self._partial is not None else -1

    def interrupt(self) -> None:
        """End the transfer; what has arrived stays and can be continued."""
        self._stop.set()
        self._abort.abort()

    # --- the work ----------------------------------------------------------------------------------------------------

    async def _run(self, admitted: AsyncExitStack) -> None:
        LINE.set(self._line)
        error: PullthroughError | None = None
        try:
            async with admitted:
                await self._lead_or_follow(admitted)
        except PullthroughError as caught:
            error = caught
            if self._partial is None:
                self._note_failure(caught)  # in the queue
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
            self._ended = True
            self._wake()
            if self._partial is not None:
                self._leave_nothing_empty(self._partial)
                self._partial.unlock()
            self._close_if_done()
            self._fills.finished(self, error)

    def _leave_nothing_empty(self, partial: Partial) -> None:
        """A fill that is ended before its first byte, at a stop, leaves nothing to go on from.

        Others who have the file open find that it is no longer current, and begin another one.
        """
        if not partial.size() and partial.try_lead() and partial.is_current():
            partial.remove_sidecar(self._attempt)
            partial.discard()

    def _close_if_done(self) -> None:
        if self._ended and not self._readers and self._partial is not None:
            self._partial.close()

    async def _lead_or_follow(self, admitted: AsyncExitStack) -> None:
        if not self._has_turn:
            await self._queue(admitted)
        try:
            partial = self._partial = Partial(self._path)
        except OSError as error:
            raise _storage_error(f"no partial file could be made for {self.digest}", error) from error
        looks = 0
        while True:
            if looks % _POLLS_PER_LOCK == 0 and partial.try_lead():
                if self._look(partial, led=False):
                    break
                if self._may_lead(partial):
                    self.follows = False
                    await self._lead(partial, admitted)
                    return
            if not self.follows:
                self.follows = True
                await admitted.aclose()  # the turn, if it has one
                self._has_turn = False
            if self._look(partial, led=True):
                # Readers have it all by now; the end is told once the catalog has it too, for grants wait for that.
                while is_led(self._published_path):  # noqa: ASYNC110 - held by another process
                    await asyncio.sleep(_POLL_SECONDS)
                break
            looks += 1
            await asyncio.sleep(_POLL_SECONDS)
        await self._fills.call(self._grant, self._asked)

    def _may_lead(self, partial: Partial) -> bool:
        """Called with the lock: whether this worker is to do the transfer."""
        if partial.is_current():
            return True
        # Given up and removed. A new file may be begun only if no reader has bytes of the old one.
        if self._written:
            raise UpstreamUnavailable(
                f"the fill of {self.digest} ended in another worker", upstream=self.target.upstream
            )
        partial.reopen()
        return partial.try_lead() and partial.is_current()

    def _look(self, partial: Partial, *, led: bool) -> bool:
        """See how far the leader in another process is. True at the end; raises what the leader failed with.

        `led` is False where nobody can be leading (we hold the lock): what the sidecar says is then the last word of
        an attempt that may have ended long ago.
        """
        published = partial.is_published_as(self._published_path)
        sidecar = partial.read_sidecar()
        size = partial.size()
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
            if sidecar.total_bytes is not None:
                self.size_bytes = sidecar.total_bytes
            self._written = max(self._written, size)
        if published and not self._attempt:
            raise LookAgain(f"{self.digest} was published meanwhile")
        if published or verified:
            self._written = self.size_bytes = size
            self._verified = True
        self._wake()
        return published

    async def _lead(self, partial: Partial, admitted: AsyncExitStack) -> None:
        fills = self._fills
        if partial.size() and not self._may_continue(partial.read_sidecar()):
            if self._written:
                raise UpstreamUnavailable(f"the fill of {self.digest} cannot go on", upstream=self.target.upstream)
            partial.restart()
        self._attempt = uuid.uuid4().hex
        try:
            while not await wait_out(fills.call(self._prepare, partial), self.interrupt):  # noqa: ASYNC110 - done by another process
                await asyncio.sleep(_POLL_SECONDS)
            self._written = partial.size()
            if not self._has_turn:  # the leader died whom this one followed
                await self._wait_for_turn(admitted, behind=False)
            await wait_out(self._loop.run_in_executor(fills.threads, self._transfer, partial), self.interrupt)
        except LookAgain:
            partial.remove_sidecar(self._attempt)
            partial.discard()
            raise
        except PullthroughError as error:
            self._fail(partial, error)
            raise

    def _may_continue(self, left: Sidecar | None) -> bool:
        """Not bytes that a power failure may have spoiled."""
        return left is not None and left.boot_id == self._fills.boot_id and left.owner == self.target.owner

    def _prepare(self, partial: Partial) -> bool:
        """Tell the followers, and see that the blob is really missing. False while another worker just publishes it."""
        fills = self._fills
        self._tell(partial, State.FILLING)
        publishing = is_led(self._published_path)
        # In this order: who publishes keeps the lock until the catalog has it.
        record = fills.catalog.find_blob(self.target.repository, self.target.owner, self.digest)
        self._makes_repository = not record.repository_known
        if record.published and record.granted and fills.store.size(self.digest) is not None:
            raise LookAgain(f"{self.digest} was published meanwhile")
        return not publishing

    # --- the queue ---------------------------------------------------------------------------------------------------

    async def _queue(self, admitted: AsyncExitStack) -> None:
        """Wait for a turn, or until another worker has begun the transfer. Raises UpstreamThrottled after a long time."""
        upstream = self._fills.upstreams.get(self.target.upstream)
        if upstream.admits_at_once(self.target.upstream_repository) and self._fills.turns.is_open(self.target.upstream):
            await self._wait_for_turn(admitted, behind=not self._readers)
            return
        self.is_queued = True
        self._fills.queued(+1)
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                while not await self._stand_in_line(admitted):
                    pass  # in another place of the queue
        except TimeoutError:
            raise UpstreamThrottled(
                f"{self.digest} waited {_QUEUE_SECONDS:.0f} s for other transfers from {self.target.upstream}",
                upstream=self.target.upstream,
                retry_after_seconds=_BUSY_SECONDS,
            ) from None
        finally:
            self.is_queued = False
            self._fills.queued(-1)

    async def _stand_in_line(self, admitted: AsyncExitStack) -> bool:
        """False where the place has become the wrong one: behind, while somebody waits for it, or ahead, while nobody does."""
        behind = not self._readers
        waiting = asyncio.ensure_future(self._wait_for_turn(admitted, behind=behind))
        led_elsewhere = False
        try:
            while not waiting.done() and not led_elsewhere and behind is not bool(self._readers):
                self._wanted_changed.clear()
                changed = asyncio.ensure_future(self._wanted_changed.wait())
                limit = _QUEUE_POLL_SECONDS if self._fills.is_shared else None
                try:
                    await asyncio.wait((waiting, changed), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                led_elsewhere = self._fills.is_shared and is_led(self._path)
        finally:
            waiting.cancel()
            await asyncio.wait((waiting,))
        if waiting.cancelled():
            return led_elsewhere
        waiting.result()
        return True

    async def _wait_for_turn(self, admitted: AsyncExitStack, *, behind: bool) -> None:
        """The upstream's own queue comes first: whoever waits there keeps nobody else's turn."""
        upstream = self._fills.upstreams.get(self.target.upstream)
        async with AsyncExitStack() as taken:
            await taken.enter_async_context(
                upstream.admit(self.target.upstream_repository, self._errand, behind=behind)
            )
            await taken.enter_async_context(self._fills.turns.hold(self.target.upstream, behind=behind))
            # Nothing waits from here on, so that no turn is lost between the two stacks.
            admitted.push_async_exit(taken.pop_all())
            self._has_turn = True

    # --- the transfer ------------------------------------------------------------------------------------------------

    def _transfer(self, partial: Partial) -> None:
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
                errand=self._errand,
                abort=self._abort,
            )

        size = Transfer(
            digest=self.digest,
            fd=partial.fd,
            upstream=self.target.upstream,
            open_body=open_body,
            expected_bytes=self._expected_bytes,
            stop=self._stop,
            progress=self._progress,
            size_known=lambda size_bytes: self._size_known(partial, size_bytes),
            make_room=fills.make_room,
            wait=self._stop.wait,
        ).run()
        self._tell(partial, State.VERIFIED, size)
        self._loop.call_soon_threadsafe(self._release, size)
        self._publish(partial, size)
        partial.remove_sidecar(self._attempt)
        fills.metrics.fill_published(self.target.upstream, time.monotonic() - started)

    def _publish(self, partial: Partial, size_bytes: int) -> None:
        """Into the store and the catalog; where the disk is full, once more after making room."""
        fills = self._fills
        renamed = False
        for is_last in (False, True):
            try:
                if not renamed:
                    fills.store.publish(partial.path, self.digest)
                    renamed = True
                fills.catalog.publish_blob(
                    self.target.repository,
                    self.target.upstream_owner,
                    self.digest,
                    size_bytes,
                    boot_id=fills.boot_id,
                    now=fills.clock(),
                    makes_repository=self._makes_repository,
                    asked_as_nobody=not fills.upstreams.get(self.target.upstream).shows_certificate,
                )
                self._grant(self._asked - {self.target.repository})
                return
            except StorageError as error:
                if isinstance(error, DiskFull) and not is_last:
                    fills.make_room(_SIDECAR_BYTES)
                    continue
                if renamed and fills.catalog.inventory.unknown_blobs([self.digest]):
                    # Nothing knows the file, so nothing would ever evict it. Readers have it open.
                    fills.store.remove(self.digest)
                raise

    def _grant(self, repositories: Collection[RepositoryName]) -> None:
        """Repositories of this owner that asked here as well: of another worker's fill, or under another rule."""
        catalog, owner = self._fills.catalog, self.target.upstream_owner
        for repository in tuple(repositories):
            record = catalog.find_blob(repository, owner, self.digest)
            if record.published and not record.granted:
                catalog.grant_blob(repository, owner, self.digest)

    def _progress(self, written: int) -> None:
        self._written = written
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._loop.call_soon_threadsafe(self._wake)

    def _size_known(self, partial: Partial, size_bytes: int) -> None:
        if size_bytes != self.size_bytes:
            self.size_bytes = size_bytes
            self._tell(partial, State.FILLING)

    def _tell(self, partial: Partial, state: State, total_bytes: int | None = None) -> None:
        """In a thread. Raises DiskFull where there is no room even for that, and none could be made."""
        sidecar = self._sidecar(state, total_bytes)
        try:
            partial.write_sidecar(sidecar)
        except OSError as caught:
            if caught.errno not in _FULL:
                raise
            self._fills.make_room(_SIDECAR_BYTES)
            try:
                partial.write_sidecar(sidecar)
            except OSError as error:
                raise _storage_error(f"the sidecar of {self.digest} could not be written", error) from error

    def _sidecar(self, state: State, total_bytes: int | None = None, error: PullthroughError | None = None) -> Sidecar:
        return Sidecar(
            owner=self.target.upstream_owner,
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

    def _fail(self, partial: Partial, error: PullthroughError) -> None:
        """Tell the followers, and remove what cannot be continued."""
        self._note_failure(error)
        if not self._verified:  # else followers have it all, and are told nothing worse
            try:
                partial.write_sidecar(self._sidecar(State.FAILED, error=error))
            except OSError as caught:
                _log.warning("the followers of %s could not be told: %s", self.digest, caught)
        if self._verified or isinstance(error, ContentError | DiskFull) or partial.size() == 0:
            partial.discard()
            self._fills.tasks.spawn(self._forget_failure(partial), name=f"forget the failure of {self.digest}")

    def _note_failure(self, error: PullthroughError) -> None:
        metrics = self._fills.metrics
        metrics.fill_failed(self.target.upstream)
        if self._verified:
            # The bytes are right and every reader has them; only keeping them failed.
            _log.error("%s@%s was served but could not be kept: %s", self.target.repository, self.digest, error)
        elif isinstance(error, ContentError):
            metrics.digest_mismatch(self.target.upstream)
            _log.error("%s@%s: %s", self.target.repository, self.digest, error)
        else:
            _log.warning("%s@%s could not be filled: %s", self.target.repository, self.digest, error)

    async def _forget_failure(self, partial: Partial) -> None:
        """Without its body the sidecar is of use to the followers only, and they look often."""
        await asyncio.sleep(_FAILURE_STAYS_SECONDS)
        partial.remove_sidecar(self._attempt)

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


def _key(target: Target, digest: Digest) -> _Key:
    return digest, target.upstream_owner, target.secret


def _step_back() -> None:
    """First in each of the fills' threads: it gets what the event loop leaves. On Linux a thread has a niceness of its own
    (setpriority(2)). Small answers wait for the loop; a fill that shares its core would otherwise have most of it.
    """
    with suppress(OSError):  # a container that forbids the call: fills work as well without
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


def _storage_error(what: str, error: OSError) -> StorageError:
    return (DiskFull if error.errno in _FULL else StorageError)(f"{what}: {error.strerror or error}")
