"""What `pullthrough keys` does: making, renewing and removing API keys. Blocking; for the catalog's threads.

A secret half is shown by the answer that makes it, and never again.

    list               {"keys": [{"name", "access_key_id", "role", "created_at"}]}; `created_at` is null for the settings'
    show               the first key, made now where there is none at all, with its "secret_access_key"
    create, renew      {"name", "access_key_id", "role", "created_at", "secret_access_key"}
    remove             {"name", "removed"}
    rotate             {"values", "key"}: how many were encrypted anew, and the file or variable that holds their key
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from pullthrough.access.policies import PolicyKind, parse_policy
from pullthrough.errors import AlreadyExists, ConfigurationError, ContentUnknown, RequestError
from pullthrough.settings import KeySettings, Role, is_key_name
from pullthrough.storage.access_keys import AccessKeys
from pullthrough.storage.database import Database
from pullthrough.storage.sealing import Sealer
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

    def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request of the control socket: `action`, and what it needs. Raises RequestError, StorageError."""
        match request:
            case {"action": "list"}:
                return self.list()
            case {"action": "show"}:
                return self.show()
            case {"action": "create", "name": str(name), "role": str(role)}:
                return self.create(name, role)
            case {"action": "renew", "name": str(name)}:
                return self.renew(name)
            case {"action": "remove", "name": str(name)}:
                return self.remove(name)
            case {"action": "rotate"}:
                return {"values": self._sealer.rotate(self._database), "key": self._sealer.place}
        raise ConfigurationError("the request is for no action on keys that there is")

    def list(self) -> dict[str, Any]:
        configured = [
            _entry(key.access_key_id, name, "policy" if key.policy_file else key.role.value, None)
            for name, key in self._configured.items()
        ]
        stored = [_entry(key.access_key_id, key.name, key.role, key.created_at) for key in self._stored.list()]
        return {"keys": sorted(configured + stored, key=lambda entry: str(entry["name"]))}

    def show(self) -> dict[str, Any]:
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

    def create(self, name: str, role: str) -> dict[str, Any]:
        """`role` is a role's name or a policy document."""
        if not is_key_name(name):
            raise RequestError("a key's name is 1 to 64 letters, digits and any of _+=,.@-")
        if name in self._configured:
            raise AlreadyExists(f"the settings have an API key named {name!r} already")
        if role not in list(Role):
            parse_policy(role, PolicyKind.IDENTITY)
        return self._add(name, role)

    def renew(self, name: str) -> dict[str, Any]:
        """Another secret half; the old one, and all tokens made with it, end now."""
        self._refuse_configured(name)
        secret = _new_secret()
        key = self._stored.renew(name, secret.encode())
        if key is None:
            raise _unknown(name)
        return {**_entry(key.access_key_id, name, key.role, key.created_at), "secret_access_key": secret}

    def remove(self, name: str) -> dict[str, Any]:
        self._refuse_configured(name)
        if not self._stored.remove(name):
            raise _unknown(name)
        return {"name": name, "removed": True}

    def _add(self, name: str, role: str, *, only_as_first: bool = False) -> dict[str, Any]:
        access_key_id = "AKIA" + base64.b32encode(secrets.token_bytes(_ID_BYTES)).decode()
        secret, now = _new_secret(), self._clock()
        self._stored.add(name, role, access_key_id, secret.encode(), now, only_as_first=only_as_first)
        return {**_entry(access_key_id, name, role, now), "secret_access_key": secret}

    def _refuse_configured(self, name: str) -> None:
        if name in self._configured:
            raise RequestError(
                f"the API key {name!r} is in the settings, and is changed there", hint=f"see [ecr.keys.{name}]"
            )


def _entry(access_key_id: str, name: str, role: str, created_at: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "access_key_id": access_key_id,
        "role": role if role in list(Role) else "policy",
        "created_at": format_time(created_at),
    }


def _new_secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


def _unknown(name: str) -> ContentUnknown:
    return ContentUnknown(f"there is no API key named {name[:80]!r}")
