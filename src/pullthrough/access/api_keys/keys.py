"""API keys: those of the settings, and those that were made with `pullthrough keys`."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pullthrough.access.policy.documents import DENY_ALL, ROLE_POLICIES, PolicyInvalid, PolicyKind, parse_policy
from pullthrough.access.policy.statements import Policy
from pullthrough.access.watched_files import WatchedFile
from pullthrough.settings import KeySettings, Role
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.secrets.access_keys import AccessKeys, StoredKey
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccessKey:
    access_key_id: str
    name: str
    policies: tuple[Policy, ...] = field(repr=False)
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    #: The generation's counters before it was read; None before the first time.
    stamp: bytes | None
    stored: Mapping[str, StoredKey]


class ConfiguredKey:
    """A key of the settings: its files, read again when they change."""

    def __init__(self, name: str, settings: KeySettings) -> None:
        assert settings.secret_access_key_file is not None
        where = f"ecr.keys.{name}"
        self._name = name
        self._settings = settings
        self._secret = WatchedFile(settings.secret_access_key_file, f"{where}.secret_access_key_file", _secret)
        self._policy: WatchedFile[Policy] | None = None
        if settings.policy_file is not None:
            self._policy = WatchedFile(settings.policy_file, f"{where}.policy_file", _policy_of_file)

    def key(self) -> AccessKey:
        policy = self._policy.value() if self._policy else ROLE_POLICIES[self._settings.role]
        return AccessKey(self._settings.access_key_id, self._name, (policy,), self._secret.value())


def read_configured(keys: Mapping[str, KeySettings]) -> dict[str, ConfiguredKey]:
    """By their public halves. Raises ConfigurationError where a file of one cannot be used."""
    return {key.access_key_id: ConfiguredKey(name, key) for name, key in keys.items()}


class Keys:
    """Finds keys by their public halves. Belongs to an event loop."""

    def __init__(
        self,
        configured: Mapping[str, KeySettings],
        stored: AccessKeys,
        *,
        generation: Changes,
        call: Runner,
    ) -> None:
        """Raises ConfigurationError where a file of a configured key cannot be used."""
        self._configured = read_configured(configured)
        self._stored = stored
        self._generation = generation
        self._call = call
        self._reading = asyncio.Lock()
        self._snapshot = _Snapshot(None, {})
        #: Opened secrets of stored keys; an entry is good as long as the sealed form is the same.
        self._opened: dict[bytes, bytes] = {}
        #: Policies of stored keys that cannot be obeyed and were logged.
        self._broken_policies: set[str] = set()

    def known(self, access_key_id: str) -> AccessKey | None:
        """The key that was found last under this id."""
        if configured := self._configured.get(access_key_id):
            return configured.key()
        stored = self._snapshot.stored.get(access_key_id)
        secret = self._opened.get(stored.sealed) if stored else None
        if stored is None or secret is None:
            return None
        return self._access_key(stored, secret)

    async def find(self, access_key_id: str) -> AccessKey | None:
        """The key as it is now; a change made in another worker counts.

        Raises StorageError, and SealingKeyMissing where a stored secret cannot be opened.
        """
        if configured := self._configured.get(access_key_id):
            return configured.key()
        if self._snapshot.stamp != self._generation.read():
            await self._refresh()
        stored = self._snapshot.stored.get(access_key_id)
        if stored is None:
            return None
        secret = self._opened.get(stored.sealed)
        if secret is None:
            secret = self._opened[stored.sealed] = await self._call(self._stored.open, stored)
        return self._access_key(stored, secret)

    async def _refresh(self) -> None:
        async with self._reading:
            stamp = self._generation.read()  # before the catalog: what is committed in between makes this outdated
            if stamp == self._snapshot.stamp:
                return
            stored = {key.access_key_id: key for key in await self._call(self._stored.list)}
            sealed = {key.sealed for key in stored.values()}
            self._opened = {one: secret for one, secret in self._opened.items() if one in sealed}
            self._snapshot = _Snapshot(stamp, stored)

    def _access_key(self, stored: StoredKey, secret: bytes) -> AccessKey:
        return AccessKey(stored.access_key_id, stored.name, (self._policy(stored),), secret)

    def _policy(self, stored: StoredKey) -> Policy:
        if stored.role in list(Role):
            return ROLE_POLICIES[Role(stored.role)]
        try:
            return parse_policy(stored.role, PolicyKind.IDENTITY)
        except PolicyInvalid as error:
            # An earlier version took it.
            if stored.role not in self._broken_policies:
                self._broken_policies.add(stored.role)
                _log.error("the key %s may do nothing, because its policy is refused: %s", stored.name, error.message)
            return DENY_ALL


def _policy_of_file(content: bytes) -> Policy:
    try:
        return parse_policy(content.decode(), PolicyKind.IDENTITY)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except PolicyInvalid as error:
        raise ValueError(f"is not a policy: {error.message}") from error


def _secret(content: bytes) -> bytes:
    secret = content.strip()
    if re.fullmatch(rb"[\x21-\x7e]{8,256}", secret) is None:
        raise ValueError("does not hold one secret access key: 8 to 256 characters without spaces")
    return secret
