"""API keys that were made here: their names, what they may do, their secret halves encrypted.

Every method is one transaction and may raise StorageError; times are seconds since the epoch. Each change moves the
configuration's generation, so that all workers obey it at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select, update

from pullthrough.errors import AlreadyExists
from pullthrough.storage.secrets.sealing import Sealer, access_key_context
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.schema import access_keys


@dataclass(frozen=True, slots=True)
class StoredKey:
    access_key_id: str
    name: str
    #: `admin`, `pull`, or a policy document.
    role: str
    sealed: bytes = field(repr=False)
    created_at: float


class AccessKeys:
    """The table of API keys."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    def list(self) -> tuple[StoredKey, ...]:
        """By name."""
        with self._database.reading() as connection:
            rows = connection.execute(select(access_keys).order_by(access_keys.c.name)).all()
        return tuple(StoredKey(**row._mapping) for row in rows)

    def open(self, key: StoredKey) -> bytes:
        """The secret half. Raises SealingKeyMissing."""
        return self._sealer.open(key.sealed, access_key_context(key.access_key_id))

    def add(
        self, name: str, role: str, access_key_id: str, secret: bytes, created_at: float, *, only_as_first: bool = False
    ) -> None:
        """Raises AlreadyExists where there is a key of this name, or `only_as_first` and any at all; SealingKeyMissing."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.CONFIGURATION)
            same = select(access_keys.c.name)
            if not only_as_first:
                same = same.where(access_keys.c.name == name)
            if (other := connection.execute(same.limit(1)).scalar_one_or_none()) is not None:
                raise AlreadyExists(f"there is an API key named {other!r} already")
            sealed = self._sealer.seal(connection, secret, access_key_context(access_key_id))
            connection.execute(
                insert(access_keys).values(
                    access_key_id=access_key_id, name=name, role=role, sealed=sealed, created_at=created_at
                )
            )

        self._database.write(change)

    def renew(self, name: str, secret: bytes) -> StoredKey | None:
        """Give a key another secret half. None where there is no key of this name. Raises SealingKeyMissing."""

        def change(connection: Connection) -> StoredKey | None:
            note_change(connection, Topic.CONFIGURATION)
            row = connection.execute(select(access_keys).where(access_keys.c.name == name)).one_or_none()
            if row is None:
                return None
            sealed = self._sealer.seal(connection, secret, access_key_context(row.access_key_id))
            connection.execute(update(access_keys).where(access_keys.c.name == name).values(sealed=sealed))
            return StoredKey(**{**row._mapping, "sealed": sealed})

        return self._database.write(change)

    def remove(self, name: str) -> bool:
        """Whether there was one."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.CONFIGURATION)
            return connection.execute(delete(access_keys).where(access_keys.c.name == name)).rowcount == 1

        return self._database.write(change)
