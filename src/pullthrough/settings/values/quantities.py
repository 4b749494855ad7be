"""Numbers, durations, sizes, and what is on or off."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pullthrough.settings.values.base import PathBase, ValueType, is_not, text_of
from pullthrough.units import format_duration, format_size, parse_duration, parse_size

NEVER_AND_ALWAYS: Mapping[str, float] = {"never": math.inf, "always": 0.0}


@dataclass(frozen=True, slots=True)
class SizeLimit:
    """A share of the file system, a number of bytes, or neither: no limit."""

    percent: float | None = None
    size_bytes: int | None = None

    def bytes_of(self, filesystem_bytes: int) -> int | None:
        """The limit on a file system of this size; None for no limit."""
        if self.percent is not None:
            return int(filesystem_bytes * self.percent / 100)
        return self.size_bytes

    def __str__(self) -> str:
        if self.percent is not None:
            return f"{self.percent:g}%"
        return "never" if self.size_bytes is None else format_size(self.size_bytes)


@dataclass(frozen=True, slots=True)
class Flag(ValueType[bool]):
    accepted = "`true` or `false`"

    def parse(self, value: object, place: PathBase) -> bool:
        if not isinstance(value, bool):
            raise ValueError("is neither true nor false (write it without quotes)")
        return value

    def from_text(self, text: str, place: PathBase) -> bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError("is neither true nor false")
        return words[text.lower()]


@dataclass(frozen=True, slots=True)
class Number(ValueType[int]):
    minimum: int
    maximum: int

    @property
    def accepted(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, value: object, place: PathBase) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise is_not(self.accepted)
        return value

    def from_text(self, text: str, place: PathBase) -> int:
        return self.parse(int(text) if re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII) else text, place)


@dataclass(frozen=True, slots=True)
class Count(ValueType[int | None]):
    """A whole number, or `never` for None."""

    number: Number

    @property
    def accepted(self) -> str:
        return f"{self.number.accepted}, or `never`"

    def parse(self, value: object, place: PathBase) -> int | None:
        if value == "never":
            return None
        try:
            return self.number.parse(value, place)
        except ValueError:
            raise is_not(self.accepted) from None

    def from_text(self, text: str, place: PathBase) -> int | None:
        return self.parse(int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else text, place)

    def show(self, value: int | None) -> object:
        return "never" if value is None else value


@dataclass(frozen=True, slots=True)
class Duration(ValueType[float]):
    """Seconds. `words` are texts with a meaning of their own."""

    minimum: float
    maximum: float
    words: Mapping[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> str:
        words = "".join(f" or `{word}`" for word in self.words)
        return f"a duration from `{format_duration(self.minimum)}` to `{format_duration(self.maximum)}`{words}"

    def parse(self, value: object, place: PathBase) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError("needs a unit: ms, s, m, h or d, in quotes, as in '30s'")
        text = text_of(value)
        seconds = parse_duration(text, self.words)
        if text not in self.words and not self.minimum <= seconds <= self.maximum:
            raise is_not(self.accepted.replace("`", ""))
        return seconds

    def show(self, value: float) -> str:
        return next((word for word, seconds in self.words.items() if seconds == value), format_duration(value))


@dataclass(frozen=True, slots=True)
class Size(ValueType[int]):
    """Bytes."""

    minimum: int
    maximum: int

    @property
    def accepted(self) -> str:
        return f"a size from `{format_size(self.minimum)}` to `{format_size(self.maximum)}`"

    def parse(self, value: object, place: PathBase) -> int:
        size_bytes = _size(value)
        if not self.minimum <= size_bytes <= self.maximum:
            raise is_not(self.accepted.replace("`", ""))
        return size_bytes

    def show(self, value: int) -> str:
        return format_size(value)


@dataclass(frozen=True, slots=True)
class Limit(ValueType[SizeLimit]):
    accepted = "a share of the file system such as `80%`, a size such as `200GiB`, or `never`"

    def parse(self, value: object, place: PathBase) -> SizeLimit:
        if value == "never":
            return SizeLimit()
        if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)\s?%", value, re.ASCII)):
            percent = float(match[1])
            if not 0 < percent <= 100:
                raise ValueError("is not a share above 0% and up to 100%")
            return SizeLimit(percent=percent)
        try:
            size_bytes = _size(value)
        except ValueError as error:
            raise ValueError(f"{error}; a share such as '80%' and 'never' are accepted too") from None
        return SizeLimit(size_bytes=size_bytes)

    def show(self, value: SizeLimit) -> str:
        return str(value)


def _size(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("needs a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, in quotes, as in '16MiB'")
    return parse_size(text_of(value))
