"""The key that sealed values are encrypted with: a file beside the data folder, or a variable of the environment.

Both hold 32 random bytes in base64 or hexadecimal digits; or several such keys with white space between them: the first
one encrypts, all of them decrypt. That is how a key is replaced without an instant at which something cannot be read. A file
belongs to one data folder: replacing the key there would take it from another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pullthrough.errors import SealingKeyMissing

KEY_VARIABLE = "PULLTHROUGH_ECR_ENCRYPTION_KEY"
KEY_BYTES = 32
#: Enough to tell the keys of one installation apart; nothing of the key can be learned from them.
KEY_ID_BYTES = 4

#: A key that is being replaced, and those left over from rotations that did not end: far more than ever happens.
_MAX_FILE_BYTES = 64 * 1024
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_BACKUP_HINT = "Put the key that was used before back in its place, from its backup"


@dataclass(frozen=True, slots=True)
class MasterKey:
    secret: bytes = field(repr=False)

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(b"pullthrough encryption key\0" + self.secret).digest()[:KEY_ID_BYTES]


class MasterKeys:
    """Where the keys are. Reads them each time: who keeps them asks `signature` whether they are the same still.

    Writing (`make`, `replace`) is for one process at a time: callers hold the catalog's write transaction.
    """

    def __init__(
        self, path: Path, environ: Mapping[str, str], *, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self.path = path
        self._text = environ.get(KEY_VARIABLE, "")
        self._random_bytes = random_bytes

    @property
    def in_environment(self) -> bool:
        """The variable goes before the file."""
        return bool(self._text)

    @property
    def place(self) -> str:
        """For messages."""
        return f"the environment variable {KEY_VARIABLE}" if self._text else str(self.path)

    def signature(self) -> object:
        """Changes when the keys do; None where there are none. Raises SealingKeyMissing where nobody can tell."""
        if self._text:
            return "environment"
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode

    def read(self) -> tuple[MasterKey, ...]:
        """None at all where there is no file. Raises SealingKeyMissing for one that cannot be read or used."""
        if self._text:
            return self._parse(self._text)
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                content = file.read(_MAX_FILE_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SealingKeyMissing(
                f"the encryption key {self.path} is not used: others than its owner may read or write it "
                f"(mode {stat.S_IMODE(mode):04o})",
                hint=f"chmod 600 {self.path}; and `pullthrough keys rotate`, if somebody may have read it.",
            )
        return self._parse(content.decode("ascii", "replace"))

    def make(self) -> None:
        """Make the file, with a new key; of several that try at once, the first one's stays.

        Whole or not at all, and on the disk when this returns. Raises SealingKeyMissing where that cannot be.
        """
        partial = self._write_partial((self.new_key(),))
        try:
            with suppress(FileExistsError):
                os.link(partial, self.path)
            _sync(self.path.parent)
        except OSError as error:
            raise _not_written(self.path, error) from error
        finally:
            partial.unlink(missing_ok=True)

    def replace(self, keys: tuple[MasterKey, ...]) -> None:
        """These keys instead of what is in the file; likewise whole, and on the disk. Raises SealingKeyMissing."""
        path = self.path.resolve()  # a link stays a link
        partial = self._write_partial(keys)
        try:
            partial.replace(path)
            _sync(path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise _not_written(self.path, error) from error

    def new_key(self) -> MasterKey:
        return MasterKey(self._random_bytes(KEY_BYTES))

    def _write_partial(self, keys: tuple[MasterKey, ...]) -> Path:
        path = self.path.resolve()
        # One writer at a time: a file of this name was left behind by a crash.
        partial = path.with_name(f".{path.name}.new")
        try:
            partial.unlink(missing_ok=True)
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(b"".join(base64.b64encode(key.secret) + b"\n" for key in keys))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise _not_written(self.path, error) from error
        return partial

    def _parse(self, text: str) -> tuple[MasterKey, ...]:
        secrets = [_decode(word) for word in text.split()]
        keys = tuple(MasterKey(secret) for secret in secrets if secret is not None)
        if not keys or len(keys) != len(secrets):
            raise SealingKeyMissing(
                f"{self.place} does not hold an encryption key: {KEY_BYTES} random bytes in base64",
                hint=f"{_BACKUP_HINT}; a first one comes from `openssl rand -base64 {KEY_BYTES}`.",
            )
        return keys


def _decode(word: str) -> bytes | None:
    if _HEX.fullmatch(word):
        return bytes.fromhex(word)
    try:
        secret = base64.b64decode(word.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except (binascii.Error, ValueError):
        return None
    return secret if len(secret) == KEY_BYTES else None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unreadable(path: Path, error: OSError) -> SealingKeyMissing:
    return SealingKeyMissing(
        f"the encryption key {path} cannot be read: {error.strerror}",
        hint="Give the file to the engine's user; `encryption_key_file` in [ecr] names another place.",
    )


def _not_written(path: Path, error: OSError) -> SealingKeyMissing:
    return SealingKeyMissing(
        f"the encryption key {path} cannot be written: {error.strerror}",
        hint="Let the engine's user write to its folder, or name another place: `encryption_key_file` in [ecr], or "
        f"{KEY_VARIABLE}.",
    )
