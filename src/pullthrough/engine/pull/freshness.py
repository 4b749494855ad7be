"""When a cached tag may be answered without asking the upstream. Pure."""

from __future__ import annotations

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


def judge(rule: Rule, tag: str, age_seconds: float) -> Verdict:
    """`age_seconds` counts from the last time the upstream confirmed the tag."""
    freshness = rule.freshness_of(tag)
    if age_seconds < freshness:
        return Verdict.FRESH
    if rule.revalidate is Revalidate.BEHIND and age_seconds < freshness + rule.stale_while_revalidate_seconds:
        return Verdict.STALE
    return Verdict.CHECK


def may_force(forced_at: float, now: float) -> bool:
    """Whether a forced check is due: the last one, at `forced_at`, is long enough ago (or in the future: clock set back)."""
    return not 0 <= now - forced_at < FORCED_INTERVAL_SECONDS
