"""The catalog's connections: opening, bringing the schema up to date, reading, and transactions that write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Column, Connection, Engine, MetaData, Select, String, Table, insert, inspect, select

from pullthrough.errors import CatalogBroken, FolderNewer
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.sql.backend import Backend, Columns, Rows
from pullthrough.storage.sql.schema import REVISIONS, metadata
from pullthrough.storage.sql.sqlite import Sqlite

#: Alembic's own table, as it makes it.
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
#: How often a write transaction is tried that has to give way to others.
MAX_ATTEMPTS = 10
#: What a connection knows in a transaction that writes: the backend that it is of, and what was noted.
_BACKEND = "pullthrough_backend"
_NOTED = "pullthrough_noted"

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Topic(StrEnum):
    """What a change is of: processes forget what they keep of that, and read it anew."""

    #: Answers to clients.
    ANSWERS = "answers"
    #: Rules, keys, policies and tags of repositories.
    CONFIGURATION = "configuration"


class Database:
    """A catalog at this version's schema. Safe to use from many threads; not across a fork."""

    def __init__(
        self, backend: Backend, engine: Engine, generation: Changes | None, configuration: Changes | None
    ) -> None:
        self._backend = backend
        self._engine = engine
        self._writer = backend.writer(engine)
        # In this order: who learns that answers have changed finds the rules that they follow from changed already.
        self._changes = ((Topic.CONFIGURATION, configuration), (Topic.ANSWERS, generation))

    @classmethod
    def open(cls, path: Path, generation: Changes | None = None, configuration: Changes | None = None) -> Database:
        """Makes the catalog where there is none, and brings its schema up to date.

        `generation` tells all processes of commits that change answers, `configuration` of those that change rules, keys,
        policies or tags of repositories.

        Raises FolderNewer where a later version of this program wrote it, CatalogBroken where it cannot be read as a
        catalog, FolderNotWritable, DiskFull.
        """
        backend = Sqlite(path)
        engine = backend.connect()
        database = cls(backend, engine, generation, configuration)
        try:
            with database.reading() as connection:
                revision = _revision(connection, backend.place)
            if revision != REVISIONS[-1]:
                database.write(_bring_up_to_date, backend.place)
        except BaseException:
            engine.dispose()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view, however many statements; never waits for a writer."""
        try:
            with self._engine.connect() as connection:
                yield connection
        except Exception as error:
            self._explain(error)
            raise

    def read_pages(self, statement: Select[tuple[Any, ...]], key: Column[str], size: int) -> Iterator[Any]:
        """What the statement selects, in the order of its key and so many rows at a time: a slow reader keeps nothing open.

        The key is a column of text, without an empty one, and the first that is selected.
        """
        last = ""
        while True:
            with self.reading() as connection:
                rows = connection.execute(statement.where(key > last).order_by(key).limit(size)).all()
            if not rows:
                return
            yield from rows
            last = rows[-1][0]

    def write(self, function: Callable[Concatenate[Connection, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What the function returns, run in a transaction: committed when it returns, rolled back when it raises.

        It is run again where the transaction has to give way to another one: so all that it does it does by the connection,
        or it may be done twice. What it notes by `note_change` is told to all processes.
        """
        attempts = 1
        while True:
            try:
                return self._write_once(function, *args, **kwargs)
            except Exception as error:
                if attempts == MAX_ATTEMPTS or not self._backend.gives_way(error):
                    self._explain(error)
                    raise
            attempts += 1

    def _write_once(
        self, function: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        noted: set[Topic] = set()
        try:
            with self._writer.begin() as connection:
                connection.execution_options(**{_BACKEND: self._backend, _NOTED: noted})
                return function(connection, *args, **kwargs)
        finally:
            # After the commit; after a failure too, because one may fail after the deed.
            for topic, changes in self._changes:
                if topic in noted and changes is not None:
                    changes.bump()

    def content_bytes(self, connection: Connection) -> int:
        """What the rows take; next to nothing in a catalog that was just made."""
        return self._backend.content_bytes(connection)

    def find_damage(self) -> list[str]:
        """What the database itself finds wrong with what it holds; empty if nothing."""
        with self.reading() as connection:
            return self._backend.find_damage(connection)

    def close(self) -> None:
        self._engine.dispose()

    def _explain(self, error: Exception) -> None:
        """Raises the database's error as ours. Returns where it is not the database's."""
        explained = self._backend.explain(error)
        if explained is not None:
            raise explained from error


def note_change(connection: Connection, *topics: Topic) -> None:
    """Within `Database.write`: processes are told of a change of these topics, once it is committed."""
    noted: set[Topic] = connection.get_execution_options()[_NOTED]
    noted.update(topics)


def upsert(connection: Connection, table: Table, rows: Rows, *, key: Columns, update: Columns) -> None:
    """Within `Database.write`: inserts the rows. Sets the `update` columns of those whose key is there, and leaves the
    other columns as they are."""
    backend: Backend = connection.get_execution_options()[_BACKEND]
    if rows:
        backend.upsert(connection, table, rows, key=key, update=update)


def _bring_up_to_date(connection: Connection, place: str) -> None:
    # Somebody else may have done it while this process waited for its turn.
    revision = _revision(connection, place)
    if revision is None:
        _make(connection)
    elif revision != REVISIONS[-1]:
        # Alembic takes a fifth of a second and 10 MB, and hardly any start needs it.
        from pullthrough.storage.sql.migrations import upgrade

        upgrade(connection)
    note_change(connection, Topic.ANSWERS)


def _make(connection: Connection) -> None:
    """A new catalog, as all migrations together would make it (a test compares the two)."""
    metadata.create_all(connection)
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=REVISIONS[-1]))


def _revision(connection: Connection, place: str) -> str | None:
    """The schema's revision, one that this version knows; None where there is no schema yet."""
    names = inspect(connection).get_table_names()
    if _VERSION.name not in names:
        if names:
            raise CatalogBroken(
                f"{place} is a database, but not a catalog of pullthrough",
                hint="Give another folder with --data, or move the file away.",
            )
        return None
    revision: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    if revision not in REVISIONS:
        raise FolderNewer(
            f"{place} was written by a newer version of pullthrough (its schema is {revision}, "
            f"this version knows up to {REVISIONS[-1]})",
            hint="Use that version, or another data folder. Nothing was changed.",
        )
    return revision
