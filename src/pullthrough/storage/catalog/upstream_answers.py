"""What upstreams said last: lists, and what they do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, insert, select

from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner, Source
from pullthrough.storage.catalog.records import ListingRecord
from pullthrough.storage.catalog.usage import Usage
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.schema import absent_names, listings, negatives

#: Clients choose what is asked for, so that what is remembered of it has an end; the oldest goes first.
MAX_NEGATIVES = 100_000
MAX_ABSENT_NAMES = 100_000
MAX_LISTINGS = 10_000
_IS_LISTING = and_(
    listings.c.repository == bindparam("repository"),
    listings.c.owner == bindparam("owner"),
    listings.c.kind == bindparam("kind"),
)
_FIND_LISTING = select(listings.c.body, listings.c.validated_at).where(_IS_LISTING)
_FIND_LISTING_TIME = select(listings.c.validated_at).where(_IS_LISTING)
_FIND_NEGATIVE = select(negatives.c.until).where(
    negatives.c.repository == bindparam("repository"),
    negatives.c.owner == bindparam("owner"),
    negatives.c.reference == bindparam("reference"),
    negatives.c.until > bindparam("now"),
)
_FIND_ABSENT_NAME = select(absent_names.c.seen_at).where(
    absent_names.c.source == bindparam("source"), absent_names.c.name == bindparam("name")
)


class UpstreamAnswers:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError.

    No worker keeps these in memory, so that nobody is told of a change.
    """

    def __init__(self, database: Database, usage: Usage, clock: Callable[[], float]) -> None:
        self._database = database
        self._usage = usage
        self._clock = clock

    def find_listing(self, repository: RepositoryName, owner: Owner, kind: str) -> ListingRecord | None:
        """`kind` is `tags` or `referrers:<digest>`."""
        with self._database.reading() as connection:
            row = connection.execute(_FIND_LISTING, {"repository": repository, "owner": owner, "kind": kind}).first()
        return None if row is None else ListingRecord(row.body, row.validated_at)

    def find_listing_time(self, repository: RepositoryName, owner: Owner, kind: str) -> float | None:
        """When the list was last read from the upstream; None where there is none."""
        names = {"repository": repository, "owner": owner, "kind": kind}
        with self._database.reading() as connection:
            validated_at: float | None = connection.execute(_FIND_LISTING_TIME, names).scalar()
        return validated_at

    def save_listing(self, repository: RepositoryName, owner: Owner, kind: str, body: bytes, *, now: float) -> None:
        """Raises NotKept where the catalog is full."""
        key = {"repository": repository, "owner": owner, "kind": kind}
        with self._database.reading() as connection:
            self._usage.refuse_if_full(connection, len(body))
        self._remember(listings, key, {"validated_at": now, "body": body}, MAX_LISTINGS)

    def find_negative(self, repository: RepositoryName, owner: Owner, reference: str) -> float | None:
        """Until when the upstream's 404 for this tag or digest holds; None where there is none that still does."""
        with self._database.reading() as connection:
            until: float | None = connection.execute(
                _FIND_NEGATIVE,
                {"repository": repository, "owner": owner, "reference": reference, "now": self._clock()},
            ).scalar()
        return until

    def save_negative(self, repository: RepositoryName, owner: Owner, reference: str, until: float) -> None:
        key = {"repository": repository, "owner": owner, "reference": reference}
        self._remember(negatives, key, {"until": until}, MAX_NEGATIVES)

    def find_absent_name(self, source: Source, name: str) -> float | None:
        """When the upstream last told this account that it has no repository of this name; None if it did not."""
        with self._database.reading() as connection:
            seen_at: float | None = connection.execute(_FIND_ABSENT_NAME, {"source": source, "name": name}).scalar()
        return seen_at

    def save_absent_name(self, source: Source, name: str, now: float) -> None:
        self._remember(absent_names, {"source": source, "name": name}, {"seen_at": now}, MAX_ABSENT_NAMES)

    def _remember(self, table: Table, key: dict[str, str], values: dict[str, Any], most: int) -> None:
        def change(connection: Connection) -> None:
            connection.execute(delete(table).where(*(table.c[column] == value for column, value in key.items())))
            if table is negatives:
                connection.execute(delete(negatives).where(negatives.c.until <= self._clock()))
            written = connection.execute(insert(table).values(**key, **values)).inserted_primary_key
            assert written is not None  # a single row was inserted
            connection.execute(delete(table).where(table.c.id <= written[0] - most))

        self._database.write(change)
