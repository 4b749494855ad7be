"""The principals whose pulls leave an image's pull time as it is."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.limits import refuse_another
from pullthrough.storage.sql.schema import pull_time_exclusions

#: The ECR API's PullTimeUpdateExclusionList.
MAX_EXCLUSIONS = 100


class PullTimeExclusions:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[str]:
        """The ARNs of principals whose pulls do not count, sorted."""
        statement = select(pull_time_exclusions.c.principal_arn).order_by(pull_time_exclusions.c.principal_arn)
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def add(self, principal_arn: str, now: float) -> None:
        """Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            refuse_another(
                connection, pull_time_exclusions, principal_arn, MAX_EXCLUSIONS, "pull time update exclusions"
            )
            connection.execute(insert(pull_time_exclusions).values(principal_arn=principal_arn, created_at=now))

        self._database.write(change)

    def remove(self, principal_arn: str) -> bool:
        """False where there was none."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            removed = connection.execute(
                delete(pull_time_exclusions).where(pull_time_exclusions.c.principal_arn == principal_arn)
            )
            return removed.rowcount > 0

        return self._database.write(change)
