"""The catalog's connections: opening, bringing the schema up to date, reading and writing transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select

from pullthrough.errors import CatalogBroken, FolderNewer
from pullthrough.storage.generation import Generation
from pullthrough.storage.schema import REVISIONS, metadata
from pullthrough.storage.sqlite import explained, open_engine, writer_of

#: Alembic's own table, as it makes it.
_VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
#: Set on a connection by `note_configuration`; gone with it.
_CHANGES_CONFIGURATION = "pullthrough_changes_configuration"


class Database:
    """A catalog file at this version's schema. Safe to use from many threads; not across a fork."""

    def __init__(
        self, path: Path, engine: Engine, generation: Generation | None, configuration: Generation | None
    ) -> None:
        self._path = path
        self._engine = engine
        self._writer = writer_of(engine)
        self._generation = generation
        self._configuration = configuration

    @classmethod
    def open(
        cls, path: Path, generation: Generation | None = None, configuration: Generation | None = None
    ) -> Database:
        """Make the schema where there is none, or bring it up to date.

        `generation` tells all workers of commits that change answers, `configuration` of those that change rules,
        keys, policies or tags of repositories.

        Raises FolderNewer where a later version of this program wrote it, CatalogBroken where it cannot be read as a
        catalog, FolderNotWritable, DiskFull.
        """
        engine = open_engine(path)
        database = cls(path, engine, generation, configuration)
        try:
            with database.reading() as connection:
                revision = _revision(connection, path)
            if revision != REVISIONS[-1]:
                with database.writing() as connection:
                    # Somebody else may have done it while this process waited for its turn.
                    revision = _revision(connection, path)
                    if revision is None:
                        _make(connection)
                    elif revision != REVISIONS[-1]:
                        # Alembic takes a fifth of a second and 10 MB, and hardly any start needs it.
                        from pullthrough.storage.migrations import upgrade

                        upgrade(connection)
        except BaseException:
            engine.dispose()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One consistent view, however many statements; never waits for a writer."""
        with explained(self._path), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, changes_answers: bool = True, changes_configuration: bool = False) -> Iterator[Connection]:
        """One transaction, the only one that writes; committed at the end of the block, rolled back by an error.

        Every worker learns of it, unless it says that no answer to a client depends on it; and reads its rules, keys,
        policies and tags anew where it says that they change.
        """
        try:
            with explained(self._path), self._writer.begin() as connection:
                try:
                    yield connection
                finally:
                    changes_configuration |= connection.get_execution_options().get(_CHANGES_CONFIGURATION, False)
        finally:
            # After the commit; after a failure too, because one may fail after the deed.
            if changes_configuration and self._configuration is not None:
                self._configuration.bump()
            if changes_answers and self._generation is not None:
                self._generation.bump()

    def close(self) -> None:
        self._engine.dispose()


def note_configuration(connection: Connection) -> None:
    """To be called within `writing`: what workers keep of rules and policies changes, which was not known before."""
    connection.execution_options(**{_CHANGES_CONFIGURATION: True})


def _make(connection: Connection) -> None:
    """A new catalog, as all migrations together would make it (a test compares the two)."""
    metadata.create_all(connection)
    _VERSION.create(connection)
    connection.execute(insert(_VERSION).values(version_num=REVISIONS[-1]))


def _revision(connection: Connection, path: Path) -> str | None:
    """The schema's revision, one that this version knows; None where there is no schema yet."""
    names = inspect(connection).get_table_names()
    if _VERSION.name not in names:
        if names:
            raise CatalogBroken(
                f"{path} is a database, but not a catalog of pullthrough",
                hint="Give another folder with --data, or move the file away.",
            )
        return None
    revision: str | None = connection.execute(select(_VERSION.c.version_num)).scalar()
    if revision not in REVISIONS:
        raise FolderNewer(
            f"{path} was written by a newer version of pullthrough (its schema is {revision}, "
            f"this version knows up to {REVISIONS[-1]})",
            hint="Use that version, or another data folder. Nothing was changed.",
        )
    return revision
