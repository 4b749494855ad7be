"""Everything that is SQLite's own: how it is opened, how a write begins, how an upsert is said, what its errors mean."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from pullthrough.errors import CatalogBroken, DiskFull, FolderNotWritable, StorageError

#: How long a writer waits for another process's transaction; ours take milliseconds.
BUSY_TIMEOUT_SECONDS = 30.0
#: Connections a process keeps; more threads than this wait for one.
MAX_CONNECTIONS = 16
#: The write-ahead log is cut back to this after a burst.
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024

_BROKEN_HINT = (
    "Stop the engine, move catalog.sqlite, catalog.sqlite-wal and catalog.sqlite-shm away, and start it again: the "
    "stored blobs are taken up again as they are asked for, only manifests are fetched anew."
)


def open_engine(path: Path) -> Engine:
    """An engine on this file, made (mode 0600) where it is missing. A transaction of `writer_of` it begins IMMEDIATE.

    WAL with `synchronous=FULL`: a commit that returned survives a power cut.
    """
    with explained(path):
        # SQLite gives its -wal and -shm files the mode of the main one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_SECONDS, "isolation_level": None, "check_same_thread": False},
        poolclass=QueuePool,
        pool_size=MAX_CONNECTIONS,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def writer_of(engine: Engine) -> Engine:
    """The same engine, whose transactions take the write lock at once instead of failing at their first write."""
    return engine.execution_options(pullthrough_writes=True)


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: Sequence[str],
    update: Sequence[str],
) -> None:
    """Insert; where a row of this key is there, set its `update` columns, or leave it as it is if there are none."""
    if not rows:
        return
    statement = insert(table)
    if update:
        statement = statement.on_conflict_do_update(
            index_elements=key, set_={column: statement.excluded[column] for column in update}
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=key)
    connection.execute(statement, list(rows))


def content_bytes(connection: Connection) -> int:
    """The pages of the database that are in use, but for those that it has while it is empty: one for each table and index,
    and the schema's."""
    pages, free, page_bytes = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_count", "freelist_count", "page_size")
    )
    of_schema = "SELECT count(*), sum(length(sql) + length(name) + length(tbl_name)) FROM sqlite_master"
    roots, schema_bytes = connection.exec_driver_sql(of_schema).one()
    empty = roots + 1 + math.ceil(schema_bytes / page_bytes)
    return max(0, pages - free - int(empty)) * page_bytes


def find_damage(connection: Connection) -> list[str]:
    """What SQLite itself finds wrong with the file and its foreign keys; empty if nothing."""
    damage = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(100)")]
    found = [] if damage == ["ok"] else damage
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(100):
        found.append(f"row {row[1]} of {row[0]} names a row of {row[2]} that is missing")
    return found


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns the driver's errors into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(error.orig or error, path) from error
    except (sqlite3.Error, OSError) as error:
        raise _explain(error, path) from error


def _explain(error: BaseException, path: Path) -> StorageError:
    # The low byte is the primary code: https://www.sqlite.org/rescode.html
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if isinstance(error, OSError):
        return FolderNotWritable(
            f"the catalog {path} cannot be opened: {error.strerror}",
            hint="Give the engine's user the right to read and write it.",
        )
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(
            f"no room on the disk for the catalog {path}",
            hint="Free some space, or lower serve.max_size so that more is evicted.",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CatalogBroken(f"the catalog {path} is damaged: {error}", hint=_BROKEN_HINT)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return FolderNotWritable(
            f"the catalog {path} cannot be written: {error}",
            hint="Give the engine's user the right to write in the data folder.",
        )
    if code == sqlite3.SQLITE_BUSY:
        return StorageError(
            f"another process kept the catalog {path} locked for more than {BUSY_TIMEOUT_SECONDS:.0f} s",
            hint="See what else has the file open, for instance with `fuser`.",
        )
    return StorageError(f"the catalog {path} failed: {error}")


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
    writes = connection.get_execution_options().get("pullthrough_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
