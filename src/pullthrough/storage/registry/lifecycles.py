"""Lifecycle policies of repositories, when they were last evaluated, and the previews of what they would do.

A method is one transaction, and raises RepositoryUnknown where there is no such repository; times are seconds since the
epoch.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from pullthrough.errors import RepositoryUnknown
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.sql.database import Database, upsert
from pullthrough.storage.sql.parts import in_parts
from pullthrough.storage.sql.schema import lifecycle_preview_images, lifecycle_previews, repositories

#: The API's LifecyclePolicyPreviewStatus.
IN_PROGRESS = "IN_PROGRESS"
COMPLETE = "COMPLETE"
FAILED = "FAILED"
_results = lifecycle_preview_images


@dataclass(frozen=True, slots=True)
class LifecyclePolicyRecord:
    """`text` and `evaluated_at` are None where there is no policy, and where it was not evaluated yet."""

    text: str | None
    evaluated_at: float | None


@dataclass(frozen=True, slots=True)
class PreviewResult:
    """What a policy would do to an image. `action` is EXPIRE or TRANSITION, by the rule of `priority`."""

    digest: str
    tags: tuple[str, ...]
    pushed_at: float
    action: str
    priority: int
    #: Whether the image is in the archive now.
    archived: bool


@dataclass(frozen=True, slots=True)
class Preview:
    policy: str
    status: str
    #: How many images would expire, and be archived.
    expiring: int
    transitioning: int


class Lifecycles:
    """Safe to use from many threads and processes; not across a fork. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def policy(self, repository: RepositoryName) -> LifecyclePolicyRecord:
        with self._database.reading() as connection:
            return _policy(connection, repository)[1]

    def set_policy(self, repository: RepositoryName, text: str | None) -> LifecyclePolicyRecord:
        """What there was before. None takes it away; another text has not been evaluated yet."""

        def change(connection: Connection) -> LifecyclePolicyRecord:
            repository_id, before = _policy(connection, repository)
            values: dict[str, object] = {"lifecycle_policy": text, "kept": True}
            if text != before.text:
                values["lifecycle_evaluated_at"] = None
            connection.execute(update(repositories).where(repositories.c.id == repository_id).values(values))
            return before

        return self._database.write(change)

    def due(self, before: float) -> list[tuple[RepositoryName, str]]:
        """The policies that were not evaluated since then, with their repositories' names."""
        never = repositories.c.lifecycle_evaluated_at.is_(None)
        statement = (
            select(repositories.c.name, repositories.c.lifecycle_policy)
            .where(
                repositories.c.lifecycle_policy.is_not(None),
                or_(never, repositories.c.lifecycle_evaluated_at <= before),
            )
            .order_by(repositories.c.name)
        )
        with self._database.reading() as connection:
            return [(RepositoryName(row[0]), row[1]) for row in connection.execute(statement)]

    def note_evaluated(self, repository: RepositoryName, now: float) -> None:
        def change(connection: Connection) -> None:
            connection.execute(
                update(repositories).where(repositories.c.name == repository).values(lifecycle_evaluated_at=now)
            )

        self._database.write(change)

    # Previews

    def begin_preview(self, repository: RepositoryName, policy: str) -> None:
        """The last preview is forgotten."""

        def change(connection: Connection) -> None:
            repository_id, _ = _policy(connection, repository)
            _write_preview(connection, repository_id, Preview(policy, IN_PROGRESS, 0, 0))

        self._database.write(change)

    def end_preview(self, repository: RepositoryName, preview: Preview, results: Collection[PreviewResult]) -> None:
        def change(connection: Connection) -> None:
            repository_id, _ = _policy(connection, repository)
            _write_preview(connection, repository_id, preview)
            for part in in_parts(results):
                connection.execute(
                    insert(_results),
                    [
                        {
                            "repository_id": repository_id,
                            "digest": result.digest,
                            "tags": json.dumps(result.tags),
                            "pushed_at": result.pushed_at,
                            "action": result.action,
                            "priority": result.priority,
                            "archived": result.archived,
                        }
                        for result in part
                    ],
                )

        self._database.write(change)

    def preview(self, repository: RepositoryName) -> Preview | None:
        """The last one; None where none was begun."""
        statement = select(
            lifecycle_previews.c.policy,
            lifecycle_previews.c.status,
            lifecycle_previews.c.expiring,
            lifecycle_previews.c.transitioning,
        )
        with self._database.reading() as connection:
            repository_id, _ = _policy(connection, repository)
            row = connection.execute(statement.where(lifecycle_previews.c.repository_id == repository_id)).first()
        return None if row is None else Preview(*row)

    def preview_page(
        self,
        repository: RepositoryName,
        *,
        tagged: bool | None,
        after: str,
        limit: int,
        digests: Collection[str] | None = None,
    ) -> list[PreviewResult]:
        """Up to `limit` images of the last preview whose digest is greater than `after`, by digest.

        `tagged` and `digests` say which ones; None for all.
        """
        untagged = _results.c.tags == "[]"
        wanted = [] if tagged is None else [~untagged if tagged else untagged]
        if digests is not None:
            wanted.append(_results.c.digest.in_(digests))
        with self._database.reading() as connection:
            repository_id, _ = _policy(connection, repository)
            rows = connection.execute(
                select(_results)
                .where(_results.c.repository_id == repository_id, _results.c.digest > after, *wanted)
                .order_by(_results.c.digest)
                .limit(limit)
            )
            return [
                PreviewResult(
                    row.digest, tuple(json.loads(row.tags)), row.pushed_at, row.action, row.priority, row.archived
                )
                for row in rows
            ]


def _policy(connection: Connection, repository: RepositoryName) -> tuple[int, LifecyclePolicyRecord]:
    row = connection.execute(
        select(repositories.c.id, repositories.c.lifecycle_policy, repositories.c.lifecycle_evaluated_at).where(
            repositories.c.name == repository
        )
    ).first()
    if row is None:
        raise RepositoryUnknown(f"there is no repository {repository}")
    return row.id, LifecyclePolicyRecord(row.lifecycle_policy, row.lifecycle_evaluated_at)


def _write_preview(connection: Connection, repository_id: int, preview: Preview) -> None:
    connection.execute(delete(_results).where(_results.c.repository_id == repository_id))
    row = {
        "repository_id": repository_id,
        "policy": preview.policy,
        "status": preview.status,
        "expiring": preview.expiring,
        "transitioning": preview.transitioning,
    }
    upsert(
        connection,
        lifecycle_previews,
        [row],
        key=["repository_id"],
        update=["policy", "status", "expiring", "transitioning"],
    )
