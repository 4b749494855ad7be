"""Pull-through cache rules made through the API.

A prefix is compared without the slash that it may end with. Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update

from pullthrough.storage.catalog.templates import is_under
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.limits import refuse_another
from pullthrough.storage.sql.schema import absent_names, cache_rules, listings, negatives

#: A registry has at most so many.
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_CACHE_RULES = 50


@dataclass(frozen=True, slots=True)
class CacheRule:
    """A pull-through cache rule made through the API. What was not given is None."""

    #: Without a slash at its end, or ROOT.
    prefix: str
    #: As it was given; `https://` may stand before the host.
    upstream_registry_url: str
    created_at: float
    updated_at: float
    #: AWS's name for the kind of upstream; None for one that AWS does not know.
    upstream_registry: str | None = None
    upstream_repository_prefix: str | None = None
    credential_arn: str | None = None
    custom_role_arn: str | None = None


class CacheRules:
    """Safe to use from many threads and processes; not across a fork. A method is one transaction, and may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[CacheRule]:
        """All of them, by prefix."""
        with self._database.reading() as connection:
            rows = connection.execute(select(cache_rules).order_by(cache_rules.c.prefix)).mappings().all()
        return [CacheRule(**row) for row in rows]

    def create(self, rule: CacheRule, *, others: int = 0) -> None:
        """`others` rules, written elsewhere, count too. Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            refuse_another(connection, cache_rules, rule.prefix, MAX_CACHE_RULES - others, "pull through cache rules")
            connection.execute(insert(cache_rules).values(**asdict(rule)))
            _forget_answers(connection, rule.prefix)

        self._database.write(change)

    def update(
        self, prefix: str, *, credential_arn: str | None, custom_role_arn: str | None, now: float
    ) -> CacheRule | None:
        """None leaves what is there. None where there is no such rule; nothing is written where nothing is given."""

        def change(connection: Connection) -> CacheRule | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            rule = _find(connection, prefix)
            if rule is None or (credential_arn is None and custom_role_arn is None):
                return rule
            rule = replace(
                rule,
                credential_arn=credential_arn or rule.credential_arn,
                custom_role_arn=custom_role_arn or rule.custom_role_arn,
                updated_at=now,
            )
            connection.execute(update(cache_rules).where(cache_rules.c.prefix == prefix).values(**asdict(rule)))
            _forget_answers(connection, prefix)
            return rule

        return self._database.write(change)

    def delete(self, prefix: str) -> CacheRule | None:
        """What was deleted. The repositories under it stay as they are. None where there is no such rule."""

        def change(connection: Connection) -> CacheRule | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            rule = _find(connection, prefix)
            if rule is not None:
                connection.execute(delete(cache_rules).where(cache_rules.c.prefix == prefix))
                _forget_answers(connection, prefix)
            return rule

        return self._database.write(change)


def _find(connection: Connection, prefix: str) -> CacheRule | None:
    row = connection.execute(select(cache_rules).where(cache_rules.c.prefix == prefix)).mappings().first()
    return None if row is None else CacheRule(**row)


def _forget_answers(connection: Connection, prefix: str) -> None:
    """What upstreams said of names under this prefix was said to another rule: "not found" need not be true now."""
    for table in (negatives, listings):
        connection.execute(delete(table).where(is_under(table.c.repository, prefix)))
    connection.execute(delete(absent_names))
