"""The backend that is SQLite: a file in WAL mode, with `synchronous=FULL`."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from pullthrough.errors import CatalogBroken, DiskFull, FolderNotWritable, StorageError
from pullthrough.storage.sql.backend import Columns, Rows

#: How long a writer waits for another process's transaction; ours take milliseconds.
BUSY_TIMEOUT_SECONDS = 30.0
#: Connections that a process keeps; more threads than this wait for one.
MAX_CONNECTIONS = 16
#: The write-ahead log is cut back to this after a burst.
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024

#: Set on connections whose transactions write.
_WRITES = "pullthrough_writes"

_BROKEN_HINT = (
    "Stop the engine, move catalog.sqlite, catalog.sqlite-wal and catalog.sqlite-shm away, and start it again: the "
    "stored blobs are taken up again as they are asked for, only manifests are fetched anew."
)


class Sqlite:
    """One file, for the processes of one machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def place(self) -> str:
        return str(self._path)

    def connect(self) -> Engine:
        """The file gets mode 0600 where it is made."""
        try:
            # SQLite gives its -wal and -shm files the mode of the main one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._unopened(error) from error
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None, "check_same_thread": False},
            poolclass=QueuePool,
            pool_size=MAX_CONNECTIONS,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_SECONDS,
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        return engine

    def writer(self, engine: Engine) -> Engine:
        """Its transactions take the write lock at once, and wait for it, instead of failing at their first write."""
        return engine.execution_options(**{_WRITES: True})

    def gives_way(self, error: Exception) -> bool:
        # Of a transaction that begins by reading; those of `writer` wait for the lock before they read.
        return _code(error) == sqlite3.SQLITE_BUSY_SNAPSHOT

    def explain(self, error: Exception) -> StorageError | None:
        if isinstance(error, OSError):
            return self._unopened(error)
        if not isinstance(error, DBAPIError | sqlite3.Error):
            return None
        cause = _driver_error(error)
        # The low byte is the primary code: https://www.sqlite.org/rescode.html
        match _code(error) & 0xFF:
            case sqlite3.SQLITE_FULL:
                return DiskFull(
                    f"no room on the disk for the catalog {self._path}",
                    hint="Free some space, or lower serve.max_size so that more is evicted.",
                )
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                return CatalogBroken(f"the catalog {self._path} is damaged: {cause}", hint=_BROKEN_HINT)
            case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
                return FolderNotWritable(
                    f"the catalog {self._path} cannot be written: {cause}",
                    hint="Give the engine's user the right to write in the data folder.",
                )
            case sqlite3.SQLITE_BUSY:
                return StorageError(
                    f"another process kept the catalog {self._path} locked for more than {BUSY_TIMEOUT_SECONDS:.0f} s",
                    hint="See what else has the file open, for instance with `fuser`.",
                )
        return StorageError(f"the catalog {self._path} failed: {cause}")

    def upsert(self, connection: Connection, table: Table, rows: Rows, *, key: Columns, update: Columns) -> None:
        statement = insert(table)
        if update:
            statement = statement.on_conflict_do_update(
                index_elements=key, set_={column: statement.excluded[column] for column in update}
            )
        else:
            statement = statement.on_conflict_do_nothing(index_elements=key)
        connection.execute(statement, list(rows))

    def content_bytes(self, connection: Connection) -> int:
        """The pages that are in use, but for those of an empty catalog: one for each table and index, and the schema's."""
        pages, free, page_bytes = (
            int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
            for name in ("page_count", "freelist_count", "page_size")
        )
        of_schema = "SELECT count(*), sum(length(sql) + length(name) + length(tbl_name)) FROM sqlite_master"
        roots, schema_bytes = connection.exec_driver_sql(of_schema).one()
        empty = roots + 1 + math.ceil(schema_bytes / page_bytes)
        return max(0, pages - free - int(empty)) * page_bytes

    def find_damage(self, connection: Connection) -> list[str]:
        damage = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(100)")]
        found = [] if damage == ["ok"] else damage
        for row in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(100):
            found.append(f"row {row[1]} of {row[0]} names a row of {row[2]} that is missing")
        return found

    def _unopened(self, error: OSError) -> FolderNotWritable:
        return FolderNotWritable(
            f"the catalog {self._path} cannot be opened: {error.strerror}",
            hint="Give the engine's user the right to read and write it.",
        )


def _driver_error(error: Exception) -> BaseException:
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _code(error: Exception) -> int:
    return getattr(_driver_error(error), "sqlite_errorcode", None) or 0


def _prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT_BYTES}")
    finally:
        cursor.close()


def _begin(connection: Connection) -> None:
    # The driver's own transaction handling is off (isolation_level None): it would begin too late.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
