"""Lists in pages: `maxResults`, `nextToken` and what goes back.

A token is the key of the last item, so that a page costs the same wherever it is, and items that come and go between two
pages neither repeat nor hide others. It is opaque to clients, checked, and good for its own operation only.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pullthrough.faces.ecr.wire.errors import ApiError

T = TypeVar("T")
Key = tuple[str | int | float, ...]
#: SQLite's integers; a larger one in a forged token would be an error deep inside.
_MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a sorted list is wanted: `size` items after the key `after`, or the first ones."""

    operation: str
    after: Key | None
    size: int

    def cut(self, found: Sequence[T], key: Callable[[T], Key]) -> tuple[Sequence[T], str | None]:
        """The page, and the token of the next one. `found` are up to `size + 1` items (or more) after `after`."""
        if len(found) <= self.size:
            return found, None
        items = found[: self.size]
        return items, encode_token(self.operation, key(items[-1]))


def page_request(
    operation: str,
    input: Mapping[str, Any],
    types: tuple[type, ...] = (str,),
    *,
    default: int = 100,
    code: str = "InvalidParameterException",
    names: tuple[str, str] = ("maxResults", "nextToken"),
) -> PageRequest:
    """What the input asks for. `types` are those of the key's parts; `names` are the members' in this service.

    Raises ApiError with `code` where the token is not one that this operation gave.
    """
    size, token = input.get(names[0], default), input.get(names[1])
    if not token:
        return PageRequest(operation, None, size)
    after = decode_token(operation, token, types)
    if after is None:
        raise ApiError(
            code,
            f"Invalid parameter at '{names[1]}' failed to satisfy constraint: "
            f"'it must be the token that {operation} gave with the page before'",
        )
    return PageRequest(operation, after, size)


def encode_token(operation: str, key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([operation, *key], separators=(",", ":")).encode()).decode()


def decode_token(operation: str, token: str, types: tuple[type, ...]) -> Key | None:
    """None where the token is not one of this operation's."""
    try:
        parts = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(parts, list) or len(parts) != len(types) + 1 or parts[0] != operation:
        return None
    key = tuple(parts[1:])
    if any(type(part) is not kind or not _is_storable(part) for part, kind in zip(key, types, strict=True)):
        return None
    return key


def _is_storable(part: Any) -> bool:
    if isinstance(part, str):
        return part.isascii() or not any("\ud800" <= character <= "\udfff" for character in part)
    return bool(abs(part) <= _MAX_INTEGER)
