"""What every type of value can do.

A type stands in a field's `setting(...)`. `parse` takes a value as TOML gives it, `from_text` one from a flag or the
environment; both raise ValueError with a sentence that continues `serve.listen = "..."` and never repeats the value.
`show` gives the value back as a file would hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PathBase:
    """What a relative path is relative to: the folder of the file, or of the command."""

    folder: Path
    #: What `~` stands for; None where there is no home.
    home: Path | None


class ValueType(Generic[T]):
    """One type of value."""

    #: Whether the value may hold a secret by design or by mistake, so that no message and no repr repeats it.
    private = False

    @property
    def accepted(self) -> str:
        """What it accepts, for the reference page; names of values stand in backquotes."""
        raise NotImplementedError

    def parse(self, value: object, place: PathBase) -> T:
        raise NotImplementedError

    def from_text(self, text: str, place: PathBase) -> T:
        return self.parse(text, place)

    def show(self, value: T) -> object:
        return list(value) if isinstance(value, tuple) else value


def is_not(accepted: str) -> ValueError:
    """The sentence that a value is not what its type accepts."""
    return ValueError(f"is not {quoted(accepted)}")


def quoted(accepted: str) -> str:
    """`accepted` as a message has it."""
    return accepted.replace("`", "'")


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
