"""Texts of one form or another, lists of such, paths, and the places of secrets."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from pullthrough.settings.values.base import PathBase, ValueType, is_not, quoted, text_of, texts_of

E = TypeVar("E", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Text(ValueType[str]):
    """Any text; empty stands for none."""

    accepted = "text"

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        if _has_control_characters(text):
            raise ValueError("holds a control character")
        return text


@dataclass(frozen=True, slots=True)
class Formed(ValueType[str]):
    """A text of one form, which `pattern` matches."""

    pattern: str
    #: The form in words.
    form: str

    @property
    def accepted(self) -> str:
        return self.form

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        if re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise is_not(self.accepted)
        return text


@dataclass(frozen=True, slots=True)
class FormedList(ValueType[tuple[str, ...]]):
    """Different texts of one form."""

    pattern: str
    form: str
    most: int | None = None

    @property
    def accepted(self) -> str:
        return self.form

    def parse(self, value: object, place: PathBase) -> tuple[str, ...]:
        texts = texts_of(value)
        for text in texts:
            if re.fullmatch(self.pattern, text, re.ASCII) is None:
                raise ValueError(f"has {text[:80]!r}; it takes {quoted(self.accepted)}")
        if len(set(texts)) < len(texts):
            repeated = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(f"has {repeated[:80]!r} twice")
        if self.most is not None and len(texts) > self.most:
            raise ValueError(f"has more than {self.most}; it takes {quoted(self.accepted)}")
        return texts


@dataclass(frozen=True, slots=True)
class Choice(ValueType[E], Generic[E]):
    options: type[E]

    @property
    def accepted(self) -> str:
        return " or ".join(f"`{option.value}`" for option in self.options)

    def parse(self, value: object, place: PathBase) -> E:
        try:
            return self.options(text_of(value))
        except ValueError:
            raise is_not(self.accepted) from None

    def show(self, value: E | None) -> str:
        return value.value if value else ""


@dataclass(frozen=True, slots=True)
class FilePath(ValueType[Path | None]):
    """A path; `~/` is the home folder, a relative one starts at the file that names it. Empty is None."""

    accepted = "a path"
    private: bool = False

    def parse(self, value: object, place: PathBase) -> Path | None:
        return _path(text, place) if (text := text_of(value)) else None

    def show(self, value: Path | None) -> str:
        return str(value) if value else ""


@dataclass(frozen=True, slots=True)
class FolderPath(ValueType[Path]):
    """A path of which the same holds, and that must not be empty."""

    accepted = "a path"

    def parse(self, value: object, place: PathBase) -> Path:
        if not (text := text_of(value)):
            raise ValueError("is empty")
        return _path(text, place)

    def show(self, value: Path) -> str:
        return str(value)


@dataclass(frozen=True, slots=True)
class Command(ValueType[tuple[str, ...]]):
    """Program and arguments. Never shown beyond the program's name: arguments may be the secret itself."""

    accepted = "a program with its arguments, as a list, or as a text split like a shell would; no shell runs it"
    private = True

    def parse(self, value: object, place: PathBase) -> tuple[str, ...]:
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
class VariableName(ValueType[str]):
    accepted = "the name of an environment variable"
    private = True

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        if text and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,127}", text, re.ASCII) is None:
            raise ValueError("is not the name of an environment variable (the name, not the token itself)")
        return text


@dataclass(frozen=True, slots=True)
class SecretText(ValueType[bool]):
    """A secret in the environment, or in a file that may hold it. The setting keeps only that it is there; who needs it
    reads it there."""

    #: Where it may stand, in words.
    form: str
    #: Whether the file may hold it where it says `allow_inline_tokens = true`.
    is_inline: bool = False
    private = True

    @property
    def accepted(self) -> str:
        return self.form

    def parse(self, value: object, place: PathBase) -> bool:
        text = text_of(value).strip()
        if _has_control_characters(text):
            raise ValueError("has several lines or control characters")
        return bool(text)

    def from_text(self, text: str, place: PathBase) -> bool:
        return bool(text)

    def show(self, value: bool) -> str:
        return ""


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def _path(text: str, place: PathBase) -> Path:
    if "\0" in text:
        raise ValueError("holds a null character")
    if text == "~" or text.startswith("~/"):
        if place.home is None:
            raise ValueError("begins with '~', but there is no home folder (HOME is not set)")
        return place.home / text[2:]
    return place.folder / text
