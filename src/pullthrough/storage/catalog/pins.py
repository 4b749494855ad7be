"""Tags and digests that eviction leaves alone."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from pullthrough.oci.names import RepositoryName
from pullthrough.storage.sql.database import Database, upsert
from pullthrough.storage.sql.schema import pins


class Pins:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pin(self, repository: RepositoryName, reference: str, now: float) -> None:
        """Keep this tag or digest from being evicted; it need not be stored yet."""
        row = {"repository": repository, "reference": reference, "created_at": now}

        def change(connection: Connection) -> None:
            upsert(connection, pins, [row], key=["repository", "reference"], update=[])

        self._database.write(change)

    def unpin(self, repository: RepositoryName, reference: str) -> bool:
        """False where it was not pinned."""

        def change(connection: Connection) -> bool:
            removed = connection.execute(
                delete(pins).where(pins.c.repository == repository, pins.c.reference == reference)
            )
            return removed.rowcount > 0

        return self._database.write(change)

    def all(self) -> list[tuple[RepositoryName, str]]:
        statement = select(pins.c.repository, pins.c.reference).order_by(pins.c.repository, pins.c.reference)
        with self._database.reading() as connection:
            return [(RepositoryName(row.repository), row.reference) for row in connection.execute(statement)]
