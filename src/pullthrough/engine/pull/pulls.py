"""Pulls by a name that may mean two repositories: the literal one, or the one without the prefix of a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pullthrough.engine.pull.blobs.blobs import BlobFacts, Blobs
from pullthrough.engine.pull.blobs.content import BlobAnswer
from pullthrough.engine.pull.listings import Listing, Listings
from pullthrough.engine.pull.manifests.manifests import ManifestAnswer, Manifests
from pullthrough.engine.rules import Target, Targets
from pullthrough.errors import ContentUnknown, RepositoryUnknown, UpstreamDenied, UpstreamError, UpstreamNotFound
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

T = TypeVar("T")

#: Answers that say the upstream does not have, or does not show, a name; all else leaves that open.
_ABSENT = (ContentUnknown, RepositoryUnknown, UpstreamNotFound, UpstreamDenied)


class Pulls:
    """Answers from the first of the targets that has what is asked for."""

    def __init__(
        self,
        *,
        manifests: Manifests,
        blobs: Blobs,
        listings: Listings,
        answers: UpstreamAnswers,
        repositories: Repositories,
        call: Runner,
        clock: Callable[[], float],
        stale_check_timeout_seconds: float,
    ) -> None:
        self._manifests = manifests
        self._blobs = blobs
        self._listings = listings
        self._answers = answers
        self._repositories = repositories
        self._call = call
        self._clock = clock
        self._stale_check_timeout_seconds = stale_check_timeout_seconds

    async def manifest(self, targets: Targets, reference: Reference, *, force: bool = False) -> ManifestAnswer:
        """See `Manifests.get`."""
        return await self._first(targets, lambda target: self._manifests.get(target, reference, force=force))

    async def blob(self, targets: Targets, digest: Digest, *, whole: bool) -> BlobAnswer:
        """See `Blobs.get`."""
        return await self._first(targets, lambda target: self._blobs.get(target, digest, whole=whole))

    async def blob_facts(self, targets: Targets, digest: Digest) -> BlobFacts:
        """See `Blobs.head`."""
        return await self._first(targets, lambda target: self._blobs.head(target, digest))

    async def tags(self, targets: Targets, *, after: str = "", most: int | None = None, force: bool = False) -> Listing:
        """See `Listings.tags`."""
        return await self._first(
            targets, lambda target: self._listings.tags(target, after=after, most=most, force=force)
        )

    async def referrers(
        self, targets: Targets, digest: Digest, *, artifact_type: str = "", after: str = "", force: bool = False
    ) -> Listing:
        """See `Listings.referrers`."""
        return await self._first(
            targets,
            lambda target: self._listings.referrers(
                target, digest, artifact_type=artifact_type, after=after, force=force
            ),
        )

    async def _first(self, targets: Targets, get: Callable[[Target], Awaitable[T]]) -> T:
        """The literal name's answer, or the stripped one's where the upstream does not have the literal name.

        That it does not is remembered for the rule's freshness, so that nodes with ECR-style mirrors cost one look-up.
        Where the upstream cannot be asked, or not soon enough, what is cached under the stripped name is served.
        """
        literal, stripped = targets.literal, targets.stripped
        if stripped is None:
            return await get(literal)
        name = literal.upstream_repository
        limit: float | None = None
        if not await self._has(literal):
            seen = await self._call(self._answers.find_absent_name, literal.source, name)
            if seen is not None and self._clock() - seen < literal.rule.freshness_seconds:
                return await get(stripped)
            if await self._has(stripped):
                limit = self._stale_check_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await get(literal)
        except _ABSENT as error:
            try:
                answer = await get(stripped)
            except _ABSENT:
                raise error from None
            await self._call(self._answers.save_absent_name, literal.source, name, self._clock())
            return answer
        except TimeoutError:
            return await get(stripped)
        except UpstreamError:
            if await self._has(stripped):
                return await get(stripped)
            raise

    async def _has(self, target: Target) -> bool:
        found: bool = await self._call(self._repositories.is_there, target.repository, target.owner)
        return found
