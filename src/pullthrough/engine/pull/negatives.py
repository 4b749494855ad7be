"""What upstreams say that they do not have: remembered as long as the rule says, and answered without asking them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pullthrough.engine.rules import Target
from pullthrough.errors import ManifestUnknown, RepositoryUnknown
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import Reference
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class WantedThing:
    """What is asked of an upstream, and may not be there."""

    target: Target
    #: What a 404 is remembered as.
    reference: str
    #: What the upstream calls it.
    name: str
    unknown: type[ManifestUnknown] | type[RepositoryUnknown]
    #: For how long a 404 is trusted, if the rule remembers it for so long.
    trusted_seconds: float = math.inf


class Negatives:
    """The 404s of manifests and lists, known to all workers."""

    def __init__(self, answers: UpstreamAnswers, call: Runner, clock: Callable[[], float]) -> None:
        self._answers = answers
        self._call = call
        self._clock = clock

    async def raise_if_remembered(self, wanted: WantedThing) -> None:
        target = wanted.target
        until: float | None = await self._call(
            self._answers.find_negative, target.repository, target.upstream_owner, wanted.reference
        )
        now = self._clock()
        if until is not None and now < until and now - (until - target.rule.negative_seconds) < wanted.trusted_seconds:
            raise wanted.unknown(
                f"{target.upstream} does not have {wanted.name} "
                f"(it said so less than {target.rule.negative_seconds:.0f} s ago)",
                remembered=True,
            )

    async def remember(self, wanted: WantedThing) -> ManifestUnknown | RepositoryUnknown:
        """The upstream has just said that it does not have it. Returns what to raise."""
        target = wanted.target
        if target.rule.negative_seconds > 0:
            until = self._clock() + target.rule.negative_seconds
            await self._call(
                self._answers.save_negative, target.repository, target.upstream_owner, wanted.reference, until
            )
        return wanted.unknown(f"{target.upstream} does not have {wanted.name}")


def wanted_manifest(target: Target, reference: Reference, trusted_seconds: float = math.inf) -> WantedThing:
    separator = "@" if isinstance(reference, Digest) else ":"
    name = f"{target.upstream_repository}{separator}{reference}"
    return WantedThing(target, reference, name, ManifestUnknown, trusted_seconds)
