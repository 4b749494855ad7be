"""Blobs: from the store, from a fill in progress, or by a new fill.

What an answer costs upstream (tests count exactly):

    hit                         nothing
    hit, first time under       one HEAD: the bytes came under another repository's name, and this one's own
      this repository's name    upstream must have them too; only where they came for this account from this upstream,
                                or for anybody, is its word enough, else one GET proves it
    joined                      nothing
    miss                        one GET (more only where the upstream breaks off)
    range far ahead             one GET of that range, beside the fill
    HEAD of what is not here    one HEAD

An upstream that does not answer HEAD is asked for the first byte instead.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pullthrough.engine.eviction import blob_lock
from pullthrough.engine.fills import HOLD_BACK_BYTES, Fill, Fills, LookAgain
from pullthrough.engine.memory import Memory
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own import Own
from pullthrough.engine.prefetch import Prefetches
from pullthrough.engine.pull_times import PullTimes
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Caller, Tasks, wait_out
from pullthrough.engine.transfer import Body
from pullthrough.errors import (
    BlobUnknown,
    DigestMismatch,
    DiskFull,
    SizeMismatch,
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import one_each
from pullthrough.oci.digests import Digest
from pullthrough.oci.ranges import ByteRange
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.catalog import Catalog
from pullthrough.storage.interfaces import Locks
from pullthrough.storage.pushed import Pushed
from pullthrough.storage.records import BlobRecord
from pullthrough.upstream.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream, Upstreams

_log = logging.getLogger(__name__)
T = TypeVar("T")

#: The longest range that is fetched ahead of a fill, held in memory while it is sent.
MAX_AHEAD_BYTES = 8 * 1024 * 1024
#: How many such ranges a worker holds at once, and one of each upstream beyond; more wait.
_AHEAD_AT_ONCE = 8
_CHUNK_BYTES = 256 * 1024
#: After the first byte of a layer. It, and what the client asks for next by itself, comes before what nobody waits for.
_PREFETCH_AFTER_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for the beginning of an answer."""

    #: After so long without a first byte the headers of a body go out that its upstream is known to have: clients wait for
    #: headers 30 s (containerd), and much longer for what follows them.
    headers_seconds: float = 20.0
    #: A blob that is known by its digest only waits for its turn for so long.
    unknown_seconds: float = 30.0


class Content(Protocol):
    """A body that is here, or on its way: a file that may still grow."""

    #: None while nobody has named the size.
    @property
    def size_bytes(self) -> int | None: ...

    @property
    def is_verified(self) -> bool:
        """Whether the digest of the whole is known to match."""
        ...

    def fileno(self) -> int: ...

    async def wait(self, offset: int) -> int:
        """Where the bytes that may be sent end, once there are some behind `offset`; `offset` itself at the end."""
        ...

    def close(self) -> None: ...


class Stored:
    """A published blob, opened. Deleting it meanwhile takes nothing away from who has it open."""

    def __init__(self, fd: int, size_bytes: int, closed: Callable[[], None]) -> None:
        self._fd = fd
        self.size_bytes: int | None = size_bytes
        self._end = size_bytes
        self._closed = closed
        self.is_verified = True

    def fileno(self) -> int:
        return self._fd

    async def wait(self, offset: int) -> int:
        return self._end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._closed()


class Following:
    """A fill, read along."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._open = True
        fill.attach()

    @property
    def size_bytes(self) -> int | None:
        return self._fill.size_bytes

    @property
    def is_verified(self) -> bool:
        return self._fill.is_verified

    @property
    def arrived_bytes(self) -> int:
        return self._fill.written_bytes

    @property
    def is_begun(self) -> bool:
        """Whether there is anything yet that may be sent."""
        return self._fill.visible_bytes > 0 or self._fill.is_verified

    def fileno(self) -> int:
        return self._fill.fileno()

    async def wait(self, offset: int) -> int:
        return await self._fill.wait(offset)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._fill.detach()


class NoRoom:
    """A blob that no disk space is left for: it can only be passed through."""

    def __init__(self, size_bytes: int | None, error: DiskFull) -> None:
        self.size_bytes = size_bytes
        self.is_verified = False
        self._error = error

    def fileno(self) -> int:
        return -1

    async def wait(self, offset: int) -> int:
        raise self._error

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class BlobAnswer:
    """Whoever gets this closes `content`."""

    target: Target
    digest: Digest
    content: Content
    outcome: Outcome
    #: Nothing has come yet, and the client shall not wait for its headers any longer: the body is sent so that its
    #: failure can be told, without a length.
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class BlobFacts:
    target: Target
    digest: Digest
    size_bytes: int | None
    outcome: Outcome


class Blobs:
    """The blobs of all repositories."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        call: Caller,
        store: BlobStore,
        locks: Locks,
        memory: Memory,
        fills: Fills,
        upstreams: Upstreams,
        tasks: Tasks,
        pull_times: PullTimes,
        clock: Callable[[], float],
        boot_id: str,
        prefetches: Prefetches | None,
        range_ahead_bytes: int,
        threads: ThreadPoolExecutor,
        own: Own,
        pushed: Pushed,
        patience: Patience,
    ) -> None:
        """`prefetches` is None where nothing is fetched that nobody has asked for."""
        self._catalog = catalog
        self._call = call
        self._store = store
        self._locks = locks
        self._memory = memory
        self._fills = fills
        self._upstreams = upstreams
        self._tasks = tasks
        self._pull_times = pull_times
        self._clock = clock
        self._boot_id = boot_id
        self._prefetches = prefetches
        self._range_ahead_bytes = range_ahead_bytes
        self._threads = threads
        self._own = own
        self._pushed = pushed
        self._patience = patience
        self._ahead = Gate(_AHEAD_AT_ONCE, one_each, places=sys.maxsize)
        self._open: Counter[Digest] = Counter()

    def in_use(self) -> set[Digest]:
        """What is being sent or filled by this worker. Called from eviction's thread."""
        return set(self._open) | self._fills.digests()

    # --- GET ---------------------------------------------------------------------------------------------------------

    def from_memory(self, target: Target, digest: Digest) -> BlobAnswer | None:
        """A hit that needs no waiting; None says nothing about what `get` will find."""
        record = self._memory.get(("blob", target.repository, target.owner, digest))
        return self._stored(target, record) if record is not None else None

    async def get(self, target: Target, digest: Digest, *, whole: bool) -> BlobAnswer:
        """The blob's content. `whole`: asked for without a range, so that the rest of the image is wanted as well.

        Raises BlobUnknown, RepositoryUnknown, or an UpstreamError where it is not cached.
        """
        for _ in range(4):  # each turn follows a change made by somebody else between two looks
            record, absent_until = await self._look(target, digest)
            if record.published and record.granted:
                if record.verified_boot != self._boot_id:
                    await self._verify_again(record)
                    continue
                if answer := self._stored(target, record):
                    return answer
                _log.error("the file of %s is missing or cut short; it is filled again", digest)
                await self._forget(digest, functools.partial(self._has_size, digest, record.size_bytes))
                continue
            if target.is_own:
                if await self._regrant(target, record):
                    continue
                raise await self._own.no_blob(target.repository, digest)
            if record.published and record.named and record.is_shared and await self._is_confirmed(target, digest):
                await self._call(self._catalog.grant_blob, target.repository, target.upstream_owner, digest)
                continue
            self._raise_if_absent(target, digest, absent_until)
            try:
                return await self._fill(target, record, whole=whole)
            except LookAgain:
                continue
        raise UpstreamUnavailable(f"{digest} changes faster than it can be read", upstream=target.upstream)

    async def _regrant(self, target: Target, record: BlobRecord) -> bool:
        """Whether an own repository may read a published blob after all; see `Pushed.grant_named`."""
        if not (record.published and record.named):
            return False
        granted: bool = await self._call(self._pushed.grant_named, target.repository, record.digest)
        return granted

    def _stored(self, target: Target, record: BlobRecord) -> BlobAnswer | None:
        fd = self._store.open(record.digest)
        if fd is None:
            return None
        size = os.fstat(fd).st_size
        if size != record.size_bytes:
            os.close(fd)  # cut short on our side; a body of the wrong length is no body
            return None
        digest = record.digest
        self._open[digest] += 1

        def closed() -> None:
            self._open[digest] -= 1
            if not self._open[digest]:
                del self._open[digest]

        self._pull_times.note_blob(digest)
        return BlobAnswer(target, digest, Stored(fd, size, closed), _hit(target, record))

    async def _look(self, target: Target, digest: Digest) -> tuple[BlobRecord, float | None]:
        """What is known of the blob, and until when a 404 for it is remembered. In one go, for a cold pull waits for it."""

        def look() -> tuple[BlobRecord, float | None]:
            record = self._catalog.find_blob(target.repository, target.owner, digest)
            if (record.published and record.granted) or target.is_own:
                return record, None
            return record, self._catalog.find_negative(target.repository, target.upstream_owner, digest)

        stamp = self._memory.stamp()
        record, absent_until = await self._call(look)
        if record.published and record.granted and record.verified_boot == self._boot_id:
            self._memory.put(("blob", target.repository, target.owner, digest), record, stamp)
        return record, absent_until

    async def _is_confirmed(self, target: Target, digest: Digest) -> bool:
        """Whether this repository's own upstream says that it has the blob. False where it will not say, and only a whole
        transfer can tell. BlobUnknown where it says that it has not."""
        try:
            await self._confirm(target, digest)
        except (UpstreamDenied, UpstreamInvalid):
            return False
        return True

    async def _confirm(self, target: Target, digest: Digest, *, wants_size: bool = False) -> int | None:
        """Ask this repository's own upstream for the blob's size; BlobUnknown where it has none. One HEAD, or one GET of the
        first byte."""
        upstream = self._upstreams.get(target.upstream)
        try:
            size, _ = await self._tasks.once(
                ("confirm", target.owner, target.secret, digest, wants_size),
                lambda: upstream.find_blob(
                    target.upstream_repository, digest, target.rule.credential, wants_size=wants_size
                ),
                name=f"confirm {target.repository}@{digest}",
            )
        except UpstreamNotFound as error:
            raise await self._unknown(target, digest) from error
        return size

    async def _unknown(self, target: Target, digest: Digest) -> BlobUnknown:
        if target.rule.negative_seconds > 0:
            until = self._clock() + target.rule.negative_seconds
            await self._call(self._catalog.save_negative, target.repository, target.upstream_owner, digest, until)
        return BlobUnknown(f"{target.upstream} does not have the blob {digest} in {target.upstream_repository}")

    def _raise_if_absent(self, target: Target, digest: Digest, absent_until: float | None) -> None:
        if absent_until is not None and self._clock() < absent_until:
            raise BlobUnknown(
                f"{target.upstream} does not have the blob {digest} in {target.upstream_repository} "
                f"(it said so less than {target.rule.negative_seconds:.0f} s ago)",
                remembered=True,
            )

    async def _fill(self, target: Target, record: BlobRecord, *, whole: bool) -> BlobAnswer:
        """Join the fill of this blob or begin it, and wait for its first bytes."""
        digest = record.digest
        fill, begun = self._fills.join(target, digest, size_bytes=record.size_bytes)
        content = Following(fill)
        try:
            is_late = not await self._first_bytes(fill, target, is_known=record.named)
        except DiskFull as error:
            content.close()
            return self._no_room(target, digest, record.size_bytes, error)
        except BaseException:
            content.close()
            raise
        if whole and self._prefetches is not None and record.kind == "layer" and not fill.siblings_begun:
            fill.siblings_begun = True
            self._tasks.spawn(
                self._prefetch_siblings(self._prefetches, target, digest), name=f"prefetch beside {digest}"
            )
        self._pull_times.note_blob(digest)
        kind = CacheResult.JOINED if not begun or fill.follows else CacheResult.MISS
        reason = "nothing of it has come yet" if is_late else ""
        return BlobAnswer(target, digest, content, Outcome(kind, target.rule.prefix, None, reason), is_late)

    async def _first_bytes(self, fill: Fill, target: Target, *, is_known: bool) -> bool:
        """Wait for them, for a while: False where the answer has to begin without. `is_known`: a manifest of this
        repository names the blob, so that its upstream has it.

        Raises UpstreamThrottled where one that is not known does not get its turn.
        """
        limit = self._patience.headers_seconds if is_known else self._patience.unknown_seconds
        try:
            async with asyncio.timeout(limit):
                await fill.wait(0)
        except TimeoutError:
            if is_known:
                return False
            if fill.is_queued:
                raise UpstreamThrottled(
                    f"{fill.digest} waited {limit:g} s for other transfers from {target.upstream}",
                    upstream=target.upstream,
                    retry_after_seconds=limit,
                ) from None
            await fill.wait(0)  # the transfer's own limits end this
        except UpstreamNotFound as error:
            raise await self._unknown(target, fill.digest) from error
        return True

    def _no_room(self, target: Target, digest: Digest, size_bytes: int | None, error: DiskFull) -> BlobAnswer:
        outcome = Outcome(CacheResult.MISS, target.rule.prefix, None, "passed through: the disk is full")
        return BlobAnswer(target, digest, NoRoom(size_bytes, error), outcome)

    async def _prefetch_siblings(self, prefetches: Prefetches, target: Target, digest: Digest) -> None:
        """Fetch, behind what clients ask for, the other blobs of the image whose layer was asked for."""
        await asyncio.sleep(_PREFETCH_AFTER_SECONDS)
        siblings = await self._call(self._catalog.siblings, target.repository, target.upstream_owner, digest)
        prefetches.want(target, siblings)

    async def _verify_again(self, record: BlobRecord) -> None:
        """After a restart of the machine: a blob's bytes are read once before they are trusted again."""
        digest = record.digest

        async def verify() -> None:
            good = await asyncio.get_running_loop().run_in_executor(self._threads, self._is_whole, digest)
            if good:
                await self._call(self._catalog.verify_blob, digest, self._boot_id)
            else:
                _log.error("%s was damaged since the last run; it is filled again", digest)
                await self._forget(digest, lambda: self._is_whole(digest))

        await self._tasks.once(("verify", digest), verify, name=f"verify {digest}")

    async def _forget(self, digest: Digest, is_good: Callable[[], bool]) -> None:
        """Remove a blob whose file is missing or damaged, unless somebody has pushed it anew since that was seen."""
        async with self._locks.hold(blob_lock(digest)):
            if not await asyncio.get_running_loop().run_in_executor(self._threads, is_good):
                await self._call(self._catalog.forget_blob, digest)
                await self._call(self._store.remove, digest)

    def _has_size(self, digest: Digest, size_bytes: int | None) -> bool:
        return self._store.size(digest) == size_bytes

    def _is_whole(self, digest: Digest) -> bool:
        fd = self._store.open(digest)
        if fd is None:
            return False
        hasher = digest.hasher()
        view = memoryview(bytearray(_CHUNK_BYTES))
        with os.fdopen(fd, "rb", buffering=0) as file:
            while count := file.readinto(view):
                hasher.update(view[:count])
        return digest.matches(hasher)

    # --- HEAD --------------------------------------------------------------------------------------------------------

    async def head(self, target: Target, digest: Digest) -> BlobFacts:
        """Size and presence. Never begins a fill. The size is the stored one, else the one that a manifest of the
        repository names, else the upstream's."""
        record, _ = await self._look(target, digest)
        if record.published and record.granted:
            return BlobFacts(target, digest, record.size_bytes, _hit(target, record))
        if target.is_own:
            if await self._regrant(target, record):
                record, _ = await self._look(target, digest)
                return BlobFacts(target, digest, record.size_bytes, Outcome(CacheResult.OWN))
            raise await self._own.no_blob(target.repository, digest)
        filling = self._fills.size_of(target, digest)
        if filling is not None:
            return BlobFacts(target, digest, filling, Outcome(CacheResult.JOINED, target.rule.prefix))
        # Again: the fill may have ended between the two looks.
        record, absent_until = await self._look(target, digest)
        if record.published and record.granted:
            return BlobFacts(target, digest, record.size_bytes, _hit(target, record))
        self._raise_if_absent(target, digest, absent_until)
        size = await self._confirm(target, digest, wants_size=not record.named)
        if record.published and record.named and record.is_shared:
            await self._call(self._catalog.grant_blob, target.repository, target.upstream_owner, digest)
        if record.named:
            size = record.size_bytes
        return BlobFacts(target, digest, size, Outcome(CacheResult.MISS, target.rule.prefix))

    # --- ranges far ahead of a fill ----------------------------------------------------------------------------------

    def is_far_ahead(self, answer: BlobAnswer, wanted: ByteRange) -> bool:
        """Whether a range is better fetched by itself than waited for."""
        content = answer.content
        return (
            isinstance(content, Following)
            and wanted.size_bytes <= MAX_AHEAD_BYTES
            and wanted.start > content.arrived_bytes + self._range_ahead_bytes
        )

    async def fetch_ahead(self, answer: BlobAnswer, wanted: ByteRange) -> bytes:
        """The bytes of a range, from the upstream, unverified: their digest is known only when the fill ends. One GET.

        The same range asked for by several clients at once is fetched once.
        """
        data, _ = await self._tasks.once(
            ("ahead", answer.target.owner, answer.target.secret, answer.digest, wanted),
            lambda: self._fetch_range(answer.target, answer.digest, wanted),
            name=f"range of {answer.target.repository}@{answer.digest}",
        )
        return data

    async def _fetch_range(self, target: Target, digest: Digest, wanted: ByteRange) -> bytes:
        upstream = self._upstreams.get(target.upstream)
        abort = AbortHandle()

        def fetch() -> bytes:
            body = upstream.open_blob(
                target.upstream_repository,
                digest,
                target.rule.credential,
                start=wanted.start,
                stop=wanted.stop,
                abort=abort,
            )
            try:
                if body.start != wanted.start:
                    raise UpstreamUnavailable(f"{target.upstream} does not serve ranges", upstream=target.upstream)
                data = bytearray(wanted.size_bytes)
                view, filled = memoryview(data), 0
                while filled < len(data) and (count := body.readinto(view[filled:])):
                    filled += count
                if filled < len(data):
                    raise SizeMismatch(f"{target.upstream} sent {filled:,} of the {len(data):,} bytes of a range")
                return bytes(data)
            finally:
                body.close()

        # The upstream's own queue first: whoever waits there holds nobody else's place.
        async with upstream.admit(target.upstream_repository), self._ahead.hold(target.upstream):
            return await self._in_thread(upstream, fetch, abort)

    async def _in_thread(self, upstream: Upstream, work: Callable[[], T], abort: AbortHandle) -> T:
        return await wait_out(asyncio.get_running_loop().run_in_executor(upstream.threads, work), abort.abort)

    # --- a full disk -------------------------------------------------------------------------------------------------

    async def pass_through(self, answer: BlobAnswer, *, sent: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes from `sent` on of a blob that no disk space is left for, straight from the upstream.

        With `stop` None, to the end, and verified: what was sent is in the content's file (whose descriptor is -1 where
        nothing was), and the last bytes are held back until the digest matches; DigestMismatch comes before them if it
        does not. With `stop`, a range, which cannot be verified. One GET for each client.
        """
        target, digest = answer.target, answer.digest
        upstream = self._upstreams.get(target.upstream)
        abort = AbortHandle()
        hasher = digest.hasher()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        hold_back = HOLD_BACK_BYTES if stop is None else 0

        def rehash() -> None:
            offset = 0
            while offset < sent:
                count = os.preadv(answer.content.fileno(), [buffer[: sent - offset]], offset)
                if not count:
                    raise UpstreamUnavailable(
                        f"the bytes of {digest} that were sent are gone", upstream=target.upstream
                    )
                hasher.update(buffer[:count])
                offset += count

        def open_body() -> Body:
            return upstream.open_blob(
                target.upstream_repository, digest, target.rule.credential, start=sent, stop=stop, abort=abort
            )

        async with upstream.admit(target.upstream_repository):
            if stop is None:
                await wait_out(asyncio.get_running_loop().run_in_executor(self._threads, rehash))
            body = await self._in_thread(upstream, open_body, abort)
            try:
                skip = sent - body.start
                left = None if stop is None else stop - sent
                held = b""
                while left != 0 and (count := await self._in_thread(upstream, lambda: body.readinto(buffer), abort)):
                    chunk = bytes(buffer[:count])
                    if skip:
                        skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
                    if left is not None:
                        chunk = chunk[:left]
                        left -= len(chunk)
                    hasher.update(chunk)
                    held += chunk
                    if len(held) > hold_back:
                        cut = len(held) - hold_back
                        yield held[:cut]
                        held = held[cut:]
            finally:
                body.close()
            if stop is None and not digest.matches(hasher):
                raise DigestMismatch(
                    f"{target.upstream} sent something else when asked for {digest}",
                    expected=digest,
                    actual=f"{digest.algorithm}:{hasher.hexdigest()}",
                )
            if held:
                yield held


def _hit(target: Target, record: BlobRecord) -> Outcome:
    return Outcome(CacheResult.OWN if record.is_own else CacheResult.HIT, target.rule.prefix)
