"""What a client is answered from the cache, and when the upstream is asked. Pure: it is told the times and decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from pullthrough.declaration import Revalidate, Rule

#: A forced check (`Cache-Control: no-cache`, `refresh`) is made at most once in this time for each tag.
FORCED_INTERVAL_SECONDS = 10.0


class Verdict(Enum):
    #: Answer from the cache.
    FRESH = auto()
    #: Answer from the cache, then check behind the answer.
    STALE = auto()
    #: Check first; answer from the cache if the check fails.
    CHECK = auto()
    #: As CHECK, since the client demands it.
    FORCED = auto()
    #: Answer from the cache: a check has just failed.
    PAUSED = auto()
    #: No answer: the client accepts none that is unchecked, and the last check that was demanded has just failed.
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Validation:
    """When the upstream confirmed a cached answer."""

    #: The last time that it did.
    validated_at: float
    #: The last time that a check was forced, also in vain; 0 for never. None where checks in vain are not noted: then a
    #: pause holds off forced checks as well.
    forced_at: float | None

    def is_newer(self, other: Validation) -> bool:
        return self.validated_at > other.validated_at or (self.forced_at or 0.0) > (other.forced_at or 0.0)


def judge(rule: Rule, tag: str, age_seconds: float) -> Verdict:
    """`age_seconds` counts from the last time the upstream confirmed the tag."""
    freshness = rule.freshness_of(tag)
    if age_seconds < freshness:
        return Verdict.FRESH
    if rule.revalidate is Revalidate.BEHIND and age_seconds < freshness + rule.stale_while_revalidate_seconds:
        return Verdict.STALE
    return Verdict.CHECK


def decide(
    rule: Rule, tag: str, validation: Validation, now: float, *, paused: bool, force: bool = False, strict: bool = False
) -> Verdict:
    """`force` demands a check, `strict` accepts no other answer; `paused` says that a check has failed a moment ago."""
    verdict = judge(rule, tag, now - validation.validated_at)
    forced_at = validation.forced_at
    if forced_at is None:
        if force and may_force(validation.validated_at, now):
            verdict = Verdict.FORCED
    elif force and may_force(forced_at, now):
        return Verdict.FORCED
    elif strict and forced_at > validation.validated_at:
        return Verdict.REFUSED
    return Verdict.PAUSED if paused and verdict is not Verdict.FRESH else verdict


def may_force(forced_at: float, now: float) -> bool:
    """Whether a forced check is due: the last one, at `forced_at`, is long enough ago (or in the future: clock set back)."""
    return not 0 <= now - forced_at < FORCED_INTERVAL_SECONDS
