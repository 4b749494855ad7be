"""Tag lists and referrers: the upstream's, kept as long as tags are, and served from the cache when the upstream is gone.

An answer costs no upstream request while it is fresh, else as many as the upstream has pages. The registry's own
repositories are listed from the catalog. Lists are kept as they are sent (oci/lists.py): a hit parses nothing.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from pullthrough.declaration import GoneUpstream
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.freshness import Validation
from pullthrough.engine.pull.negatives import WantedThing
from pullthrough.engine.pull.revalidation import Checked, Revalidation, Served
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import DiskFull, PullthroughError, RepositoryUnknown, UpstreamError, UpstreamNotFound
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


class Listings:
    """The lists of all repositories."""

    def __init__(
        self,
        *,
        revalidation: Revalidation,
        records: ListingRecords,
        manifest_rows: ManifestRows,
        call: Runner,
        upstreams: Upstreams,
        clock: Callable[[], float],
        own: OwnRepositories,
        referrers: Referrers,
    ) -> None:
        self._revalidation = revalidation
        self._records = records
        self._manifest_rows = manifest_rows
        self._call = call
        self._upstreams = upstreams
        self._clock = clock
        self._own = own
        self._referrers = referrers

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
            served = await self._get(target, _TAGS, fetch, force=force)
        except UpstreamError as error:
            # `skopeo inspect`, for one, lists tags of an image that it could otherwise show.
            pulled = await self._call(self._stored_tags, target, after, most)
            if not pulled.entries:
                raise
            reason = f"only the tags that were pulled: {error.message}"
            return Listing(target, pulled, Outcome(CacheResult.STALE, target.rule.prefix, None, reason))
        return Listing(target, lists.page_of_tags(served.record.body, after=after, most=most), served.outcome)

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
        served = await self.all_referrers(target, digest, force=force)
        body = served.record.body
        page = lists.referrers_of_type(body, artifact_type) if artifact_type else lists.whole(body)
        return Listing(target, page, served.outcome)

    async def all_referrers(self, target: Target, digest: Digest, *, force: bool = False) -> Served[ListingRecord]:
        """What an upstream has, as it is kept."""

        async def fetch(turn: Turn) -> bytes:
            upstream = self._upstreams.get(target.upstream)
            found = await upstream.fetch_referrers(
                target.upstream_repository, digest, target.rule.credential, turn=turn
            )
            return await self._call(lists.dump_referrers, found)

        return await self._get(target, f"referrers:{digest}", fetch, force=force)

    async def _get(self, target: Target, kind: str, fetch: Fetch, *, force: bool) -> Served[ListingRecord]:
        # A 404 for a list is remembered beside those for tags (no colon) and digests (another algorithm).
        wanted = WantedThing(target, f"list:{kind}", target.upstream_repository, RepositoryUnknown)
        upstream_list = _UpstreamList(wanted, kind, fetch, records=self._records, clock=self._clock)
        return await self._revalidation.get(upstream_list, force=force)


class _UpstreamList:
    """A `Perishable`: all of a list."""

    tag = ""
    #: It may have many pages.
    check_seconds = None

    def __init__(
        self, wanted: WantedThing, kind: str, fetch: Fetch, *, records: ListingRecords, clock: Callable[[], float]
    ) -> None:
        self.wanted = wanted
        self.target = wanted.target
        self.key = f"{kind}:{self.target.repository}:{self.target.owner}"
        self.title = f"{kind} of {self.target.repository}"
        self._kind = kind
        self._fetch = fetch
        self._records = records
        self._clock = clock

    def validation(self, record: ListingRecord) -> Validation:
        return Validation(record.validated_at, forced_at=None)

    def note(self, record: ListingRecord) -> str:
        return ""

    def excuse(self, error: PullthroughError) -> str:
        if isinstance(error, UpstreamNotFound):
            if self.target.rule.gone_upstream is GoneUpstream.KEEP:
                return "gone upstream"
            raise RepositoryUnknown(f"{self.target.upstream} no longer has {self.wanted.name}") from error
        if isinstance(error, UpstreamError):
            return error.message
        raise error

    async def find(self) -> ListingRecord | None:
        return await self._records.find(self.target, self._kind)

    async def fill(self, turn: Turn) -> ListingRecord:
        body = await self._fetch(turn)
        record = ListingRecord(body, self._clock())
        await self._records.save(self.target, self._kind, record)
        return record

    async def check(
        self, record: ListingRecord, turn: Turn, *, forced: bool, limit: float | None
    ) -> Checked[ListingRecord]:
        """A list is fetched again as a whole."""
        return Checked(await self.fill(turn))


class ListingRecords:
    """The lists that are cached: from the catalog; those that were asked for last are in memory too."""

    def __init__(self, answers: UpstreamAnswers, call: Runner, tasks: Tasks) -> None:
        self._answers = answers
        self._call = call
        self._tasks = tasks
        self._bodies = _Bodies()

    async def find(self, target: Target, kind: str) -> ListingRecord | None:
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

    async def save(self, target: Target, kind: str, record: ListingRecord) -> None:
        """One that cannot be kept is served all the same."""
        name = (target.repository, target.upstream_owner, kind)
        try:
            await self._call(self._answers.save_listing, *name, record.body, now=record.validated_at)
        except (NotKept, DiskFull) as error:
            _log.info("%s of %s are served but not kept: %s", kind, target.repository, error)


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
