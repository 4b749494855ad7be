"""Lists of tags and of referrers as they are kept and sent: the array of a JSON answer, in an order of its own.

A page of tags, and the referrers of one type, are a part of the array that is found without parsing it, and that is sent
without copying it: lists have up to 16 MB, and whoever reads slowly keeps what he is sent.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags and #listing-referrers
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Referrers stand one a line, which their strings, being JSON, cannot break.
_BREAK = b",\n"
#: How one begins that has an artifact type.
_TYPED = b'\n{"artifactType":'


@dataclass(frozen=True, slots=True)
class Page:
    """`entries`: what is between the array's brackets. `last`: the last entry's name where more follow it, else empty."""

    entries: memoryview
    last: str = ""


def dump_tags(tags: Iterable[str]) -> bytes:
    """A JSON array of valid tags, each once, in the order of their characters."""
    named = sorted(set(tags))
    return b'["' + '","'.join(named).encode() + b'"]' if named else b"[]"


def page_of_tags(body: bytes, *, after: str = "", most: int | None = None) -> Page:
    """The tags above `after`, of what `dump_tags` made; the first `most` of them."""
    end = len(body) - 1
    start = _first_above(body, after.encode("utf-8", "surrogatepass")) if after else 1
    if most is None or start >= end:
        return Page(memoryview(body)[start:end])
    cut = start - 1
    for _ in range(most):
        cut = body.find(b",", cut + 1, end)
        if cut < 0:
            return Page(memoryview(body)[start:end])
    if cut < start:
        return Page(memoryview(b""))
    return Page(memoryview(body)[start:cut], body[body.rfind(b'"', start, cut - 1) + 1 : cut - 1].decode())


def dump_referrers(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """A JSON array of descriptors, a line each; those of one artifact type stand together, those of none come first."""
    ordered = sorted(entries, key=lambda entry: json.dumps(entry["artifactType"]) if "artifactType" in entry else "")
    typed = (
        {"artifactType": entry["artifactType"], **entry} if "artifactType" in entry else entry for entry in ordered
    )
    return b"[\n" + _BREAK.join(json.dumps(entry, separators=(",", ":")).encode() for entry in typed) + b"]"


def referrers_of_type(body: bytes, artifact_type: str) -> Page:
    """The descriptors of one artifact type, of what `dump_referrers` made."""
    opening = _TYPED + json.dumps(artifact_type).encode() + b","
    start = body.find(opening) + 1
    if not start:
        return Page(memoryview(b""))
    end = body.find(b"," + _TYPED, body.rfind(opening) + 1)
    return Page(memoryview(body)[start : end if end >= 0 else len(body) - 1])


def parse_referrers(body: bytes) -> list[dict[str, Any]]:
    """The descriptors of what `dump_referrers` made, one by one: other threads get their turns in between."""
    return [json.loads(line) for line in body[2:-1].split(_BREAK) if line]


def whole(body: bytes, *, last: str = "") -> Page:
    """All entries of an array."""
    return Page(memoryview(body)[1:-1], last)


def _first_above(body: bytes, name: bytes) -> int:
    """Where the first tag above `name` begins; the array's end where there is none."""
    low, high = 1, len(body) - 1
    while low < high:
        start = body.rfind(b",", low, (low + high) // 2 + 1) + 1 or low
        end = body.index(b'"', start + 1)
        if body[start + 1 : end] > name:
            high = start
        else:
            low = min(end + 2, high)
    return low
