"""Values at rest: encrypted with a key that is not in the data folder, and bound to what they are.

A sealed value is, in this order,

    1 byte     the form's version, 1
    4 bytes    the id of the key it was encrypted with
    12 bytes   a random nonce
    the rest   AES-256-GCM: the ciphertext and its tag; the context is the associated data

The context says what the value is (its kind and its id), so that one row's value cannot be put into another's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

from sqlalchemy import Column, Connection, Table, func, select, update

from pullthrough.errors import CatalogBroken, SealingKeyMissing
from pullthrough.storage.secrets.master_keys import KEY_ID_BYTES, KEY_VARIABLE, MasterKey, MasterKeys
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.schema import access_keys, secret_versions

_VERSION = b"\x01"
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + KEY_ID_BYTES


class Sealer:
    """Encrypts and decrypts. Safe to use from many threads and processes.

    A process keeps every key that it has read: what it read of the catalog before a rotation, it can open after it.
    """

    def __init__(self, keys: MasterKeys, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._keys = keys
        self._random_bytes = random_bytes
        self._lock = threading.Lock()
        self._known: dict[bytes, MasterKey] = {}
        #: What is there now; the first one encrypts.
        self._present: tuple[MasterKey, ...] = ()
        self._signature: object = None
        #: The signature of the keys when they were last found to decrypt everything. While the keys are the same they
        #: still do: what is encrypted later is encrypted with the first of them.
        self._sufficed: object = None

    @property
    def place(self) -> str:
        """Where the key is, for people."""
        return self._keys.place

    def seal(self, connection: Connection, value: bytes, context: bytes) -> bytes:
        """Encrypts for a row that this write transaction writes, so that no rotation comes in between.

        Makes the first key. Raises SealingKeyMissing where something is encrypted already and its key is not there: were a
        new key made then, each of the two could decrypt only a part.
        """
        with self._lock:
            return self._encrypt(self._usable_key(connection), value, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """The value. Raises SealingKeyMissing without its key, CatalogBroken where it was damaged or moved."""
        key_id = sealed[len(_VERSION) : _HEADER_BYTES]
        with self._lock:
            if key_id not in self._known:
                self._load()
            key = self._known.get(key_id)
        if sealed[: len(_VERSION)] != _VERSION:
            raise _broken(context)
        if key is None:
            raise self._missing(key_id)
        return self._decrypt(key, sealed, context)

    def check(self, database: Database) -> None:
        """Raises SealingKeyMissing where something is encrypted, and not all of it can be decrypted."""
        with database.reading() as connection:
            used = _used_ids(connection)
        with self._lock:
            if used - set(self._known):
                self._load()
            if missing := used - set(self._known):
                raise self._missing(*missing)

    def rotate(self, database: Database) -> int:
        """Encrypts everything anew, under a key made now. Returns how many values that were.

        The file holds every key that is in use at each instant: after a crash all values can be read, and the next rotation
        ends what this one began. With keys in the environment none is made: the first of them is the new one.

        Raises SealingKeyMissing, StorageError. Then a new key, which nothing is encrypted with, may stand in the file;
        nothing else has changed.
        """
        made = self._keys.new_key()
        count = database.write(self._encrypt_anew, made)
        if not self._keys.in_environment:
            database.write(self._forget_old_keys)
        return count

    def _encrypt_anew(self, connection: Connection, made: MasterKey) -> int:
        note_change(connection, Topic.CONFIGURATION)
        with self._lock:
            new = self._next_key(connection, made)
            count = 0
            for table, context in ((secret_versions, secret_context), (access_keys, access_key_context)):
                ids = list(table.primary_key)
                for row_id in connection.execute(select(*ids)).all():
                    is_row = [column == part for column, part in zip(ids, row_id, strict=True)]
                    sealed = connection.execute(select(table.c.sealed).where(*is_row)).scalar_one()
                    value = self._decrypt(self._known_key(sealed), sealed, context(*row_id))
                    anew = self._encrypt(new, value, context(*row_id))
                    connection.execute(update(table).where(*is_row).values(sealed=anew))
                    count += 1
            return count

    def _forget_old_keys(self, connection: Connection) -> None:
        """Take the keys out of the file that nothing is encrypted with any more."""
        with self._lock:
            keys = self._keys.read()
            if len(keys) > 1 and _used_ids(connection) <= {keys[0].key_id}:
                self._keys.replace(keys[:1])

    # --- keys, under the lock ---------------------------------------------------------------------------------------

    def _load(self) -> MasterKey | None:
        """The key to encrypt with as it is now; None where there is no file."""
        signature = self._keys.signature()
        if signature is None or signature != self._signature:
            self._present = self._keys.read()
            self._known.update((key.key_id, key) for key in self._present)
            # Of before the reading: a file that was replaced in between is read again next time.
            self._signature = signature
        return self._present[0] if self._present else None

    def _usable_key(self, connection: Connection) -> MasterKey:
        """The key to encrypt with; the first one is made here. For one process at a time, in a write transaction.

        Raises SealingKeyMissing unless everything stored can be decrypted with what is there.
        """
        current = self._load()
        if current is not None and self._signature == self._sufficed:
            return current
        used = _used_ids(connection)
        if current is None and not used:
            self._keys.make()
            current = self._load()
        missing = used - {key.key_id for key in self._present}
        if current is None or missing:
            raise self._missing(*missing)
        self._sufficed = self._signature
        return current

    def _next_key(self, connection: Connection, made: MasterKey) -> MasterKey:
        """The key to encrypt anew with: the one that was made, once it stands before the others in the file; or the first
        one of the environment."""
        current = self._usable_key(connection)
        if self._keys.in_environment:
            if _used_ids(connection) <= {current.key_id}:
                raise SealingKeyMissing(
                    f"there is no new key to rotate to: {KEY_VARIABLE} holds only the one in use",
                    hint=f'Start the engine with {KEY_VARIABLE}="NEW OLD", rotate, then leave OLD out; NEW is from '
                    "`openssl rand -base64 32`.",
                )
            return current
        if current != made:  # the transaction may be run again
            self._keys.replace((made, *self._present))
            self._load()
        return made

    def _known_key(self, sealed: bytes) -> MasterKey:
        return self._known[sealed[len(_VERSION) : _HEADER_BYTES]]

    # --- encryption -------------------------------------------------------------------------------------------------

    def _encrypt(self, key: MasterKey, value: bytes, context: bytes) -> bytes:
        # Imported here: it takes long, and most starts need none.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = self._random_bytes(_NONCE_BYTES)
        return _VERSION + key.key_id + nonce + AESGCM(key.secret).encrypt(nonce, value, context)

    def _decrypt(self, key: MasterKey, sealed: bytes, context: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, ciphertext = sealed[_HEADER_BYTES:][:_NONCE_BYTES], sealed[_HEADER_BYTES + _NONCE_BYTES :]
        try:
            return AESGCM(key.secret).decrypt(nonce, ciphertext, context)
        except (InvalidTag, ValueError):
            raise _broken(context) from None

    def _missing(self, *key_ids: bytes) -> SealingKeyMissing:
        which = f" ({min(key_ids).hex()} by its id)" if key_ids else ""
        state = f"{self._keys.place} holds another one" if self._present else f"{self._keys.place} is missing"
        return SealingKeyMissing(
            f"the key that secrets and API keys are encrypted with{which} is not there: {state}",
            hint=f"Put it back from its backup, at {self._keys.path} with mode 0600, or in {KEY_VARIABLE} and restart. "
            "Cached images are served meanwhile.",
        )


def _broken(context: bytes) -> CatalogBroken:
    return CatalogBroken(
        f"the encrypted value of {context.decode()} in the catalog is damaged", hint="Store it again, or delete it."
    )


def secret_context(name: str, version_id: str) -> bytes:
    """What a version of a secret is sealed for. No name has a colon."""
    return f"secret/{name}:{version_id}".encode()


def access_key_context(access_key_id: str) -> bytes:
    """What an API key's secret half is sealed for."""
    return f"access-key/{access_key_id}".encode()


def _used_ids(connection: Connection) -> set[bytes]:
    """The ids of the keys that something is encrypted with."""
    return {bytes(key_id) for table in (secret_versions, access_keys) for key_id in _ids_in(connection, table)}


def _ids_in(connection: Connection, table: Table) -> Iterator[bytes]:
    sealed: Column[bytes] = table.c.sealed
    yield from connection.execute(
        select(func.substr(sealed, len(_VERSION) + 1, KEY_ID_BYTES)).select_from(table).distinct()
    ).scalars()
