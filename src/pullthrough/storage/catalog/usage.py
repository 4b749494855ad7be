"""What is stored in all: how much, and whether there is room for more."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.records import Totals
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.schema import blobs, manifests, repositories, tags
from pullthrough.units import format_bytes


class Usage:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database, max_content_bytes: int | None = None) -> None:
        self._database = database
        #: What the whole catalog may take; more manifests and lists from upstreams are not kept then. None: any amount.
        self.max_content_bytes = max_content_bytes

    def stored_bytes(self) -> int:
        """What is stored, in the catalog and beside it."""
        return self.blob_bytes() + self.content_bytes()

    def blob_bytes(self) -> int:
        """What all published blobs take; each once, however many repositories share it."""
        with self._database.reading() as connection:
            return _blob_bytes(connection)

    def content_bytes(self) -> int:
        """What the catalog itself takes: manifests, lists, and what is noted of all."""
        with self._database.reading() as connection:
            return self._database.content_bytes(connection)

    def refuse_if_full(self, connection: Connection, more_bytes: int) -> None:
        if (
            self.max_content_bytes is not None
            and self._database.content_bytes(connection) + more_bytes > self.max_content_bytes
        ):
            raise NotKept(
                f"there is no room: manifests and lists may take {format_bytes(self.max_content_bytes)}, a part of max_size"
            )

    def totals(self) -> Totals:
        counted = (repositories, manifests, tags, blobs)
        with self._database.reading() as connection:
            count = [int(connection.execute(select(func.count()).select_from(table)).scalar_one()) for table in counted]
            stored = _blob_bytes(connection) + self._database.content_bytes(connection)
        return Totals(count[0], count[1], count[2], count[3], stored)


def _blob_bytes(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.sum(blobs.c.size_bytes), 0))).scalar_one())
