"""What is said of API keys. Their fields are the members of the JSON that `pullthrough keys` prints."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class KeyEntry:
    name: str
    access_key_id: str
    #: A role's name, or `policy` for a key that has one of its own.
    role: str
    #: ISO 8601; None for a key of the settings.
    created_at: str | None


@dataclass(frozen=True, slots=True)
class KeyList:
    keys: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class NewKey(KeyEntry):
    """A key with the secret half that was just made."""

    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemovedKey:
    name: str
    removed: bool


@dataclass(frozen=True, slots=True)
class RotatedKeys:
    #: How many secrets and keys were encrypted anew.
    values: int
    #: The file or variable that holds the key they are encrypted with.
    key: str
