"""The operations on one image: refresh, pin, unpin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pullthrough.errors import ContentUnknown, RepositoryUnknown
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import ImageReference, Reference, parse_image_reference
from pullthrough.oci.owners import OWN
from pullthrough.operations.operation import CacheOperation
from pullthrough.units import format_time

if TYPE_CHECKING:
    from pullthrough.engine.configuration import Configuration
    from pullthrough.engine.pull.manifests.manifests import Manifests
    from pullthrough.engine.rules import RuleBook, Target
    from pullthrough.storage.catalog.manifest_rows import ManifestRows
    from pullthrough.storage.catalog.pins import Pins
    from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """`image` as the cache names it, with its tag or digest."""

    image: str


@dataclass(frozen=True, slots=True)
class RefreshAnswer:
    image: str
    digest: str
    #: Whether the digest is another one than before.
    changed: bool
    checked_at: str


@dataclass(frozen=True, slots=True)
class PinAnswer:
    #: As it is kept: `docker-hub/nginx` is `docker-hub/library/nginx`.
    image: str
    pinned: bool


class ImageOperations:
    """What is done to an image that a rule covers."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        manifests: Manifests,
        pins: Pins,
        manifest_rows: ManifestRows,
        call: Runner,
        clock: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._manifests = manifests
        self._pins = pins
        self._manifest_rows = manifest_rows
        self._call = call
        self._clock = clock

    async def refresh(self, request: ImageRequest) -> RefreshAnswer:
        """Check a tag with its upstream now. Raises the reason where that is not possible."""
        image = parse_image_reference(request.image)
        target = _covered(await self._configuration.current_rules(), image)
        before = await self._call(self._known_digest, target, image.reference)
        answer = await self._manifests.get(target, image.reference, force=True, strict=True)
        digest = answer.manifest.digest
        checked_at = self._clock() - (answer.outcome.age_seconds or 0)
        return RefreshAnswer(request.image, str(digest), before != digest, format_time(checked_at))

    async def pin(self, request: ImageRequest) -> PinAnswer:
        """Keep an image from eviction, whether or not it is cached yet."""
        image = parse_image_reference(request.image)
        target = _covered(await self._configuration.current_rules(), image)
        await self._call(self._pins.pin, target.repository, str(image.reference), self._clock())
        return PinAnswer(_stored_name(target, image), True)

    async def unpin(self, request: ImageRequest) -> PinAnswer:
        image = parse_image_reference(request.image)
        # Also where no rule covers it: there may have been one when it was pinned.
        target = (await self._configuration.current_rules()).resolve(image.repository).literal
        if not await self._call(self._pins.unpin, target.repository, str(image.reference)):
            raise ContentUnknown(f"{request.image} is not pinned")
        return PinAnswer(_stored_name(target, image), False)

    def _known_digest(self, target: Target, reference: Reference) -> Digest | None:
        if isinstance(reference, Digest):
            record = self._manifest_rows.find_manifest(target.repository, target.owner, reference)
            return record.digest if record else None
        entry = self._manifest_rows.find_tag(target.repository, target.owner, reference)
        return entry.manifest.digest if entry else None


def _covered(rules: RuleBook, image: ImageReference) -> Target:
    """Raises RepositoryUnknown where the image has no upstream."""
    target = rules.resolve(image.repository).literal
    if target.owner == OWN:
        raise RepositoryUnknown(
            f"{target.repository} is the registry's own, since it was pushed: it has no upstream, and eviction leaves it "
            "alone"
        )
    if target.is_own:
        prefixes = ", ".join(rules.prefixes) or "none"
        raise RepositoryUnknown(
            f"no rule covers the repository {str(image.repository)!r}, so that it has no upstream and eviction leaves "
            f"it alone; the prefixes are: {prefixes}"
        )
    return target


def _stored_name(target: Target, image: ImageReference) -> str:
    separator = "@" if image.digest else ":"
    return f"{target.repository}{separator}{image.reference}"


REFRESH = CacheOperation("refresh", ImageRequest, RefreshAnswer, ImageOperations, ImageOperations.refresh)
PIN = CacheOperation("pin", ImageRequest, PinAnswer, ImageOperations, ImageOperations.pin)
UNPIN = CacheOperation("unpin", ImageRequest, PinAnswer, ImageOperations, ImageOperations.unpin)
OPERATIONS = (REFRESH, PIN, UNPIN)
