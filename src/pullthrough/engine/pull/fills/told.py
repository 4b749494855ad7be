"""How the error of a fill's leader reaches those who follow it in other workers."""

from __future__ import annotations

from typing import Any

from pullthrough import errors
from pullthrough.errors import PullthroughError, UpstreamError, UpstreamThrottled, UpstreamUnavailable

#: Characters of an error's message: what a leader tells fits into one block of a disk.
_MAX_MESSAGE = 1000


def pack_error(error: PullthroughError) -> dict[str, Any]:
    packed: dict[str, Any] = {"type": type(error).__name__, "message": error.message[:_MAX_MESSAGE]}
    if isinstance(error, UpstreamError):
        packed["upstream"] = error.upstream
    if isinstance(error, UpstreamThrottled):
        packed["retry_after_seconds"] = error.retry_after_seconds
    return packed


def unpack_error(packed: dict[str, Any] | None) -> PullthroughError:
    """The leader's error as its followers raise it: the same class where a caller acts on the class."""
    packed = packed or {}
    message = str(packed.get("message", "the fill failed"))
    upstream = str(packed.get("upstream", ""))
    kind = getattr(errors, str(packed.get("type", "")), None)
    if kind is UpstreamThrottled:
        return UpstreamThrottled(
            message, upstream=upstream, retry_after_seconds=float(packed.get("retry_after_seconds", 1))
        )
    if isinstance(kind, type) and issubclass(kind, UpstreamError):
        return kind(message, upstream=upstream)
    if kind in (errors.DiskFull, errors.BlobUnknown, errors.SizeMismatch):
        return kind(message)
    if kind is errors.DigestMismatch:
        return errors.DigestMismatch(message, expected="", actual="")
    return UpstreamUnavailable(message, upstream=upstream)
