"""Durations and sizes as people write them, and back; times as JSON has them.

A number without a unit is refused: `timeout = 30` means seconds to one reader and milliseconds to the next.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import overload

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([A-Za-z]+)", re.ASCII)
_Y_AFTER_CONSONANT = tuple(f"{letter}y" for letter in "bcdfghjklmnpqrstvwxz")
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)


def parse_duration(text: str, words: Mapping[str, float] | None = None) -> float:
    """Seconds of `500ms`, `2s`, `10m`, `24h`, `7d`, or several of these from the largest to the smallest: `1h30m`.

    `words` are further texts that the caller allows, such as `{"never": math.inf}`, each with its value.
    Raises ValueError with a sentence for people, which never repeats `text`.
    """
    if words and text in words:
        return words[text]
    alternatives = "".join(f", or {word!r}" for word in words or ())
    if _NUMBER.fullmatch(text):
        raise ValueError(f"needs a unit: ms, s, m, h or d, as in '30s'{alternatives}")
    seconds, position, last = 0.0, 0, math.inf
    while match := _DURATION_PART.match(text, position):
        unit = _DURATION_UNITS[match[2]]
        if unit >= last:
            break
        seconds, position, last = seconds + float(match[1]) * unit, match.end(), unit
    if position == 0 or position != len(text):
        raise ValueError(f"is not a duration such as '500ms', '30s', '10m', '24h', '7d' or '1h30m'{alternatives}")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest usual form: `24h`, `1h30m`, `2.5s`, `12ms`; infinity is `never`.

    Exact, and read back by parse_duration as the same value, for whole seconds of a minute or more and for whole
    milliseconds below.
    """
    if seconds == math.inf:
        return "never"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms" if seconds else "0s"
    if seconds < 60:
        return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"
    whole = round(seconds)
    # A single day reads better in hours: `24h` is how people state it.
    days = whole // 86400 if whole % 86400 == 0 and whole > 86400 else 0
    hours, rest = divmod(whole - days * 86400, 3600)
    minutes, last = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (last, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value)


@overload
def format_time(seconds: float) -> str: ...
@overload
def format_time(seconds: float | None) -> str | None: ...
def format_time(seconds: float | None) -> str | None:
    """A time since 1970 as JSON has it: ISO 8601, UTC, whole seconds, as in `2026-12-01T08:30:00Z`. None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def parse_size(text: str) -> int:
    """Bytes of `512KiB`, `16MiB`, `10GB`, `1.5TiB`: KiB, MiB, GiB, TiB count by 1024, kB, MB, GB, TB by 1000.

    Raises ValueError with a sentence for people, which never repeats `text`.
    """
    if _NUMBER.fullmatch(text):
        raise ValueError("needs a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, as in '16MiB'")
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _SIZE_UNITS:
        raise ValueError("is not a size such as '512KiB', '16MiB', '10GB' or '1TiB'")
    return round(float(match[1]) * _SIZE_UNITS[match[2]])


def format_bytes(size_bytes: int) -> str:
    """Binary units with one decimal, as people read it: `512 B`, `1.4 GiB`. Rounded; not for parsing back."""
    if size_bytes < 1024:
        return f"{size_bytes} B"
    value, units = size_bytes / 1024, ["PiB", "TiB", "GiB", "MiB", "KiB"]
    while value >= 1023.95 and len(units) > 1:
        value /= 1024
        units.pop()
    return f"{value:.1f} {units[-1]}"


def format_size(size_bytes: int) -> str:
    """The exact size in the largest unit that divides it, as a setting is written: `16MiB`, `10GB`, `1234B`."""
    for unit in ("TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "kB"):
        if size_bytes and size_bytes % _SIZE_UNITS[unit] == 0:
            return f"{size_bytes // _SIZE_UNITS[unit]}{unit}"
    return f"{size_bytes}B"


def counted(count: int, noun: str) -> str:
    """`1 blob`, `2 blobs`, `3 policies`."""
    if count == 1:
        return f"{count} {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith(_Y_AFTER_CONSONANT) else f"{noun}s"
    return f"{count:,} {plural}"
