"""The kinds of values that settings have: how each is read from a file or from text, what it accepts, how it is shown.

A kind stands in a field's annotation (`Annotated[float, Duration(...)]`). `parse` takes a value as TOML gives it,
`from_text` one from a flag or the environment; both raise ValueError with a sentence that continues
`serve.listen = "..."` and never repeats the value. `show` gives the value back as a file would hold it.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from pullthrough.declaration import ROOT
from pullthrough.errors import RequestError
from pullthrough.oci.names import parse_image_reference, parse_repository_name
from pullthrough.units import format_duration, format_size, parse_duration, parse_size


@dataclass(frozen=True, slots=True)
class Place:
    """What a relative path is relative to: the folder of the file, or of the command."""

    folder: Path
    #: What `~` stands for; None where there is no home.
    home: Path | None


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


class Kind:
    """One kind of value. `accepted` is for the reference page."""

    accepted: str
    #: Whether the value may hold a secret by design or by mistake, so that no message repeats it.
    private = False

    def parse(self, value: object, place: Place) -> Any:
        raise NotImplementedError

    def from_text(self, text: str, place: Place) -> Any:
        return self.parse(text, place)

    def show(self, value: Any) -> object:
        return value


@dataclass(frozen=True, slots=True)
class Text(Kind):
    """Any text; empty stands for none."""

    accepted: str = "text"

    def parse(self, value: object, place: Place) -> str:
        text = text_of(value)
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise ValueError("holds a control character")
        return text


@dataclass(frozen=True, slots=True)
class Formed(Kind):
    """A text of one form, which `accepted` describes."""

    pattern: str
    accepted: str

    def parse(self, value: object, place: Place) -> str:
        text = text_of(value)
        if re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise ValueError(f"is not {self.accepted.replace('`', chr(39))}")
        return text


@dataclass(frozen=True, slots=True)
class Flag(Kind):
    accepted: str = "`true` or `false`"

    def parse(self, value: object, place: Place) -> bool:
        if not isinstance(value, bool):
            raise ValueError("is neither true nor false (write it without quotes)")
        return value

    def from_text(self, text: str, place: Place) -> bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError("is neither true nor false")
        return words[text.lower()]


@dataclass(frozen=True, slots=True)
class Number(Kind):
    minimum: int
    maximum: int

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the range
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, value: object, place: Place) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValueError(f"is not {self.accepted}")
        return value

    def from_text(self, text: str, place: Place) -> int:
        if re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII) is None:
            raise ValueError(f"is not {self.accepted}")
        return self.parse(int(text), place)


@dataclass(frozen=True, slots=True)
class Duration(Kind):
    """Seconds. `words` are texts with a meaning of their own."""

    minimum: float
    maximum: float
    words: Mapping[str, float] = field(default_factory=dict)

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the range
        words = "".join(f" or `{word}`" for word in self.words)
        return f"a duration from `{format_duration(self.minimum)}` to `{format_duration(self.maximum)}`{words}"

    def parse(self, value: object, place: Place) -> float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError("needs a unit: ms, s, m, h or d, in quotes, as in '30s'")
        text = text_of(value)
        seconds = parse_duration(text, self.words)
        if text not in self.words and not self.minimum <= seconds <= self.maximum:
            raise ValueError(f"is not {self.accepted.replace('`', '')}")
        return seconds

    def show(self, value: float) -> str:
        return next((word for word, seconds in self.words.items() if seconds == value), format_duration(value))


@dataclass(frozen=True, slots=True)
class Size(Kind):
    minimum: int
    maximum: int

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the range
        return f"a size from `{format_size(self.minimum)}` to `{format_size(self.maximum)}`"

    def parse(self, value: object, place: Place) -> int:
        size_bytes = _size(value)
        if not self.minimum <= size_bytes <= self.maximum:
            raise ValueError(f"is not {self.accepted.replace('`', '')}")
        return size_bytes

    def show(self, value: int) -> str:
        return format_size(value)


@dataclass(frozen=True, slots=True)
class Limit(Kind):
    accepted: str = "a share of the file system such as `80%`, a size such as `200GiB`, or `never`"

    def parse(self, value: object, place: Place) -> SizeLimit:
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


@dataclass(frozen=True, slots=True)
class Choice(Kind):
    options: type[StrEnum]

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the options
        return " or ".join(f"`{option.value}`" for option in self.options)

    def parse(self, value: object, place: Place) -> StrEnum:
        try:
            return self.options(text_of(value))
        except ValueError:
            raise ValueError(f"is not {self.accepted.replace('`', chr(39))}") from None

    def show(self, value: StrEnum | None) -> str:
        return value.value if value else ""


@dataclass(frozen=True, slots=True)
class FilePath(Kind):
    """A path; `~/` is the home folder, a relative one starts at the file that names it. Empty is None."""

    accepted: str = "a path"
    private: bool = False
    optional: bool = True

    def parse(self, value: object, place: Place) -> Path | None:
        text = text_of(value)
        if not text:
            if self.optional:
                return None
            raise ValueError("is empty")
        if "\0" in text:
            raise ValueError("holds a null character")
        if text == "~" or text.startswith("~/"):
            if place.home is None:
                raise ValueError("begins with '~', but there is no home folder (HOME is not set)")
            return place.home / text[2:]
        return place.folder / text

    def show(self, value: Path | None) -> str:
        return str(value) if value else ""


@dataclass(frozen=True, slots=True)
class RepositoryPrefix(Kind):
    accepted: str = "leading segments of a repository name, such as `team/images`; empty or `ROOT` for none"

    def parse(self, value: object, place: Place) -> str:
        text = text_of(value).removesuffix("/")
        return "" if text in ("", ROOT) else _repository_prefix(text)


@dataclass(frozen=True, slots=True)
class Patterns(Kind):
    accepted: str = "a list of names in which `*` stands for any characters, `/` too, and `?` for one"

    def parse(self, value: object, place: Place) -> tuple[str, ...]:
        return tuple(_pattern(text, r"[a-z0-9._/*?-]+", "names") for text in texts_of(value))

    def show(self, value: tuple[str, ...]) -> list[str]:
        return list(value)


@dataclass(frozen=True, slots=True)
class DurationByTag(Kind):
    duration: Duration

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the duration
        return "a table from a tag, in which `*` and `?` are wild, to what `freshness` accepts"

    def parse(self, value: object, place: Place) -> tuple[tuple[str, float], ...]:
        if not isinstance(value, dict):
            raise ValueError("is not a table such as { latest = '10m' }")
        pairs = []
        for tag, text in value.items():
            pattern = _pattern(tag, r"[A-Za-z0-9._*?-]+", "tags")
            try:
                pairs.append((pattern, self.duration.parse(text, place)))
            except ValueError as error:
                raise ValueError(f"has a value for {tag!r} that {error}") from None
        return tuple(pairs)

    def show(self, value: tuple[tuple[str, float], ...]) -> dict[str, object]:
        return {tag: self.duration.show(seconds) for tag, seconds in value}


@dataclass(frozen=True, slots=True)
class Command(Kind):
    """Program and arguments. Never shown beyond the program's name: arguments may be the secret itself."""

    accepted: str = "a program with its arguments, as a list, or as a text split like a shell would; no shell runs it"
    private: bool = True

    def parse(self, value: object, place: Place) -> tuple[str, ...]:
        if isinstance(value, str):
            try:
                words = shlex.split(value)
            except ValueError:
                raise ValueError("has a quote that is not closed") from None
        else:
            words = list(texts_of(value))
        if any("\0" in word for word in words) or (words and not words[0]):
            raise ValueError("is not a program with its arguments")
        return tuple(words)

    def show(self, value: tuple[str, ...]) -> str:
        if not value:
            return ""
        return f"{value[0]} …" if len(value) > 1 else value[0]


@dataclass(frozen=True, slots=True)
class VariableName(Kind):
    accepted: str = "the name of an environment variable"
    private: bool = True

    def parse(self, value: object, place: Place) -> str:
        text = text_of(value)
        if text and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text, re.ASCII) is None:
            raise ValueError("is not the name of an environment variable (the name, not the token itself)")
        return text


@dataclass(frozen=True, slots=True)
class Secret(Kind):
    """A secret in the environment, or in a file that may hold it. The setting keeps only that it is there; who needs it
    reads it there."""

    accepted: str = "a secret; from the environment only"
    private: bool = True

    def parse(self, value: object, place: Place) -> bool:
        text = text_of(value).strip()
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            raise ValueError("has several lines or control characters")
        return bool(text)

    def from_text(self, text: str, place: Place) -> bool:
        return bool(text)

    def show(self, value: bool) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Count(Kind):
    """A whole number, or `never` for None."""

    minimum: int
    maximum: int

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the range
        return f"a whole number from {self.minimum} to {self.maximum}, or `never`"

    def parse(self, value: object, place: Place) -> int | None:
        if value == "never":
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not self.minimum <= value <= self.maximum:
            raise ValueError(f"is not {self.accepted.replace('`', chr(39))}")
        return value

    def from_text(self, text: str, place: Place) -> int | None:
        return self.parse(int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) else text, place)

    def show(self, value: int | None) -> object:
        return "never" if value is None else value


@dataclass(frozen=True, slots=True)
class FormedList(Kind):
    """Different texts of one form, each of which `pattern` matches."""

    pattern: str
    accepted: str
    most: int | None = None

    def parse(self, value: object, place: Place) -> tuple[str, ...]:
        texts = texts_of(value)
        for text in texts:
            if re.fullmatch(self.pattern, text, re.ASCII) is None:
                raise ValueError(f"has {text[:80]!r}; it takes {self.accepted.replace('`', chr(39))}")
        if len(set(texts)) < len(texts):
            repeated = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(f"has {repeated[:80]!r} twice")
        if self.most is not None and len(texts) > self.most:
            raise ValueError(f"has more than {self.most}; it takes {self.accepted.replace('`', chr(39))}")
        return texts

    def show(self, value: tuple[str, ...]) -> list[str]:
        return list(value)


@dataclass(frozen=True, slots=True)
class Tags(Kind):
    """AWS's resource tags: https://docs.aws.amazon.com/tag-editor/latest/userguide/best-practices-and-strats.html"""

    #: Whether they go on what also bears a mark of ours, and on IAM's roles, for which `Team` and `team` are one:
    #: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html#id_tags_rules
    marked: bool

    @property
    def accepted(self) -> str:  # type: ignore[override] # computed from the limit
        return f'a table of up to {self._most} tags such as `{{ team = "platform" }}`'

    @property
    def _most(self) -> int:
        return 49 if self.marked else 50

    def parse(self, value: object, place: Place) -> dict[str, str]:
        if not isinstance(value, dict):
            raise ValueError("is not a table such as { team = 'platform' }")
        if len(value) > self._most:
            ours = ", and one is the mark of what is pullthrough's" if self.marked else ""
            raise ValueError(f"has more than {self._most} tags; AWS takes 50{ours}")
        for key, text in value.items():
            if not isinstance(text, str):
                raise ValueError(f"has a value for {key[:80]!r} that is not a text in quotes")
            if key.lower().startswith(("aws:", "pullthrough:")):
                raise ValueError(f"has the tag {key[:80]!r}, whose beginning is reserved")
            if re.fullmatch(r"[\w .:/=+@-]{1,128}", key) is None or re.fullmatch(r"[\w .:/=+@-]{0,256}", text) is None:
                raise ValueError(
                    f"has the tag {key[:80]!r}, which AWS does not take: letters, digits, spaces and any of _.:/=+-@, "
                    "up to 128 characters in its key and 256 in its value"
                )
        if self.marked and len({key.casefold() for key in value}) < len(value):
            raise ValueError("has two tags that differ in capitals only, which are one for IAM")
        return dict(value)

    def from_text(self, text: str, place: Place) -> dict[str, str]:
        pairs = [part.partition("=") for part in texts_of(text)]
        tags = {key.strip(): value.strip() for key, _, value in pairs}
        if not all(equals for _, equals, _ in pairs) or len(tags) < len(pairs):
            raise ValueError("is not a list of different tags such as 'team=platform,stage=test'")
        return self.parse(tags, place)


@dataclass(frozen=True, slots=True)
class Image(Kind):
    """An image of one rule's upstream. Empty stands for none."""

    accepted: str = "an image without its registry, such as `team/app:1.0`"

    def parse(self, value: object, place: Place) -> str:
        text = text_of(value)
        if not text:
            return ""
        try:
            image = parse_image_reference(text)
        except RequestError:
            image = None
        if image is None or image.host is not None:
            raise ValueError(f"is not {self.accepted.replace('`', chr(39))}")
        return text


NEVER_AND_ALWAYS: Mapping[str, float] = {"never": math.inf, "always": 0.0}


def text_of(value: object) -> str:
    """The text, or a ValueError."""
    if not isinstance(value, str):
        raise ValueError("is not a text in quotes")
    return value


def texts_of(value: object) -> tuple[str, ...]:
    """The texts of a list, or of one text separated by commas; or a ValueError."""
    if isinstance(value, str):
        # From a flag or the environment; in a file `allow = "library/*"` is accepted as a list of one.
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("is not a list of texts in quotes")
    return tuple(value)


def _size(value: object) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise ValueError("needs a unit: B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, in quotes, as in '16MiB'")
    return parse_size(text_of(value))


def _repository_prefix(text: str) -> str:
    try:
        return parse_repository_name(text)
    except RequestError:
        raise ValueError(
            "is not leading segments of a repository name: lower-case letters and digits, separated by '.', '_', '__' "
            "or '-', in segments separated by '/'"
        ) from None


def _pattern(text: str, characters: str, what: str) -> str:
    if re.fullmatch(characters, text, re.ASCII) is None:
        raise ValueError(
            f"has the pattern {text[:80]!r}, which matches nothing: {what} hold none of its other characters; "
            "only '*' and '?' are wild"
        )
    return text
