"""Manifests by tag and by digest: from memory, from the catalog, or from the upstream.

What an answer costs upstream (tests count exactly):

    hit, negative, joined, stale        nothing (a stale answer is checked behind it: one HEAD, and a GET if it changed)
    miss                                one GET
    revalidated                         one HEAD, and one GET if the digest changed to one that is not cached
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.freshness import Verdict, judge
from pullthrough.engine.pull.manifests.by_digest import ManifestsByDigest
from pullthrough.engine.pull.manifests.by_tag import ManifestsByTag, note_of
from pullthrough.engine.pull.manifests.records import ManifestRecords
from pullthrough.engine.rules import Target
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference
from pullthrough.storage.catalog.records import ManifestRecord


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    target: Target
    manifest: ManifestRecord
    outcome: Outcome


class Manifests:
    """The manifests of all repositories."""

    def __init__(
        self,
        *,
        records: ManifestRecords,
        by_digest: ManifestsByDigest,
        by_tag: ManifestsByTag,
        own: OwnRepositories,
        clock: Callable[[], float],
    ) -> None:
        self._records = records
        self._by_digest = by_digest
        self._by_tag = by_tag
        self._own = own
        self._clock = clock

    def from_memory(self, target: Target, reference: Reference) -> ManifestAnswer | None:
        """A fresh hit that needs no waiting at all; None says nothing about what `get` will find."""
        found = self._records.from_memory(target, reference)
        if found is None:
            return None
        if isinstance(found, ManifestRecord):
            return ManifestAnswer(target, found, _hit(target, found))
        if target.is_own:
            return ManifestAnswer(target, found.manifest, _hit(target, found.manifest))
        age = self._clock() - found.validated_at
        if judge(target.rule, found.tag, age) is Verdict.FRESH:
            outcome = Outcome(CacheResult.HIT, target.rule.prefix, age, note_of(found))
            return ManifestAnswer(target, found.manifest, outcome)
        return None

    async def get(
        self, target: Target, reference: Reference, *, force: bool = False, strict: bool = False
    ) -> ManifestAnswer:
        """`force` asks for a check with the upstream, fresh or not; `strict` wants no stale answer if that fails.

        Raises ManifestUnknown, RepositoryUnknown, or an UpstreamError where nothing is cached that could be served
        instead.
        """
        if target.is_own:
            return await self._get_own(target, reference)
        if isinstance(reference, Digest):
            manifest, result = await self._by_digest.get(target, reference)
            outcome = _hit(target, manifest) if result is CacheResult.HIT else Outcome(result, target.rule.prefix)
            return ManifestAnswer(target, manifest, outcome)
        served = await self._by_tag.get(target, reference, force=force, strict=strict)
        return ManifestAnswer(target, served.record.manifest, served.outcome)

    async def _get_own(self, target: Target, reference: Reference) -> ManifestAnswer:
        if isinstance(reference, Digest):
            record = await self._records.find_manifest(target, reference)
        else:
            entry = await self._records.find_tag(target, reference)
            record = entry.manifest if entry else None
        if record is None:
            raise await self._own.no_manifest(target.repository, reference)
        return ManifestAnswer(target, record, _hit(target, record))


def _hit(target: Target, record: ManifestRecord) -> Outcome:
    return Outcome(CacheResult.OWN if record.is_own else CacheResult.HIT, target.rule.prefix)
