"""Fingerprints of secrets: enough to see that two places hold the same one, useless for finding it.

HMAC-SHA256 under a random key that never leaves its folder (an engine's data folder, or where the module keeps its
state); a plain hash of a short or known token could be looked up by trying.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

KEY_FILE = "fingerprint.key"
_KEY_BYTES = 32
#: 48 bits: no two secrets of one installation share them by chance.
_SHOWN_DIGITS = 12


class Fingerprints:
    def __init__(self, folder: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """Uses the key of the folder, making it where the folder is there and can be written.

        Otherwise the key is this object's own and `stored` is false: fingerprints then differ from run to run.
        """
        key = _read(folder / KEY_FILE) or _make(folder / KEY_FILE, random_bytes)
        self.stored = key is not None
        self._key = key or random_bytes(_KEY_BYTES)

    @property
    def key_id(self) -> str:
        """12 hex digits that tell one key from another, and nothing else about it."""
        return self.of("which key is this?")

    def of(self, secret: str) -> str:
        """12 hex digits."""
        return hmac.new(self._key, secret.encode(), hashlib.sha256).hexdigest()[:_SHOWN_DIGITS]


def _read(path: Path) -> bytes | None:
    try:
        key = path.read_bytes()
    except OSError:
        return None
    return key if len(key) == _KEY_BYTES else None


def _make(path: Path, random_bytes: Callable[[int], bytes]) -> bytes | None:
    """Make the key file whole or not at all; of two processes that try at once, both get the winner's."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(random_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(partial, path)
    except OSError:
        return None
    finally:
        partial.unlink(missing_ok=True)
    return _read(path)
