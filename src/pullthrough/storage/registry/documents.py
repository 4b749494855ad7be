"""The registry's own documents, by name: policy, scanning, replication, signing, and each account setting."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from pullthrough.storage.sql.database import Database, Topic, note_change, upsert
from pullthrough.storage.sql.schema import registry_documents


class DocumentRows:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, str]:
        with self._database.reading() as connection:
            rows = connection.execute(select(registry_documents.c.name, registry_documents.c.body)).all()
        return {row.name: row.body for row in rows}

    def find(self, name: str) -> str | None:
        with self._database.reading() as connection:
            return _find(connection, name)

    def put(self, name: str, body: str, now: float) -> None:
        row = {"name": name, "body": body, "updated_at": now}

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            upsert(connection, registry_documents, [row], key=["name"], update=["body", "updated_at"])

        self._database.write(change)

    def delete(self, name: str) -> str | None:
        """The body that was deleted; None where there was none."""

        def change(connection: Connection) -> str | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            body = _find(connection, name)
            connection.execute(delete(registry_documents).where(registry_documents.c.name == name))
            return body

        return self._database.write(change)


def _find(connection: Connection, name: str) -> str | None:
    body: str | None = connection.execute(
        select(registry_documents.c.body).where(registry_documents.c.name == name)
    ).scalar()
    return body
