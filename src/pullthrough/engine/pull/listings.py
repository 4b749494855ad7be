"""Tag lists and referrers: the upstream's, kept as long as tags are, and served from the cache when the upstream is gone.

An answer costs no upstream request while it is fresh, else as many as the upstream has pages. The registry's own
repositories are listed from the catalog. Lists are kept as they are sent (oci/lists.py): a hit parses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from pullthrough.declaration import GoneUpstream
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.freshness import Verdict, judge, may_force
from pullthrough.engine.pull.pauses import Pauses
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import DiskFull, RepositoryUnknown, UpstreamError, UpstreamNotFound
from pullthrough.oci import lists
from pullthrough.oci.digests import Digest
from pullthrough.oci.lists import Page
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ListingRecord
from pullthrough.storage.catalog.referrers import Referrers
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Turn, Upstreams

_log = logging.getLogger(__name__)
_TAGS = "tags"
#: Of the registry's own tags, at once: as many as may come from an upstream.
_MOST_TAGS = 100_000
#: Lists that are kept in memory: those who read one slowly share it.
_MEMORY_BYTES = 32 * 1024 * 1024

#: Asks the upstream for all of a list, with the turn that it has for that, and gives it as it is kept.
Fetch = Callable[[Turn], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list: names of tags in their order, or descriptors of referrers."""

    target: Target
    page: Page
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Found:
    """All of a list."""

    body: bytes
    outcome: Outcome


class Listings:
    """The lists of all repositories."""

    def __init__(
        self,
        *,
        manifest_rows: ManifestRows,
        answers: UpstreamAnswers,
        call: Runner,
        locks: Locks,
        upstreams: Upstreams,
        tasks: Tasks,
        clock: Callable[[], float],
        stale_check_timeout_seconds: float,
        own: OwnRepositories,
        referrers: Referrers,
    ) -> None:
        self._manifest_rows = manifest_rows
        self._answers = answers
        self._call = call
        self._locks = locks
        self._upstreams = upstreams
        self._tasks = tasks
        self._clock = clock
        self._stale_check_timeout_seconds = stale_check_timeout_seconds
        self._own = own
        self._referrers = referrers
        self._pauses = Pauses(clock)
        self._bodies = _Bodies()

    async def tags(self, target: Target, *, after: str = "", most: int | None = None, force: bool = False) -> Listing:
        """The tags that the upstream has, sorted: the first `most` above `after`; `force` asks it though the cached list
        is fresh.

        With the upstream gone and no list cached, those that were pulled. Raises RepositoryUnknown, or an UpstreamError
        where there are none of these either.
        """
        if target.is_own:
            kind = CacheResult.OWN if await self._own.require(target.repository) else CacheResult.HIT
            return Listing(target, await self._call(self._stored_tags, target, after, most), Outcome(kind))

        async def fetch(turn: Turn) -> bytes:
            upstream = self._upstreams.get(target.upstream)
            tags = await upstream.list_tags(target.upstream_repository, target.rule.credential, turn=turn)
            return await self._call(lists.dump_tags, tags)

        try:
            found = await self._get(target, _TAGS, fetch, force=force)
        except UpstreamError as error:
            # `skopeo inspect`, for one, lists tags of an image that it could otherwise show.
            pulled = await self._call(self._stored_tags, target, after, most)
            if not pulled.entries:
                raise
            reason = f"only the tags that were pulled: {error.message}"
            return Listing(target, pulled, Outcome(CacheResult.STALE, target.rule.prefix, None, reason))
        return Listing(target, lists.page_of_tags(found.body, after=after, most=most), found.outcome)

    def _stored_tags(self, target: Target, after: str, most: int | None) -> Page:
        """Those that were pulled or pushed."""
        most = _MOST_TAGS if most is None else most
        tags = self._manifest_rows.tags(target.repository, target.owner, after=after, most=most + 1)
        return lists.page_of_tags(lists.dump_tags(tags), most=most)

    async def referrers(
        self, target: Target, digest: Digest, *, artifact_type: str = "", after: str = "", force: bool = False
    ) -> Listing:
        """Descriptors of what refers to the digest, of one artifact type or all: from the referrers API, or from the
        upstream's fallback tag, at once; the registry's own a page at a time, in the order of their digests.

        Of the registry's own repositories never an error, not even where there is none of this name: the specification
        allows no 404 here.
        """
        if target.is_own:
            types = (artifact_type,) if artifact_type else ()
            found = await self._call(self._referrers.page, target.repository, digest, types=types, after=after)
            body = lists.dump_referrers(referrer.descriptor for referrer in found.referrers)
            return Listing(target, lists.whole(body, last=found.last), Outcome(CacheResult.OWN))
        kept = await self.all_referrers(target, digest, force=force)
        page = lists.referrers_of_type(kept.body, artifact_type) if artifact_type else lists.whole(kept.body)
        return Listing(target, page, kept.outcome)

    async def all_referrers(self, target: Target, digest: Digest, *, force: bool = False) -> Found:
        """What an upstream has, as it is kept."""

        async def fetch(turn: Turn) -> bytes:
            upstream = self._upstreams.get(target.upstream)
            found = await upstream.fetch_referrers(
                target.upstream_repository, digest, target.rule.credential, turn=turn
            )
            return await self._call(lists.dump_referrers, found)

        return await self._get(target, f"referrers:{digest}", fetch, force=force)

    async def _get(self, target: Target, kind: str, fetch: Fetch, *, force: bool) -> Found:
        record = await self._find(target, kind)
        if record is None:
            return await self._miss(target, kind, fetch)
        age = self._clock() - record.validated_at
        verdict = judge(target.rule, "", age)
        if force and may_force(record.validated_at, self._clock()):
            verdict = Verdict.CHECK
        if verdict is Verdict.FRESH:
            return self._found(target, record, CacheResult.HIT)
        if reason := self._pauses.reason(_key(target, kind)):
            return self._found(target, record, CacheResult.STALE, reason)
        if verdict is Verdict.STALE:
            if not self._tasks.is_flying(_key(target, kind)):
                self._tasks.spawn(
                    self._refresh(target, kind, record, fetch), name=f"list {kind} of {target.repository}"
                )
            return self._found(target, record, CacheResult.STALE, "checked behind this answer")
        return await self._check_first(target, kind, record, fetch)

    async def _miss(self, target: Target, kind: str, fetch: Fetch) -> Found:
        until = await self._call(self._answers.find_negative, target.repository, target.upstream_owner, _negative(kind))
        if until is not None:
            raise RepositoryUnknown(
                f"{target.upstream} does not have {target.upstream_repository} "
                f"(it said so less than {target.rule.negative_seconds:.0f} s ago)",
                remembered=True,
            )
        try:
            (fetched, asked), joined = await self._refresh(target, kind, None, fetch)
        except UpstreamNotFound as error:
            if target.rule.negative_seconds > 0:
                until = self._clock() + target.rule.negative_seconds
                await self._call(
                    self._answers.save_negative, target.repository, target.upstream_owner, _negative(kind), until
                )
            raise RepositoryUnknown(f"{target.upstream} does not have {target.upstream_repository}") from error
        return self._found(target, fetched, CacheResult.JOINED if joined or not asked else CacheResult.MISS)

    async def _check_first(self, target: Target, kind: str, record: ListingRecord, fetch: Fetch) -> Found:
        """A client waits for a short while only, then the upstream is read on behind the cached list."""
        try:
            async with asyncio.timeout(self._stale_check_timeout_seconds):
                (fetched, asked), joined = await self._refresh(target, kind, record, fetch)
        except TimeoutError:
            reason = f"{target.upstream} did not answer within {self._stale_check_timeout_seconds:g} s"
            self._pauses.begin(_key(target, kind), reason)
            return self._found(target, record, CacheResult.STALE, reason)
        except UpstreamNotFound as error:
            if target.rule.gone_upstream is GoneUpstream.KEEP:
                return self._found(target, record, CacheResult.STALE, "gone upstream")
            raise RepositoryUnknown(f"{target.upstream} no longer has {target.upstream_repository}") from error
        except UpstreamError as error:
            return self._found(target, record, CacheResult.STALE, error.message)
        return self._found(target, fetched, CacheResult.JOINED if joined or not asked else CacheResult.REVALIDATED)

    async def _refresh(
        self, target: Target, kind: str, seen: ListingRecord | None, fetch: Fetch
    ) -> tuple[tuple[ListingRecord, bool], bool]:
        return await self._tasks.once(
            _key(target, kind),
            lambda: self._fetch(target, kind, seen, fetch),
            name=f"list {kind} of {target.repository}",
        )

    async def _fetch(
        self, target: Target, kind: str, seen: ListingRecord | None, fetch: Fetch
    ) -> tuple[ListingRecord, bool]:
        upstream = self._upstreams.get(target.upstream)
        async with upstream.turn() as turn, self._locks.hold(f"{kind}:{target.repository}:{target.owner}"):
            record = await self._find(target, kind)
            if record is not None and (seen is None or record.validated_at > seen.validated_at):
                return record, False  # another worker has just asked
            try:
                body = await fetch(turn)
            except UpstreamError as error:
                if record is not None:
                    self._pauses.begin_after(_key(target, kind), error)
                    _log.warning(
                        "%s of %s could not be listed, the cached list is served: %s", kind, target.repository, error
                    )
                raise
            self._pauses.end(_key(target, kind))
            now = self._clock()
            try:
                await self._call(
                    self._answers.save_listing, target.repository, target.upstream_owner, kind, body, now=now
                )
            except (NotKept, DiskFull) as error:
                _log.info("%s of %s are served but not kept: %s", kind, target.repository, error)
            return ListingRecord(body, now), True

    async def _find(self, target: Target, kind: str) -> ListingRecord | None:
        name = (target.repository, target.upstream_owner, kind)
        validated_at: float | None = await self._call(self._answers.find_listing_time, *name)
        if validated_at is None:
            return None
        body = self._bodies.get((*name, validated_at))
        if body is not None:
            return ListingRecord(body, validated_at)
        # Together, so that many who ask at once have one copy.
        record, _ = await self._tasks.once(("list", *name), lambda: self._read(name), name=f"read {kind} of {name[0]}")
        return record

    async def _read(self, name: tuple[RepositoryName, Owner, str]) -> ListingRecord | None:
        record: ListingRecord | None = await self._call(self._answers.find_listing, *name)
        if record is not None:
            self._bodies.put((*name, record.validated_at), record.body)
        return record

    def _found(self, target: Target, record: ListingRecord, kind: CacheResult, reason: str = "") -> Found:
        age = self._clock() - record.validated_at
        return Found(record.body, Outcome(kind, target.rule.prefix, age, reason))


class _Bodies:
    """The lists that were asked for last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> bytes | None:
        body = self._kept.get(key)
        if body is not None:
            self._kept.move_to_end(key)
        return body

    def put(self, key: Hashable, body: bytes) -> None:
        self._bytes += len(body) - len(self._kept.pop(key, b""))
        self._kept[key] = body
        while self._bytes > _MEMORY_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1])


def _key(target: Target, kind: str) -> Hashable:
    return kind, target.repository, target.owner


def _negative(kind: str) -> str:
    """What a 404 for the list is remembered as, beside those for tags (no colon) and digests (another algorithm)."""
    return f"list:{kind}"
