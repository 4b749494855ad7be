"""A request in the one form that both sides of a signature hash.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came, but for its body."""

    method: str
    #: Before the `?`, still percent-encoded.
    raw_path: str
    #: After the `?`, still percent-encoded; empty where there is none.
    raw_query: str
    #: In the order of the request, repeated ones too. Values may hold surrogate escapes.
    headers: list[tuple[str, str]]


def canonical_request(
    request: SignedRequest, signed_headers: Sequence[str], body_sha256: str, *, is_presigned: bool
) -> bytes:
    """What is hashed and signed. `body_sha256` is the body's, in hexadecimal digits."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault(name.lower(), []).append(" ".join(value.split()))
    lines = [
        request.method,
        _canonical_path(request.raw_path),
        _canonical_query(request.raw_query, without_signature=is_presigned),
        *(f"{name}:{','.join(headers[name])}" for name in signed_headers),
        "",
        ";".join(signed_headers),
        body_sha256,
    ]
    return "\n".join(lines).encode(errors="surrogateescape")


def _canonical_path(raw_path: str) -> str:
    """Without dot segments and repeated slashes, and encoded once more, as every service but S3 has it."""
    segments: list[str] = []
    for segment in raw_path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    path = "/" + "/".join(segments)
    if segments and raw_path.endswith("/"):
        path += "/"
    return quote(path, safe="/" + _UNRESERVED, errors="surrogateescape")


def _canonical_query(raw_query: str, *, without_signature: bool) -> str:
    pairs = [
        (_encoded(name), _encoded(value))
        for name, value in _raw_pairs(raw_query)
        if not (without_signature and name == "X-Amz-Signature")
    ]
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _raw_pairs(raw_query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (part.partition("=") for part in raw_query.split("&") if part)]


def query_pairs(raw_query: str) -> list[tuple[str, str]]:
    """Decoded as far as the signature's own parameters need it."""
    return [(_decoded(name), _decoded(value)) for name, value in _raw_pairs(raw_query)]


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode(errors="surrogateescape")).decode(errors="replace")


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode(errors="surrogateescape")), safe=_UNRESERVED)
