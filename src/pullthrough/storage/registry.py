"""What is set up for the registry as a whole: rules, creation templates, its own documents, pull-time exclusions.

Kept as the ECR API speaks them. A prefix is compared without the slash that it may end with. Every method is one
transaction and may raise StorageError; times are seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.storage.catalog.templates import CreationTemplate, is_under, read_template
from pullthrough.storage.database import Database, Topic, note_change, upsert
from pullthrough.storage.schema import (
    absent_names,
    cache_rules,
    creation_templates,
    listings,
    negatives,
    pull_time_exclusions,
    registry_documents,
)

#: A registry has at most so many of each.
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_CACHE_RULES = 50
#: Not documented by AWS.
MAX_TEMPLATES = 1_000
#: The ECR API's PullTimeUpdateExclusionList.
MAX_EXCLUSIONS = 100


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


class Registry:
    """Safe to use from many threads and processes; not across a fork."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Pull-through cache rules

    def cache_rules(self) -> list[CacheRule]:
        """All of them, by prefix."""
        with self._database.reading() as connection:
            rows = connection.execute(select(cache_rules).order_by(cache_rules.c.prefix)).mappings().all()
        return [CacheRule(**row) for row in rows]

    def create_cache_rule(self, rule: CacheRule, *, others: int = 0) -> None:
        """`others` rules, written elsewhere, count too. Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            _refuse_another(connection, cache_rules, rule.prefix, MAX_CACHE_RULES - others, "pull through cache rules")
            connection.execute(insert(cache_rules).values(**asdict(rule)))
            _forget_answers(connection, rule.prefix)

        self._database.write(change)

    def update_cache_rule(
        self, prefix: str, *, credential_arn: str | None, custom_role_arn: str | None, now: float
    ) -> CacheRule | None:
        """None leaves what is there. None where there is no such rule; nothing is written where nothing is given."""

        def change(connection: Connection) -> CacheRule | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            rule = _find_cache_rule(connection, prefix)
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

    def delete_cache_rule(self, prefix: str) -> CacheRule | None:
        """What was deleted. The repositories under it stay as they are. None where there is no such rule."""

        def change(connection: Connection) -> CacheRule | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            rule = _find_cache_rule(connection, prefix)
            if rule is not None:
                connection.execute(delete(cache_rules).where(cache_rules.c.prefix == prefix))
                _forget_answers(connection, prefix)
            return rule

        return self._database.write(change)

    # Repository creation templates

    def templates(self) -> list[CreationTemplate]:
        """All of them, by prefix."""
        with self._database.reading() as connection:
            rows = connection.execute(select(creation_templates).order_by(creation_templates.c.prefix)).all()
        return [read_template(row) for row in rows]

    def create_template(self, template: CreationTemplate) -> None:
        """Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            _refuse_another(connection, creation_templates, template.prefix, MAX_TEMPLATES, "creation templates")
            values = asdict(template) | {"body": json.dumps(template.body)}
            connection.execute(insert(creation_templates).values(**values))

        self._database.write(change)

    def update_template(
        self, prefix: str, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], now: float
    ) -> CreationTemplate | None:
        """`change` makes the new body of the old one, and what it raises leaves that. None if there is no such one."""
        is_template = creation_templates.c.prefix == prefix

        def write(connection: Connection) -> CreationTemplate | None:
            row = connection.execute(select(creation_templates).where(is_template)).first()
            if row is None:
                return None
            before = read_template(row)
            body = change(before.body)
            connection.execute(
                update(creation_templates).where(is_template).values(body=json.dumps(body), updated_at=now)
            )
            return replace(before, body=body, updated_at=now)

        return self._database.write(write)

    def delete_template(self, prefix: str) -> CreationTemplate | None:
        """What was deleted; None where there is no such template."""
        is_template = creation_templates.c.prefix == prefix

        def change(connection: Connection) -> CreationTemplate | None:
            row = connection.execute(select(creation_templates).where(is_template)).first()
            connection.execute(delete(creation_templates).where(is_template))
            return None if row is None else read_template(row)

        return self._database.write(change)

    # The registry's own documents

    def documents(self) -> dict[str, str]:
        """All of them by name: policy, scanning, replication, signing, and each account setting."""
        with self._database.reading() as connection:
            rows = connection.execute(select(registry_documents.c.name, registry_documents.c.body)).all()
        return {row.name: row.body for row in rows}

    def document(self, name: str) -> str | None:
        with self._database.reading() as connection:
            return _document(connection, name)

    def put_document(self, name: str, body: str, now: float) -> None:
        row = {"name": name, "body": body, "updated_at": now}

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            upsert(connection, registry_documents, [row], key=["name"], update=["body", "updated_at"])

        self._database.write(change)

    def delete_document(self, name: str) -> str | None:
        """The body that was deleted; None where there was none."""

        def change(connection: Connection) -> str | None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            body = _document(connection, name)
            connection.execute(delete(registry_documents).where(registry_documents.c.name == name))
            return body

        return self._database.write(change)

    # Pull-time exclusions

    def exclusions(self) -> list[str]:
        """The ARNs of principals whose pulls do not count, sorted."""
        statement = select(pull_time_exclusions.c.principal_arn).order_by(pull_time_exclusions.c.principal_arn)
        with self._database.reading() as connection:
            return list(connection.execute(statement).scalars())

    def add_exclusion(self, principal_arn: str, now: float) -> None:
        """Raises AlreadyExists or LimitReached."""

        def change(connection: Connection) -> None:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            _refuse_another(
                connection, pull_time_exclusions, principal_arn, MAX_EXCLUSIONS, "pull time update exclusions"
            )
            connection.execute(insert(pull_time_exclusions).values(principal_arn=principal_arn, created_at=now))

        self._database.write(change)

    def remove_exclusion(self, principal_arn: str) -> bool:
        """False where there was none."""

        def change(connection: Connection) -> bool:
            note_change(connection, Topic.ANSWERS, Topic.CONFIGURATION)
            removed = connection.execute(
                delete(pull_time_exclusions).where(pull_time_exclusions.c.principal_arn == principal_arn)
            )
            return removed.rowcount > 0

        return self._database.write(change)


def _refuse_another(connection: Connection, table: Table, key: str, most: int, what: str) -> None:
    column = next(iter(table.primary_key))
    if connection.execute(select(column).where(column == key)).first() is not None:
        raise AlreadyExists(f"{key} is there already")
    if connection.execute(select(func.count()).select_from(table)).scalar_one() >= most:
        raise LimitReached(f"there may be no more than {most} {what}")


def _find_cache_rule(connection: Connection, prefix: str) -> CacheRule | None:
    row = connection.execute(select(cache_rules).where(cache_rules.c.prefix == prefix)).mappings().first()
    return None if row is None else CacheRule(**row)


def _document(connection: Connection, name: str) -> str | None:
    body: str | None = connection.execute(
        select(registry_documents.c.body).where(registry_documents.c.name == name)
    ).scalar()
    return body


def _forget_answers(connection: Connection, prefix: str) -> None:
    """What upstreams said of names under this prefix was said to another rule: "not found" need not be true now."""
    for table in (negatives, listings):
        connection.execute(delete(table).where(is_under(table.c.repository, prefix)))
    connection.execute(delete(absent_names))
