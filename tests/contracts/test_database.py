"""What every database under the catalog promises: transactions, upserts, errors explained, changes told."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import OperationalError

from pullthrough.errors import LimitReached, StorageError
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.sql.database import MAX_ATTEMPTS, Database, Topic, note_change, upsert
from pullthrough.storage.sql.schema import registry_documents


class Kind(Protocol):
    """A kind of database, for these tests."""

    def open(self, generation: Changes | None = None, configuration: Changes | None = None) -> Database:
        """The same catalog each time, as another process has it."""
        ...

    def conflict(self) -> Exception:
        """What a transaction fails with that has to give way to another one."""
        ...

    def close(self) -> None: ...


class OnSqlite:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "catalog.sqlite"
        self._opened: list[Database] = []

    def open(self, generation: Changes | None = None, configuration: Changes | None = None) -> Database:
        self._opened.append(Database.open(self._path, generation, configuration))
        return self._opened[-1]

    def conflict(self) -> Exception:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY_SNAPSHOT
        return OperationalError("UPDATE", {}, error)

    def close(self) -> None:
        for database in self._opened:
            database.close()


class Told:
    """Counts what it is told, and looks at the catalog then."""

    def __init__(self, look: Callable[[], object] = lambda: None) -> None:
        self.times = 0
        self.seen: object = None
        self._look = look

    def read(self) -> bytes:
        return self.times.to_bytes(8)

    def bump(self) -> None:
        self.times += 1
        self.seen = self._look()


@pytest.fixture(params=[OnSqlite])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    kind: Kind = request.param(tmp_path)
    yield kind
    kind.close()


@pytest.fixture
def database(kind: Kind) -> Database:
    return kind.open()


def put(connection: Connection, name: str, body: str = "", at: float = 1.0) -> None:
    connection.execute(insert(registry_documents).values(name=name, body=body, updated_at=at))


def names(database: Database) -> list[str]:
    with database.reading() as connection:
        return names_in(connection)


def names_in(connection: Connection) -> list[str]:
    return list(connection.execute(select(registry_documents.c.name).order_by("name")).scalars())


# Transactions


def test_what_a_write_did_everybody_sees_after_it(kind: Kind) -> None:
    one, other = kind.open(), kind.open()

    def write(connection: Connection, name: str, *, body: str) -> str:
        put(connection, name, body)
        assert names(other) == []
        return "done"

    assert one.write(write, "a", body="{}") == "done"
    assert names(other) == ["a"]


def test_a_write_that_raises_leaves_nothing(database: Database) -> None:
    def write(connection: Connection) -> None:
        put(connection, "a")
        raise LimitReached("too many")

    with pytest.raises(LimitReached, match="too many"):
        database.write(write)
    assert names(database) == []


def test_a_write_that_has_to_give_way_is_run_again_from_the_start(kind: Kind) -> None:
    database = kind.open()
    found: list[list[str]] = []

    def write(connection: Connection) -> int:
        found.append(names_in(connection))
        put(connection, "a")
        if len(found) < 3:
            raise kind.conflict()
        return len(found)

    assert database.write(write) == 3
    assert found == [[], [], []]
    assert names(database) == ["a"]


def test_a_write_gives_up_in_the_end(kind: Kind) -> None:
    database = kind.open()
    attempts: list[None] = []

    def write(_connection: Connection) -> None:
        attempts.append(None)
        raise kind.conflict()

    with pytest.raises(StorageError):
        database.write(write)
    assert len(attempts) == MAX_ATTEMPTS


def test_a_write_that_fails_otherwise_is_not_run_again(database: Database) -> None:
    attempts: list[None] = []

    def write(connection: Connection) -> None:
        attempts.append(None)
        connection.execute(text("SELECT * FROM nowhere"))

    with pytest.raises(StorageError, match="nowhere"):
        database.write(write)
    assert len(attempts) == 1


def test_an_error_of_reading_is_explained(database: Database) -> None:
    with pytest.raises(StorageError, match="nowhere"), database.reading() as connection:
        connection.execute(text("SELECT * FROM nowhere"))


def test_a_reader_sees_one_state_and_keeps_no_writer_waiting(kind: Kind) -> None:
    one, other = kind.open(), kind.open()
    with one.reading() as connection:
        assert names_in(connection) == []
        other.write(put, "a")
        assert names_in(connection) == []
    assert names(one) == ["a"]


def test_writes_at_once_lose_nothing(kind: Kind) -> None:
    databases = [kind.open(), kind.open()]
    databases[0].write(put, "counter", "0")

    def increment(connection: Connection) -> None:
        count = connection.execute(select(registry_documents.c.body)).scalar_one()
        connection.execute(update(registry_documents).values(body=str(int(count) + 1)))

    def work(database: Database) -> None:
        for _ in range(10):
            database.write(increment)

    threads = [threading.Thread(target=work, args=(database,)) for database in databases * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with databases[0].reading() as connection:
        assert connection.execute(select(registry_documents.c.body)).scalar_one() == "40"


# Upserts


def test_an_upsert_inserts_or_sets_the_named_columns(database: Database) -> None:
    database.write(put, "b", "old", 1.0)
    rows = [{"name": name, "body": "new", "updated_at": 2.0} for name in ("a", "b")]
    database.write(upsert, registry_documents, rows, key=["name"], update=["body"])
    with database.reading() as connection:
        found = connection.execute(select(registry_documents).order_by(registry_documents.c.name)).all()
    assert [(row.name, row.body, row.updated_at) for row in found] == [("a", "new", 2.0), ("b", "new", 1.0)]


def test_an_upsert_that_sets_nothing_leaves_what_is_there(database: Database) -> None:
    database.write(put, "b", "old", 1.0)
    rows = [{"name": name, "body": "new", "updated_at": 2.0} for name in ("a", "b")]
    database.write(upsert, registry_documents, rows, key=["name"], update=[])
    with database.reading() as connection:
        found = connection.execute(select(registry_documents).order_by(registry_documents.c.name)).all()
    assert [(row.name, row.body) for row in found] == [("a", "new"), ("b", "old")]


def test_an_upsert_of_no_rows_does_nothing(database: Database) -> None:
    database.write(upsert, registry_documents, [], key=["name"], update=["body"])
    assert names(database) == []


# The whole


def test_an_empty_catalog_takes_next_to_nothing_and_a_large_row_what_it_has(database: Database) -> None:
    with database.reading() as connection:
        assert database.content_bytes(connection) < 20_000
    database.write(put, "a", "x" * 1_000_000)
    with database.reading() as connection:
        assert database.content_bytes(connection) >= 950_000


def test_a_sound_catalog_has_no_damage(database: Database) -> None:
    database.write(put, "a")
    assert database.find_damage() == []


def test_what_is_there_stays_when_it_is_opened_again(kind: Kind) -> None:
    kind.open().write(put, "a")
    assert names(kind.open()) == ["a"]


# Changes


def test_changes_that_were_noted_are_told_after_the_commit(kind: Kind) -> None:
    reader = kind.open()
    answers, configuration = Told(lambda: names(reader)), Told(lambda: names(reader))
    database = kind.open(answers, configuration)
    made = answers.times

    def write(connection: Connection, name: str, *topics: Topic) -> None:
        note_change(connection, *topics)
        put(connection, name)

    database.write(write, "a")
    assert (answers.times - made, configuration.times) == (0, 0)
    database.write(write, "b", Topic.ANSWERS)
    assert (answers.times - made, configuration.times) == (1, 0)
    assert answers.seen == ["a", "b"]
    database.write(write, "c", Topic.CONFIGURATION)
    assert (answers.times - made, configuration.times) == (1, 1)
    assert configuration.seen == ["a", "b", "c"]


def test_configuration_is_told_of_before_the_answers_that_follow_from_it(kind: Kind) -> None:
    order: list[str] = []
    answers, configuration = Told(lambda: order.append("answers")), Told(lambda: order.append("configuration"))
    database = kind.open(answers, configuration)
    order.clear()
    database.write(note_change, Topic.ANSWERS, Topic.CONFIGURATION)
    assert order == ["configuration", "answers"]


def test_changes_are_told_where_nobody_knows_whether_they_were_made(kind: Kind) -> None:
    answers = Told()
    database = kind.open(answers)
    before = answers.times

    def write(connection: Connection) -> None:
        note_change(connection, Topic.ANSWERS)
        raise LimitReached("lost")

    with pytest.raises(LimitReached):
        database.write(write)
    assert answers.times == before + 1


def test_a_commit_tells_of_it_where_nobody_listens(database: Database) -> None:
    database.write(note_change, *Topic)
