"""The rows of a secret: found, changed and removed within somebody else's transaction (secrets.py)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from pullthrough.errors import LimitReached, RequestError, SecretNotUsable, SecretUnknown
from pullthrough.storage.sql.database import upsert
from pullthrough.storage.sql.resource_tags import is_resource, write_tags
from pullthrough.storage.sql.schema import resource_tags, secret_stages, secret_versions, secrets

CURRENT = "AWSCURRENT"
PREVIOUS = "AWSPREVIOUS"
#: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html
MAX_VERSIONS = 100
MAX_STAGES = 20
MAX_TAGS = 50

#: Of an ARN, after a hyphen.
SUFFIX_LENGTH = 6
#: What tools look for.
MARKED = "You can't perform this operation on the secret because it was marked for deletion."


@dataclass(frozen=True, slots=True)
class Value:
    """What a secret holds: a text in UTF-8, or bytes."""

    content: bytes = field(repr=False)
    is_binary: bool


@dataclass(frozen=True, slots=True)
class VersionRecord:
    version_id: str
    created_at: float
    #: The beginning of the day, UTC.
    accessed_at: float | None
    #: Sorted. Without any it is deprecated.
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """All but the values. What was not given is None."""

    name: str
    arn: str
    description: str | None
    kms_key_id: str | None
    policy: str | None
    created_at: float
    changed_at: float
    accessed_at: float | None
    deleted_at: float | None
    delete_due_at: float | None
    #: The oldest first.
    versions: tuple[VersionRecord, ...]
    tags: Mapping[str, str]


def find(connection: Connection, secret_id: str, now: float) -> Any:
    """The secret's row. Raises SecretUnknown."""
    if secret_id.startswith("arn:"):
        row = connection.execute(select(secrets).where(secrets.c.arn == secret_id)).first()
        if row is None:
            name = secret_id.partition(":secret:")[2]
            row = connection.execute(select(secrets).where(secrets.c.name == name)).first()
            if row is not None and row.arn[: -SUFFIX_LENGTH - 1] != secret_id:
                row = None
    else:
        row = connection.execute(select(secrets).where(secrets.c.name == secret_id)).first()
    if row is None or is_over(row, now):
        raise SecretUnknown("Secrets Manager can't find the specified secret.")
    return row


def is_over(row: Any, now: float) -> bool:
    """Whether it was marked for deletion, and its window has passed."""
    return row.delete_due_at is not None and row.delete_due_at <= now


def usable(connection: Connection, secret_id: str, now: float) -> Any:
    """The row of one that is not marked for deletion. Raises SecretUnknown, SecretNotUsable."""
    row = find(connection, secret_id, now)
    refuse_marked(row)
    return row


def refuse_marked(row: Any) -> None:
    if row.deleted_at is not None:
        raise SecretNotUsable(MARKED)


def version_row(connection: Connection, name: str, version_id: str) -> Any:
    is_version = (secret_versions.c.secret == name) & (secret_versions.c.version_id == version_id)
    return connection.execute(select(secret_versions).where(is_version)).first()


def find_version(connection: Connection, name: str, version_id: str, stage: str) -> tuple[VersionRecord, bool, bytes]:
    """With whether it is binary, and its sealed value."""
    if not version_id or stage:
        stage = stage or CURRENT
        attached = holder(connection, name, stage)
        if attached is None:
            raise SecretUnknown(f"Secrets Manager can't find the specified secret value for staging label: {stage}")
        if version_id and attached != version_id:
            raise SecretNotUsable("You provided a VersionStage that is not associated to the provided VersionId.")
        version_id = attached
    row = version_row(connection, name, version_id)
    if row is None:
        raise SecretUnknown(f"Secrets Manager can't find the specified secret value for VersionId: {version_id}")
    stages = stages_of(connection, name, version_id)
    return VersionRecord(version_id, row.created_at, row.accessed_at, stages), row.is_binary, row.sealed


def holder(connection: Connection, name: str, stage: str) -> str | None:
    """The id of the version with this stage."""
    is_stage = (secret_stages.c.secret == name) & (secret_stages.c.stage == stage)
    version_id: str | None = connection.execute(select(secret_stages.c.version_id).where(is_stage)).scalar()
    return version_id


def stages_of(connection: Connection, name: str, version_id: str) -> tuple[str, ...]:
    is_version = (secret_stages.c.secret == name) & (secret_stages.c.version_id == version_id)
    return tuple(
        connection.execute(select(secret_stages.c.stage).where(is_version).order_by(secret_stages.c.stage)).scalars()
    )


def attach(connection: Connection, name: str, stage: str, version_id: str) -> None:
    """Give a stage to this version, from whichever has it. AWSCURRENT leaves AWSPREVIOUS behind. Raises LimitReached."""
    before = holder(connection, name, stage)
    rows = [{"secret": name, "stage": stage, "version_id": version_id}]
    if stage == CURRENT and before is not None and before != version_id:
        rows.append({"secret": name, "stage": PREVIOUS, "version_id": before})
    upsert(connection, secret_stages, rows, key=["secret", "stage"], update=["version_id"])
    count = select(func.count()).select_from(secret_stages).where(secret_stages.c.secret == name)
    if connection.execute(count).scalar_one() > MAX_STAGES:
        raise LimitReached(f"The versions of a secret can have {MAX_STAGES} staging labels at most.")


def forget_old_versions(connection: Connection, name: str) -> None:
    """Keep the newest, and all that have a stage."""
    staged = select(secret_stages.c.version_id).where(secret_stages.c.secret == name)
    mine = secret_versions.c.secret == name
    count = connection.execute(select(func.count()).select_from(secret_versions).where(mine)).scalar_one()
    oldest = (
        select(secret_versions.c.version_id)
        .where(mine, secret_versions.c.version_id.not_in(staged))
        .order_by(secret_versions.c.created_at)
        .limit(max(0, count - MAX_VERSIONS))
    )
    connection.execute(delete(secret_versions).where(mine, secret_versions.c.version_id.in_(oldest)))


def touch(connection: Connection, name: str, now: float, **changes: Any) -> None:
    """Write what has changed of a secret, and that it has."""
    connection.execute(update(secrets).where(secrets.c.name == name).values(changed_at=now, **changes))


def purge(connection: Connection, now: float) -> None:
    """Remove those whose recovery window is over."""
    remove(connection, connection.execute(select(secrets.c.name).where(secrets.c.delete_due_at <= now)).scalars())


def remove(connection: Connection, names: Iterable[str]) -> None:
    for name in list(names):
        connection.execute(delete(resource_tags).where(is_resource(tag_resource(name))))
        connection.execute(delete(secrets).where(secrets.c.name == name))  # its versions and stages go with it


def tag_resource(name: str) -> str:
    return f"secret/{name}"


def put_tags(connection: Connection, name: str, tags: Mapping[str, str]) -> None:
    """Raises RequestError where there would be too many."""
    write_tags(connection, tag_resource(name), tags)
    count = select(func.count()).select_from(resource_tags).where(is_resource(tag_resource(name)))
    if connection.execute(count).scalar_one() > MAX_TAGS:
        raise RequestError(f"A secret can have {MAX_TAGS} tags at most.")


def records(connection: Connection, rows: Iterable[Any], *, only: str = "") -> list[SecretRecord]:
    """With their versions and tags, read for all secrets at once, or for `only` this one."""
    labels = select(secret_stages).order_by(secret_stages.c.stage)
    columns = [column for column in secret_versions.c if column is not secret_versions.c.sealed]
    all_versions = select(*columns).order_by(secret_versions.c.created_at, secret_versions.c.version_id)
    all_tags = select(resource_tags).order_by(resource_tags.c.key)
    if only:
        labels = labels.where(secret_stages.c.secret == only)
        all_versions = all_versions.where(secret_versions.c.secret == only)
        all_tags = all_tags.where(is_resource(tag_resource(only)))
    stages = defaultdict[tuple[str, str], list[str]](list)
    versions = defaultdict[str, list[VersionRecord]](list)
    tags = defaultdict[str, dict[str, str]](dict)
    for row in connection.execute(labels):
        stages[row.secret, row.version_id].append(row.stage)
    for row in connection.execute(all_versions):
        labelled = tuple(stages[row.secret, row.version_id])
        versions[row.secret].append(VersionRecord(row.version_id, row.created_at, row.accessed_at, labelled))
    for row in connection.execute(all_tags):
        tags[row.resource][row.key] = row.value
    return [
        SecretRecord(**row._mapping, versions=tuple(versions[row.name]), tags=tags[tag_resource(row.name)])
        for row in rows
    ]
