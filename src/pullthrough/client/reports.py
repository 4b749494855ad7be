"""What a pull did: per manifest and blob how many bytes, how long, and what the cache said about where they came from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from pullthrough.oci.digests import Digest

_OUTCOME = re.compile(r"[a-z][a-z-]{0,31}", re.ASCII)
#: What stands between semicolons, but for those within quotes.
_PART = re.compile(r'(?:"[^"]*"|[^;])+')
_AGE = re.compile(r"([0-9]{1,12})s?", re.ASCII)
_MAX_TEXT_LENGTH = 300


class ImagePart(StrEnum):
    """What a fetched body is within its image."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"


class Stage(StrEnum):
    STARTED = "started"
    RECEIVED = "received"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """One blob's progress. RECEIVED comes with each piece from the network, FINISHED once the digest is right."""

    stage: Stage
    part: ImagePart
    digest: Digest
    received_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """An `X-Cache` header: `outcome; rule=...; age=...; reason="..."`.

    `outcome` is hit, miss, joined, stale, revalidated or negative; a newer cache may say more. `age_seconds` is since
    the last validation upstream, None where it was not said.
    """

    outcome: str
    rule: str = ""
    age_seconds: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, object]:
        return {
            "outcome": self.outcome,
            "rule": self.rule or None,
            "age_seconds": self.age_seconds,
            "reason": self.reason or None,
        }


def parse_source(header: str | None) -> CacheStatus | None:
    """None for no header, and for one that other caches write in another form (`HIT from squid`)."""
    outcome, *parts = [part.strip() for part in _PART.findall(header or "")] or [""]
    if _OUTCOME.fullmatch(outcome) is None:
        return None
    rule, age_seconds, reasons = "", None, []
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key == "rule":
            rule = plain_text(value)
        elif equals and key == "age":
            match = _AGE.fullmatch(value)
            age_seconds = int(match[1]) if match else None
        elif part:
            reasons.append(plain_text(value.strip('"') if equals and key == "reason" else part))
    return CacheStatus(outcome, rule, age_seconds, "; ".join(reasons))


def plain_text(text: str) -> str:
    """Text from a registry, made safe for a terminal and a log line: printable, on one line, not long."""
    printable = "".join(character if character.isprintable() else "�" for character in text[: _MAX_TEXT_LENGTH + 1])
    return f"{printable[:_MAX_TEXT_LENGTH]}…" if len(printable) > _MAX_TEXT_LENGTH else printable


@dataclass(frozen=True, slots=True)
class FetchReport:
    """One body that was fetched and verified. `first_byte_seconds` is until the answer's headers were there."""

    part: ImagePart
    digest: Digest
    size_bytes: int
    seconds: float
    first_byte_seconds: float
    source: CacheStatus | None

    def to_dict(self) -> dict[str, object]:
        return {
            "part": self.part.value,
            "digest": str(self.digest),
            "bytes": self.size_bytes,
            "seconds": round(self.seconds, 6),
            "first_byte_seconds": round(self.first_byte_seconds, 6),
            "source": self.source.to_dict() if self.source else None,
        }


@dataclass(frozen=True, slots=True)
class PullReport:
    """A whole pull, all of it verified. `digest` is what the reference named; `manifest_digest` the image pulled.

    They differ where the reference named an index. `platform` is empty where it named no index.
    """

    image: str
    registry: str
    platform: str
    digest: Digest
    manifest_digest: Digest
    manifests: tuple[FetchReport, ...]
    blobs: tuple[FetchReport, ...]
    seconds: float

    @property
    def size_bytes(self) -> int:
        """Of all manifests and blobs that were fetched."""
        return sum(fetched.size_bytes for fetched in (*self.manifests, *self.blobs))

    def to_dict(self) -> dict[str, object]:
        return {
            "image": self.image,
            "registry": self.registry,
            "platform": self.platform or None,
            "digest": str(self.digest),
            "manifest_digest": str(self.manifest_digest),
            "bytes": self.size_bytes,
            "seconds": round(self.seconds, 6),
            "manifests": [fetched.to_dict() for fetched in self.manifests],
            "blobs": [fetched.to_dict() for fetched in self.blobs],
        }
