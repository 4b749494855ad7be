"""What an answer was: the value of the `X-Cache` header, of the log line and of the metrics' `outcome` label."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CacheResult(StrEnum):
    """How an answer came about, and what it cost upstream."""

    #: From the cache; no upstream request.
    HIT = "hit"
    #: From one of the registry's own repositories, which have no upstream.
    OWN = "own"
    #: Fetched for this request.
    MISS = "miss"
    #: Waited for, or read along with, a fetch that another request had begun; no upstream request of its own.
    JOINED = "joined"
    #: From the cache though its freshness is over; checked behind the answer, or the check failed.
    STALE = "stale"
    #: From the cache, after a check with the upstream.
    REVALIDATED = "revalidated"
    #: A remembered 404; no upstream request.
    NEGATIVE = "negative"
    #: No answer from content: an error, or a request that concerns none.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`age_seconds` counts from the last time the upstream confirmed this; None where that means nothing."""

    kind: CacheResult
    rule: str = ""
    age_seconds: float | None = None
    reason: str = ""
    #: False for bytes that were sent before their digest could be checked (a range fetched ahead).
    verified: bool = True

    def header(self) -> str:
        """`hit; rule=docker-hub; age=42; reason="..."`. A reason never holds a quote or a line break."""
        text = self.kind.value
        if self.rule:
            text += f"; rule={self.rule}"
        if self.age_seconds is not None:
            text += f"; age={max(0, int(self.age_seconds))}"
        if not self.verified:
            text += "; unverified"
        if self.reason:
            text += f'; reason="{clean(self.reason)}"'
        return text


def clean(text: str) -> str:
    """One line of printable ASCII without quotes, fit for a header; 200 characters at most."""
    return "".join(
        char if 32 <= ord(char) < 127 and char not in '"\\' else ("'" if char == '"' else "?") for char in text[:200]
    )
