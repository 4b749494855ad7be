"""Secrets as AWS's Secrets Manager keeps them: versions with staging labels, and a window in which a deletion is undone.

Errors say what AWS says, since tools look for its words. Every method is one transaction and may raise StorageError;
SealingKeyMissing where values cannot be encrypted or decrypted. Times are seconds since the epoch. A `secret_id` is a name,
an ARN, or an ARN without the hyphen and six characters at its end.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html
"""

from __future__ import annotations

import string
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from secrets import choice

from sqlalchemy import Connection, delete, insert, select, update

from pullthrough.declaration import DAY_SECONDS
from pullthrough.errors import (
    AlreadyExists,
    RequestError,
    SealingKeyMissing,
    SecretNotUsable,
    SecretUnknown,
    StorageError,
)
from pullthrough.storage.secrets import secret_rows as rows
from pullthrough.storage.secrets.sealing import Sealer, secret_context
from pullthrough.storage.secrets.secret_rows import CURRENT, SecretRecord, Value, VersionRecord
from pullthrough.storage.sql.database import Database, Topic, note_change
from pullthrough.storage.sql.resource_tags import remove_tags
from pullthrough.storage.sql.schema import secret_stages, secret_versions, secrets

_SUFFIX_CHARACTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class VersionValue:
    version: VersionRecord
    value: Value


class Secrets:
    """Safe to use from many threads and processes; not across a fork."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        *,
        account: str,
        region: str,
        clock: Callable[[], float] = time.time,
        choose: Callable[[str], str] = choice,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._arn_prefix = f"arn:aws:secretsmanager:{region}:{account}:secret:"
        self._clock = clock
        self._choose = choose

    # --- reading ----------------------------------------------------------------------------------------------------

    def find(self, secret_id: str) -> SecretRecord:
        """Also one that is marked for deletion. Raises SecretUnknown."""
        with self._database.reading() as connection:
            row = rows.find(connection, secret_id, self._clock())
            return rows.records(connection, [row], only=row.name)[0]

    def all(self) -> list[SecretRecord]:
        """All, those marked for deletion included; by name."""
        now = self._clock()
        with self._database.reading() as connection:
            found = connection.execute(select(secrets).order_by(secrets.c.name)).all()
            return rows.records(connection, [row for row in found if not rows.is_over(row, now)])

    def read(self, secret_id: str, *, version_id: str = "", stage: str = "") -> VersionValue:
        """A version's value, AWSCURRENT's where neither is given.

        Raises SecretUnknown, and SecretNotUsable where it is marked for deletion, or the stage is another version's.
        """
        before = None
        while True:
            with self._database.reading() as connection:
                row = rows.find(connection, secret_id, self._clock())
                rows.refuse_marked(row)
                version, is_binary, sealed = rows.find_version(connection, row.name, version_id, stage)
            try:
                value = Value(self._sealer.open(sealed, secret_context(row.name, version.version_id)), is_binary)
                break
            except SealingKeyMissing:
                # A rotation may have ended between reading the value and its key: the value is another one then.
                if sealed == before:
                    raise
                before = sealed
        self._note_access(row.name, row.accessed_at, version)
        return VersionValue(version, value)

    # --- writing: what changes a value changes the configuration, for rules are of the account in it ----------------

    def create(
        self,
        name: str,
        *,
        token: str,
        value: Value | None,
        description: str | None = None,
        kms_key_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> SecretRecord:
        """`token` becomes the id of the first version, where there is a value. The same call again changes nothing.

        Raises AlreadyExists; SecretNotUsable where one of this name is marked for deletion.
        """
        now = self._clock()

        def change(connection: Connection) -> SecretRecord:
            note_change(connection, Topic.CONFIGURATION)
            rows.purge(connection, now)
            row = connection.execute(select(secrets).where(secrets.c.name == name)).first()
            if row is not None and row.deleted_at is not None:
                raise SecretNotUsable(
                    "You can't create this secret because a secret with this name is already scheduled for deletion."
                )
            if row is not None and (value is None or not self._is_same(connection, name, token, value)):
                raise AlreadyExists(f"The operation failed because the secret {name} already exists.")
            if row is None:
                suffix = "".join(self._choose(_SUFFIX_CHARACTERS) for _ in range(rows.SUFFIX_LENGTH))
                connection.execute(
                    insert(secrets).values(
                        name=name,
                        arn=f"{self._arn_prefix}{name}-{suffix}",
                        description=description,
                        kms_key_id=kms_key_id,
                        created_at=now,
                        changed_at=now,
                    )
                )
                rows.put_tags(connection, name, tags or {})
                if value is not None:
                    self._put_version(connection, name, token, value, [CURRENT], now)
            row = rows.find(connection, name, now)
            return rows.records(connection, [row], only=name)[0]

        return self._database.write(change)

    def put_value(self, secret_id: str, *, token: str, value: Value, stages: Collection[str] = ()) -> tuple[str, ...]:
        """A new version of id `token`, which takes these stages, or AWSCURRENT; all its stages.

        The same value under the same token changes nothing. Raises SecretUnknown, SecretNotUsable, LimitReached, and
        AlreadyExists where there is another value under this token.
        """
        now = self._clock()

        def change(connection: Connection) -> tuple[str, ...]:
            note_change(connection, Topic.CONFIGURATION)
            row = rows.usable(connection, secret_id, now)
            if self._is_same(connection, row.name, token, value):
                return rows.stages_of(connection, row.name, token)
            self._put_version(connection, row.name, token, value, stages or [CURRENT], now)
            rows.touch(connection, row.name, now)
            return rows.stages_of(connection, row.name, token)

        return self._database.write(change)

    def update(
        self,
        secret_id: str,
        *,
        token: str = "",
        value: Value | None = None,
        description: str | None = None,
        kms_key_id: str | None = None,
    ) -> None:
        """Change what is given; a value becomes a version as by `put_value`, and raises the same."""
        now = self._clock()
        given = {"description": description, "kms_key_id": kms_key_id}

        def change(connection: Connection) -> None:
            note_change(connection, Topic.CONFIGURATION)
            row = rows.usable(connection, secret_id, now)
            if value is not None and not self._is_same(connection, row.name, token, value):
                self._put_version(connection, row.name, token, value, [CURRENT], now)
            rows.touch(connection, row.name, now, **{key: new for key, new in given.items() if new is not None})

        self._database.write(change)

    def move_stage(self, secret_id: str, stage: str, *, remove_from: str = "", move_to: str = "") -> None:
        """Take a stage from one version, give it to another, or both.

        Raises SecretUnknown (of versions too), SecretNotUsable, LimitReached; RequestError where the stage is not where
        it is said to be, or would be nowhere though it must be somewhere.
        """
        now = self._clock()

        def change(connection: Connection) -> None:
            note_change(connection, Topic.CONFIGURATION)
            row = rows.usable(connection, secret_id, now)
            for version_id in filter(None, (remove_from, move_to)):
                if rows.version_row(connection, row.name, version_id) is None:
                    raise SecretUnknown("Secrets Manager can't find the specified secret version.")
            holder = rows.holder(connection, row.name, stage)
            if holder and holder == move_to and remove_from in ("", move_to):
                return
            if holder and not remove_from:
                raise RequestError(
                    f"The parameter RemoveFromVersionId can't be empty. Staging label {stage} is currently attached to "
                    f"version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
                )
            if remove_from and remove_from != holder:
                where = f"attached to version {holder}" if holder else "not attached to any version"
                raise RequestError(
                    f"The staging label {stage} is not attached to version {remove_from} (RemoveFromVersionId); it is "
                    f"currently {where}."
                )
            if stage == CURRENT and not move_to:
                raise RequestError(
                    "You can only move staging label AWSCURRENT to a different secret version. It can't be completely "
                    "removed."
                )
            if move_to:
                rows.attach(connection, row.name, stage, move_to)
            else:
                is_stage = (secret_stages.c.secret == row.name) & (secret_stages.c.stage == stage)
                connection.execute(delete(secret_stages).where(is_stage))
            rows.touch(connection, row.name, now)

        self._database.write(change)

    def set_policy(self, secret_id: str, policy: str | None) -> None:
        """Raises SecretUnknown, SecretNotUsable."""
        now = self._clock()

        def change(connection: Connection) -> None:
            rows.touch(connection, rows.usable(connection, secret_id, now).name, now, policy=policy)

        self._database.write(change)

    def tag(self, secret_id: str, tags: Mapping[str, str]) -> None:
        """Raises SecretUnknown, SecretNotUsable; RequestError where there would be too many."""
        now = self._clock()

        def change(connection: Connection) -> None:
            row = rows.usable(connection, secret_id, now)
            rows.put_tags(connection, row.name, tags)
            rows.touch(connection, row.name, now)

        self._database.write(change)

    def untag(self, secret_id: str, keys: Collection[str]) -> None:
        """Keys that it does not have are no error. Raises SecretUnknown, SecretNotUsable."""
        now = self._clock()

        def change(connection: Connection) -> None:
            row = rows.usable(connection, secret_id, now)
            remove_tags(connection, rows.tag_resource(row.name), keys)
            rows.touch(connection, row.name, now)

        self._database.write(change)

    # --- deletion ---------------------------------------------------------------------------------------------------

    def mark_deleted(self, secret_id: str, *, after_days: int) -> float:
        """When it will be gone; until then `restore` undoes this. Raises SecretUnknown, SecretNotUsable."""
        now = self._clock()
        due = now + after_days * DAY_SECONDS

        def change(connection: Connection) -> float:
            note_change(connection, Topic.CONFIGURATION)
            row = rows.find(connection, secret_id, now)
            if row.deleted_at is not None:
                raise SecretNotUsable(
                    "You can't perform this operation on the secret because it was already scheduled for deletion."
                )
            rows.touch(connection, row.name, now, deleted_at=now, delete_due_at=due)
            return due

        return self._database.write(change)

    def delete(self, secret_id: str) -> None:
        """At once, also while it is marked. Raises SecretUnknown."""
        now = self._clock()

        def change(connection: Connection) -> None:
            note_change(connection, Topic.CONFIGURATION)
            rows.remove(connection, [rows.find(connection, secret_id, now).name])

        self._database.write(change)

    def restore(self, secret_id: str) -> None:
        """Nothing happens to one that is not marked for deletion. Raises SecretUnknown."""
        now = self._clock()

        def change(connection: Connection) -> None:
            note_change(connection, Topic.CONFIGURATION)
            row = rows.find(connection, secret_id, now)
            if row.deleted_at is not None:
                rows.touch(connection, row.name, now, deleted_at=None, delete_due_at=None)

        self._database.write(change)

    def purge(self) -> None:
        """Remove those whose window is over; for everybody else they are gone since then."""
        now = self._clock()
        with self._database.reading() as connection:
            if connection.execute(select(secrets.c.name).where(secrets.c.delete_due_at <= now)).first() is None:
                return

        def change(connection: Connection) -> None:
            rows.purge(connection, now)

        self._database.write(change)

    # --- versions, within a transaction -----------------------------------------------------------------------------

    def _is_same(self, connection: Connection, name: str, token: str, value: Value) -> bool:
        """Whether this very version is there already. Raises AlreadyExists where another one has its id."""
        row = rows.version_row(connection, name, token)
        if row is None:
            return False
        same = self._sealer.open(row.sealed, secret_context(name, token)) == value.content
        if same and row.is_binary == value.is_binary:
            return True
        arn = connection.execute(select(secrets.c.arn).where(secrets.c.name == name)).scalar_one()
        raise AlreadyExists(
            f"You can't use ClientRequestToken {token} because that value is already in use for a version of secret "
            f"{arn}."
        )

    def _put_version(
        self, connection: Connection, name: str, token: str, value: Value, stages: Iterable[str], now: float
    ) -> None:
        is_first = connection.execute(select(secret_versions).where(secret_versions.c.secret == name)).first() is None
        connection.execute(
            insert(secret_versions).values(
                secret=name,
                version_id=token,
                is_binary=value.is_binary,
                sealed=self._sealer.seal(connection, value.content, secret_context(name, token)),
                created_at=now,
            )
        )
        # AWSCURRENT last: it takes AWSPREVIOUS along.
        for stage in sorted({*stages, CURRENT} if is_first else set(stages), key=lambda one: one == CURRENT):
            rows.attach(connection, name, stage, token)
        rows.forget_old_versions(connection, name)

    def _note_access(self, name: str, accessed_at: float | None, version: VersionRecord) -> None:
        """AWS keeps the day only; so the first access of a day is written."""
        today = self._clock() // DAY_SECONDS * DAY_SECONDS
        if min(accessed_at or 0, version.accessed_at or 0) >= today:
            return
        is_version = (secret_versions.c.secret == name) & (secret_versions.c.version_id == version.version_id)

        def change(connection: Connection) -> None:
            connection.execute(update(secrets).where(secrets.c.name == name).values(accessed_at=today))
            connection.execute(update(secret_versions).where(is_version).values(accessed_at=today))

        # A disk that is full must not keep anybody from reading.
        with suppress(StorageError):
            self._database.write(change)
