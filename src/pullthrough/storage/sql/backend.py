"""In what one database differs from another: all of it, so that a second one is a second class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection, Engine, Table

from pullthrough.errors import StorageError

Columns: TypeAlias = Sequence[str]
Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Backend(Protocol):
    """A database that holds one catalog. Tables, columns and other statements are the same for all.

    `tests/contracts/test_database.py` says what each of them promises.
    """

    @property
    def place(self) -> str:
        """Where the catalog is, for messages."""
        ...

    def connect(self) -> Engine:
        """Makes the database where it is missing. Raises StorageError, or one of its kinds.

        A transaction of this engine sees one state of the database, however many statements it has, and waits for no
        writer.
        """
        ...

    def writer(self, engine: Engine) -> Engine:
        """The same engine, whose transactions write. A commit that returned survives a power cut.

        Transactions that write have the same outcome as if each had the database for itself. Where that needs one of
        them to give way, it fails with an error that `gives_way` knows.
        """
        ...

    def gives_way(self, error: Exception) -> bool:
        """Whether a transaction failed for the sake of another one, so that it may succeed when it is run again."""
        ...

    def explain(self, error: Exception) -> StorageError | None:
        """The driver's error as ours: DiskFull, CatalogBroken, FolderNotWritable, or a StorageError. None where the error
        is not the driver's."""
        ...

    def upsert(self, connection: Connection, table: Table, rows: Rows, *, key: Columns, update: Columns) -> None:
        """Inserts the rows. Sets the `update` columns of those whose key is there, and leaves the other columns as they are."""
        ...

    def content_bytes(self, connection: Connection) -> int:
        """What the rows take; next to nothing in a catalog that was just made."""
        ...

    def find_damage(self, connection: Connection) -> list[str]:
        """What the database itself finds wrong with what it holds; empty if nothing."""
        ...
