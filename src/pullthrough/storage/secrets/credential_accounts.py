"""Which account a rule's secret is of: the user name in it, kept for when the secret cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection, select

from pullthrough.errors import PullthroughError, StorageError
from pullthrough.storage.sql.database import Database, upsert
from pullthrough.storage.sql.schema import credential_accounts


class CredentialAccounts:
    """Safe to use from many threads and processes; not across a fork. `read_username` gives the user name in the secret of
    an ARN as it is now, or None where it has none; it may raise PullthroughError."""

    def __init__(self, database: Database, read_username: Callable[[str], str | None]) -> None:
        self._database = database
        self._read_username = read_username

    def account_of(self, arn: str) -> str:
        """The user name in the secret, or the last that was seen there where it cannot be read: what was fetched with it
        goes on being this account's. The ARN itself where none was ever seen; no user name has a colon.

        Raises StorageError.
        """
        try:
            username = self._read_username(arn)
        except PullthroughError:
            username = None
        known = self._last_seen(arn)
        if username is None:
            return known or arn
        if username != known:
            # A disk that is full must not keep rules from being read.
            with suppress(StorageError):
                self._database.write(_note, arn, username)
        return username

    def _last_seen(self, arn: str) -> str | None:
        statement = select(credential_accounts.c.username).where(credential_accounts.c.arn == arn)
        with self._database.reading() as connection:
            username: str | None = connection.execute(statement).scalar()
        return username


def _note(connection: Connection, arn: str, username: str) -> None:
    row = {"arn": arn, "username": username}
    upsert(connection, credential_accounts, [row], key=["arn"], update=["username"])
