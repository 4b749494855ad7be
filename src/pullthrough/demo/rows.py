"""The demo's result: one row a pull, measured, and held against what it promises. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pullthrough.client.reports import PullReport
from pullthrough.demo.requests import RequestKind, RequestRecord
from pullthrough.errors import PullthroughError, UpstreamThrottled

#: What the cache may say of an answer, in the order in which the table names them.
_OUTCOMES = ("miss", "joined", "hit", "revalidated", "stale", "negative")
_CONTENT = (RequestKind.MANIFEST, RequestKind.BLOB, RequestKind.CDN)


@dataclass(frozen=True, slots=True)
class Measured:
    """One row as it happened: what its clients got, and what the upstream was asked meanwhile."""

    pulls: Sequence[PullReport | PullthroughError]
    requests: Sequence[RequestRecord]
    seconds: float

    @property
    def reports(self) -> list[PullReport]:
        return [pull for pull in self.pulls if isinstance(pull, PullReport)]

    @property
    def errors(self) -> list[PullthroughError]:
        return [pull for pull in self.pulls if isinstance(pull, PullthroughError)]

    @property
    def bytes_from_upstream(self) -> int:
        """Bodies of every kind, tokens too."""
        return sum(record.bytes_sent for record in self.requests)

    @property
    def content_bytes_from_upstream(self) -> int:
        """Manifests and blobs, without challenges and other refusals."""
        return sum(record.bytes_sent for record in self.requests if record.kind in _CONTENT and record.status < 400)

    def count(self, *kinds: RequestKind) -> int:
        """GETs that were answered with content: the challenge that leads to a token is not among them."""
        return sum(record.kind in kinds and record.method == "GET" and record.status < 400 for record in self.requests)

    @property
    def sources(self) -> Mapping[str, int]:
        """How many of all answers the cache called hit, miss and so on."""
        said = Counter(
            fetched.source.outcome if fetched.source else "unknown"
            for report in self.reports
            for fetched in (*report.manifests, *report.blobs)
        )
        return {name: said[name] for name in (*_OUTCOMES, *sorted(set(said) - set(_OUTCOMES))) if said[name]}


#: What is wrong with a row; "" where it kept its promise.
Promise = Callable[[Measured], str]


@dataclass(frozen=True, slots=True)
class DemoRow:
    pull: str
    promise: str
    measured: Measured
    #: What the demo promised and did not do; "" where all is well.
    broken: str

    @property
    def outcome(self) -> str:
        """What the clients got, in words: how many verified it, and what the cache said of its answers."""
        measured = self.measured
        if measured.errors:
            refused = sum(isinstance(error, UpstreamThrottled) for error in measured.errors)
            said = "refused with 429" if refused == len(measured.errors) else f"failed: {measured.errors[0].message}"
            return said if len(measured.pulls) == 1 else f"{len(measured.errors)} of {len(measured.pulls)} {said}"
        said = "verified" if len(measured.pulls) == 1 else f"{len(measured.pulls)} verified"
        return f"{said}: " + ", ".join(f"{count} {name}" for name, count in measured.sources.items())

    def to_dict(self) -> dict[str, object]:
        measured = self.measured
        return {
            "pull": self.pull,
            "seconds": round(measured.seconds, 6),
            "bytes_from_upstream": measured.bytes_from_upstream,
            "requests_to_upstream": len(measured.requests),
            "requests": dict(Counter(f"{record.method} {record.kind}" for record in measured.requests)),
            "clients": len(measured.pulls),
            "verified": len(measured.reports),
            "sources": dict(measured.sources),
            "errors": sorted({error.message for error in measured.errors}),
            "promise": self.promise,
            "broken": self.broken or None,
        }


def row_of(pull: str, promise: str, check: Promise, measured: Measured) -> DemoRow:
    return DemoRow(pull, promise, measured, check(measured))


def one_copy(measured: Measured) -> str:
    """Every client got the image, and each of its bodies left the upstream once."""
    broken = _all_verified(measured)
    if broken:
        return broken
    wanted = measured.reports[0]
    manifests, blobs = measured.count(RequestKind.MANIFEST), measured.count(RequestKind.BLOB)
    if manifests != len(wanted.manifests):
        return f"The upstream was asked for {manifests} manifests instead of {len(wanted.manifests)}"
    if blobs != len(wanted.blobs):
        return f"The upstream was asked for {blobs} blobs instead of {len(wanted.blobs)}"
    if measured.content_bytes_from_upstream != wanted.size_bytes:
        return f"The upstream sent {measured.content_bytes_from_upstream} bytes of an image of {wanted.size_bytes}"
    return ""


def asks_nothing(measured: Measured) -> str:
    """Every client got the image, and the upstream did not hear of it."""
    return _all_verified(measured) or (
        f"The upstream got {len(measured.requests)} requests" if measured.requests else ""
    )


def no_blob_again(measured: Measured) -> str:
    """Every client got the image; the upstream was asked about the tag at most."""
    return _all_verified(measured) or (
        "The upstream was asked for blobs" if measured.count(RequestKind.BLOB, RequestKind.CDN) else ""
    )


def stale(measured: Measured) -> str:
    """Every client got the image, and the tag's answer said that it could not be checked."""
    return _all_verified(measured) or ("" if "stale" in measured.sources else "No answer was called stale")


def refused(measured: Measured) -> str:
    """Nobody got the image, and everybody was told that the rate limit is why."""
    if not measured.errors or measured.reports:
        return "The pull went through"
    others = [error for error in measured.errors if not isinstance(error, UpstreamThrottled)]
    return f"It was refused with {others[0].reference} instead of 429" if others else ""


def _all_verified(measured: Measured) -> str:
    return f"{len(measured.errors)} of {len(measured.pulls)} pulls failed" if measured.errors else ""


def broken_promises(rows: Iterable[DemoRow]) -> list[str]:
    """A sentence for each: which row, what it promised, what happened."""
    return [f"{row.pull}: promised {row.promise}. {row.broken}" for row in rows if row.broken]
