"""Small files that are read again when they change: secrets, policies, users."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from pullthrough.errors import ConfigurationError

_log = logging.getLogger(__name__)
#: Ten thousand users take less.
MAX_BYTES = 1024 * 1024

T = TypeVar("T")


class WatchedFile(Generic[T]):
    """What a file holds. Looking costs one stat(2); the file is read, on whatever thread asks, when it changed.

    `parse` raises ValueError with a sentence that continues the file's name; it must hold no part of a secret.
    """

    def __init__(self, path: Path, setting: str, parse: Callable[[bytes], T]) -> None:
        """Raises ConfigurationError where it cannot be read now. `setting` is the key that names the file."""
        self._path = path
        self._setting = setting
        self._parse = parse
        self._seen = self._look()
        try:
            self._value = parse(self._read())
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{setting}: the file {_why(error)}", hint="see the setting's reference"
            ) from error

    def value(self) -> T:
        """What it holds now; what it held last where it cannot be read any more, which is logged once."""
        if (look := self._look()) != self._seen:
            self._seen = look  # of before the reading: what is written in between is read next time
            try:
                self._value = self._parse(self._read())
            except (OSError, ValueError) as error:
                _log.error("%s: the file %s; what it held before stays in force", self._setting, _why(error))
        return self._value

    def _look(self) -> object:
        """Changes with the file; None where it is not there."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _read(self) -> bytes:
        with self._path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES} bytes")
        return content


def _why(error: Exception) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error)
