"""Content digests: parsing, and hashing as bytes arrive.

Grammar: OCI image specification, descriptor.md, "Digests"; registered algorithms are sha256 and sha512.
https://github.com/opencontainers/image-spec/blob/v1.1.0/descriptor.md#digests
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from pullthrough.errors import DigestInvalid

_DIGEST = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})", re.ASCII)


class Hasher(Protocol):
    """What hashlib's objects can do, as far as this package needs it."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Digest(str):
    """A valid digest such as `sha256:9f86d0…`. Made by `parse_digest` or `digest_of` only.

    Its text holds only `[a-z0-9:]`, so that it is safe in paths, headers and logs.
    """

    __slots__ = ()

    @property
    def algorithm(self) -> str:
        return self[:6]

    @property
    def hex(self) -> str:
        return self[7:]

    def hasher(self) -> Hasher:
        """A fresh hash object of this digest's algorithm."""
        return hashlib.new(self.algorithm)

    def matches(self, hasher: Hasher) -> bool:
        return hasher.hexdigest() == self.hex


def parse_digest(text: str) -> Digest:
    """Raises DigestInvalid for anything but a lower-case sha256 or sha512 digest of the right length."""
    if _DIGEST.fullmatch(text) is None:
        raise DigestInvalid(
            f"{text[:160]!r} is not a digest: expected sha256:<64 hex digits> or sha512:<128 hex digits>"
        )
    return Digest(text)


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


def digest_of(body: bytes, algorithm: str = "sha256") -> Digest:
    return Digest(f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}")
