"""What `pullthrough keys` does: making, renewing and removing API keys. Blocking; for the catalog's threads.

A secret half is shown by the answer that makes it, and never again.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping

from pullthrough.access.api_keys.records import KeyEntry, KeyList, NewKey, RemovedKey, RotatedKeys
from pullthrough.access.policy.documents import PolicyKind, parse_policy
from pullthrough.errors import AlreadyExists, ContentUnknown, RequestError
from pullthrough.settings import KeySettings, Role, is_key_name
from pullthrough.storage.secrets.access_keys import AccessKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.sql.database import Database
from pullthrough.units import format_time

FIRST = "admin"
#: Of AWS's shape: `AKIA` and 16 letters and digits; 40 characters.
_ID_BYTES = 10
_SECRET_BYTES = 30


class KeyAdministration:
    def __init__(
        self,
        configured: Mapping[str, KeySettings],
        stored: AccessKeys,
        *,
        sealer: Sealer,
        database: Database,
        clock: Callable[[], float],
    ) -> None:
        self._configured = configured
        self._stored = stored
        self._sealer = sealer
        self._database = database
        self._clock = clock

    def list(self) -> KeyList:
        configured = [
            _entry(key.access_key_id, name, "policy" if key.policy_file else key.role.value, None)
            for name, key in self._configured.items()
        ]
        stored = [_entry(key.access_key_id, key.name, key.role, key.created_at) for key in self._stored.list()]
        return KeyList(tuple(sorted(configured + stored, key=lambda entry: entry.name)))

    def show(self) -> NewKey:
        """The first key: made when it is first asked for, so that its secret half has been nowhere before."""
        if self._configured:
            raise RequestError(
                "the settings have API keys, so that none is made here",
                hint="see secret_access_key_file in [ecr.keys.<name>], or make another key with `pullthrough keys create`",
            )
        try:
            return self._add(FIRST, Role.ADMIN.value, only_as_first=True)
        except AlreadyExists as error:
            raise AlreadyExists(
                "the first API key was made and shown before; a secret half is shown once",
                hint="`pullthrough keys list` has the names; `pullthrough keys renew NAME` gives one a new secret half",
            ) from error

    def create(self, name: str, role: str) -> NewKey:
        """`role` is a role's name or a policy document."""
        if not is_key_name(name):
            raise RequestError("a key's name is 1 to 64 letters, digits and any of _+=,.@-")
        if name in self._configured:
            raise AlreadyExists(f"the settings have an API key named {name!r} already")
        if role not in list(Role):
            parse_policy(role, PolicyKind.IDENTITY)
        return self._add(name, role)

    def renew(self, name: str) -> NewKey:
        """Another secret half; the old one, and all tokens made with it, end now."""
        self._refuse_configured(name)
        secret = _new_secret()
        key = self._stored.renew(name, secret.encode())
        if key is None:
            raise _unknown(name)
        return _new_key(_entry(key.access_key_id, name, key.role, key.created_at), secret)

    def remove(self, name: str) -> RemovedKey:
        self._refuse_configured(name)
        if not self._stored.remove(name):
            raise _unknown(name)
        return RemovedKey(name, True)

    def rotate(self) -> RotatedKeys:
        """Encrypt all secrets and keys anew, with a new encryption key."""
        return RotatedKeys(self._sealer.rotate(self._database), self._sealer.place)

    def _add(self, name: str, role: str, *, only_as_first: bool = False) -> NewKey:
        access_key_id = "AKIA" + base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode()
        secret, now = _new_secret(), self._clock()
        self._stored.add(name, role, access_key_id, secret.encode(), now, only_as_first=only_as_first)
        return _new_key(_entry(access_key_id, name, role, now), secret)

    def _refuse_configured(self, name: str) -> None:
        if name in self._configured:
            raise RequestError(
                f"the API key {name!r} is in the settings, and is changed there", hint=f"see [ecr.keys.{name}]"
            )


def _entry(access_key_id: str, name: str, role: str, created_at: float | None) -> KeyEntry:
    return KeyEntry(
        name,
        access_key_id,
        role if role in list(Role) else "policy",
        format_time(created_at),
    )


def _new_key(entry: KeyEntry, secret: str) -> NewKey:
    return NewKey(entry.name, entry.access_key_id, entry.role, entry.created_at, secret)


def _new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _unknown(name: str) -> ContentUnknown:
    return ContentUnknown(f"there is no API key named {name[:80]!r}")
