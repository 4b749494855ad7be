"""A tag of an upstream's repository, as it is checked and kept.

A check costs one HEAD, and one GET if the digest changed to one that is not cached. Filling costs one GET.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from pullthrough.declaration import GoneUpstream
from pullthrough.engine.pull.freshness import FORCED_INTERVAL_SECONDS, Validation
from pullthrough.engine.pull.manifests.fetching import ManifestFetching
from pullthrough.engine.pull.manifests.records import ManifestRecords
from pullthrough.engine.pull.negatives import WantedThing, wanted_manifest
from pullthrough.engine.pull.revalidation import Checked, Revalidation, Served
from pullthrough.engine.rules import Target
from pullthrough.errors import (
    ImageArchived,
    ManifestUnknown,
    PullthroughError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNotFound,
)
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ManifestRecord, TagRecord
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Turn, Upstreams

#: A check that no client waits for any longer goes on for so long, so that a slow upstream is heard all the same.
_CHECK_SECONDS = 30.0
#: How registries say that they do not know HEAD.
_NO_HEAD = frozenset({405, 501})


class ManifestsByTag:
    """`upstream_tag` makes what is revalidated: `UpstreamTag`, with its parts."""

    def __init__(self, revalidation: Revalidation, upstream_tag: Callable[[WantedThing, Tag], UpstreamTag]) -> None:
        self._revalidation = revalidation
        self._upstream_tag = upstream_tag

    async def get(self, target: Target, tag: Tag, *, force: bool, strict: bool) -> Served[TagRecord]:
        """See `Revalidation.get`."""
        trusted_seconds = 0.0 if strict else FORCED_INTERVAL_SECONDS if force else math.inf
        wanted = wanted_manifest(target, tag, trusted_seconds)
        return await self._revalidation.get(self._upstream_tag(wanted, tag), force=force, strict=strict)


def note_of(record: TagRecord) -> str:
    """What clients are told of one that is cached."""
    return "gone upstream" if record.gone_at is not None else ""


class UpstreamTag:
    """A tag as it is upstream, a `Perishable`."""

    check_seconds = _CHECK_SECONDS

    def __init__(
        self,
        wanted: WantedThing,
        tag: Tag,
        *,
        records: ManifestRecords,
        fetching: ManifestFetching,
        manifest_rows: ManifestRows,
        call: Runner,
        upstreams: Upstreams,
        clock: Callable[[], float],
    ) -> None:
        self.wanted = wanted
        self.target = wanted.target
        self.tag = tag
        self.key = f"manifest:{self.target.repository}:{self.target.owner}:{tag}"
        self.title = f"{self.target.repository}:{tag}"
        self._records = records
        self._fetching = fetching
        self._manifest_rows = manifest_rows
        self._call = call
        self._upstreams = upstreams
        self._clock = clock

    def validation(self, record: TagRecord) -> Validation:
        return Validation(record.validated_at, record.forced_at)

    def note(self, record: TagRecord) -> str:
        return note_of(record)

    def excuse(self, error: PullthroughError) -> str:
        if isinstance(error, ManifestUnknown):
            raise error
        return error.message

    async def find(self) -> TagRecord | None:
        return await self._records.find_tag(self.target, self.tag)

    async def fill(self, turn: Turn) -> TagRecord:
        manifest = await self._fetching.fetch(self.target, self.tag, turn, tag=self.tag)
        return TagRecord(self.tag, manifest, self._clock(), forced_at=0.0, gone_at=None)

    async def check(self, record: TagRecord, turn: Turn, *, forced: bool, limit: float | None) -> Checked[TagRecord]:
        try:
            return await self._check(record, turn, forced, limit)
        except UpstreamNotFound as error:
            return Checked(await self._gone(record, forced, error))
        except UpstreamError:
            if forced:  # it counts all the same, or clients could make us ask an ailing upstream at will
                await self._call(self._manifest_rows.note_forced, *self._row, now=self._clock())
            raise

    async def _check(self, record: TagRecord, turn: Turn, forced: bool, limit: float | None) -> Checked[TagRecord]:
        digest = await self._head(turn, limit)
        now = self._clock()
        if digest == record.manifest.digest:
            return await self._confirmed(record, now, forced, "unchanged upstream")
        if record.immutable:
            return await self._confirmed(
                record, now, forced, "changed upstream, immutable here" if digest else "immutable here"
            )
        try:
            known = await self._records.find_manifest(self.target, digest) if digest else None
        except ImageArchived:
            # As with an immutable tag, the image that is served goes on being served.
            return await self._confirmed(record, now, forced, "changed upstream, archived here")
        if known is None:
            known = await self._fetch_changed(digest, turn, limit)
        else:
            await self._fetching.save(self.target, known, self.tag)
        if forced:
            await self._call(self._manifest_rows.validate_tag, *self._row, now=now, forced=True)
        changed = TagRecord(self.tag, known, now, now if forced else record.forced_at, None)
        note = "unchanged upstream" if known.digest == record.manifest.digest else "changed upstream"
        return Checked(changed, note)

    async def _confirmed(self, record: TagRecord, now: float, forced: bool, note: str) -> Checked[TagRecord]:
        """It goes on naming what it does."""
        await self._call(self._manifest_rows.validate_tag, *self._row, now=now, forced=forced)
        forced_at = now if forced else record.forced_at
        return Checked(replace(record, validated_at=now, forced_at=forced_at, gone_at=None), note)

    async def _gone(self, record: TagRecord, forced: bool, error: UpstreamNotFound) -> TagRecord:
        rule = self.target.rule
        if rule.gone_upstream is GoneUpstream.REMOVE:
            await self._call(self._manifest_rows.remove_tag, *self._row)
            raise ManifestUnknown(
                f"{self.target.upstream} no longer has {self.wanted.name}, and the rule {rule.prefix!r} removes what is "
                "gone upstream"
            ) from error
        now = self._clock()
        await self._call(self._manifest_rows.mark_tag_gone, *self._row, now=now, forced=forced)
        forced_at = now if forced else record.forced_at
        return replace(record, validated_at=now, forced_at=forced_at, gone_at=record.gone_at or now)

    async def _head(self, turn: Turn, limit: float | None) -> Digest | None:
        """The digest that the tag has now; None where a HEAD does not tell, and only a GET will."""
        try:
            head = await self._upstreams.get(self.target.upstream).head_manifest(
                self.target.upstream_repository, self.tag, self.target.rule.credential, timeout=limit, turn=turn
            )
        except UpstreamInvalid as error:
            if error.status in _NO_HEAD:
                return None
            raise
        return head.digest

    async def _fetch_changed(self, digest: Digest | None, turn: Turn, limit: float | None) -> ManifestRecord:
        """By the digest just named, so that what is kept is what was announced."""
        try:
            return await self._fetching.fetch(self.target, digest or self.tag, turn, tag=self.tag, timeout=limit)
        except UpstreamNotFound as error:
            if digest is None:
                raise
            # The tag is not gone: it names something. An upstream in the middle of a change answers like this.
            raise UpstreamInvalid(
                f"{self.target.upstream} says that {self.wanted.name} is {digest}, but does not have that",
                upstream=self.target.upstream,
                status=error.status,
            ) from error

    @property
    def _row(self) -> tuple[RepositoryName, Owner, Tag]:
        return self.target.repository, self.target.upstream_owner, self.tag
