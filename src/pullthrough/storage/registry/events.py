"""What happened, as EventBridge would tell it: kept in the catalog, the newest only, until somebody asks or is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.schema import events


@dataclass(frozen=True, slots=True)
class EventRecord:
    """`body` is the event's JSON; `at` is in seconds since the epoch."""

    event_id: int
    at: float
    body: str
    #: How often the webhook was tried in vain.
    attempts: int


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a batch. `dropped` were never delivered: there are too many of them."""

    dropped: int


class EventLog:
    """Safe to use from many threads and processes. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, batch: Sequence[tuple[float, str]], *, keep: int, deliver: bool) -> Kept:
        """Append events (time, body), in their order, and forget all but the newest `keep`.

        With `deliver` they wait for the webhook, which is tried at once.
        """
        rows = [{"at": at, "body": body, "attempts": 0, "due_at": at if deliver else None} for at, body in batch]

        # No answer to a client depends on an event.
        def change(connection: Connection) -> Kept:
            connection.execute(insert(events), rows)
            newest = connection.execute(select(func.max(events.c.id))).scalar_one()
            old = events.c.id <= newest - keep
            waiting = select(func.count()).select_from(events).where(old, events.c.due_at.is_not(None))
            dropped = int(connection.execute(waiting).scalar_one())
            connection.execute(delete(events).where(old))
            return Kept(dropped)

        return self._database.write(change)

    def newest(self, limit: int) -> list[EventRecord]:
        """The newest first."""
        statement = select(events.c.id, events.c.at, events.c.body, events.c.attempts).order_by(events.c.id.desc())
        with self._database.reading() as connection:
            return [EventRecord(*row) for row in connection.execute(statement.limit(limit))]

    def next_due(self) -> tuple[EventRecord, float] | None:
        """The oldest event that waits for the webhook, and when it is due; None where none waits."""
        statement = (
            select(events.c.id, events.c.at, events.c.body, events.c.attempts, events.c.due_at)
            .where(events.c.due_at.is_not(None))
            .order_by(events.c.id)
            .limit(1)
        )
        with self._database.reading() as connection:
            row = connection.execute(statement).first()
        return None if row is None else (EventRecord(*row[:4]), row.due_at)

    def settle(self, event_id: int) -> None:
        """It was delivered, or never will be."""

        def change(connection: Connection) -> None:
            connection.execute(update(events).where(events.c.id == event_id).values(due_at=None))

        self._database.write(change)

    def postpone(self, event_id: int, until: float) -> None:
        def change(connection: Connection) -> None:
            connection.execute(
                update(events).where(events.c.id == event_id).values(due_at=until, attempts=events.c.attempts + 1)
            )

        self._database.write(change)
