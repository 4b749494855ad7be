"""Every setting in force with where it came from, and a fingerprint for each secret instead of the secret itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pullthrough.declaration import Credential, CredentialSource, Rule
from pullthrough.fingerprints import Fingerprints
from pullthrough.settings.environment import environment_name
from pullthrough.settings.fields import Setting, settings_of
from pullthrough.settings.keys import dotted
from pullthrough.settings.loading.accounts import ACCOUNTS
from pullthrough.settings.settings import Loaded
from pullthrough.settings.tables import TABLE_NAMES
from pullthrough.settings.values.network import ProxyUrl
from pullthrough.settings.values.texts import FilePath, SecretText, VariableName

#: No token is longer; a file of that size is something else.
_MAX_TOKEN_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Shown:
    """One setting as people may see it."""

    key: str
    #: As a file would hold it; None for a secret.
    value: object
    source: str
    #: Of the secret that the value is, holds or names; empty for none.
    fingerprint: str = ""
    #: Whether it is one of the many that a short list leaves out.
    is_detail: bool = False


def list_settings(loaded: Loaded, environ: Mapping[str, str], fingerprints: Fingerprints) -> Iterator[Shown]:
    """Every setting of every table, in the order of the reference page."""
    return _Lister(loaded, environ, fingerprints).list()


class _Lister:
    def __init__(self, loaded: Loaded, environ: Mapping[str, str], fingerprints: Fingerprints) -> None:
        self._loaded = loaded
        self._environ = environ
        self._fingerprints = fingerprints
        settings = loaded.settings
        self._rules = {rule.prefix: rule for rule in (*settings.rules, *settings.declaration.disabled)}

    def list(self) -> Iterator[Shown]:
        order = ("", *TABLE_NAMES)
        for path, table in sorted(self._loaded.tables.items(), key=lambda item: order.index(_name_of(item[0]))):
            for setting in settings_of(type(table)).values():
                yield self._shown(path, setting, getattr(table, setting.attribute))

    def _shown(self, path: tuple[str, ...], setting: Setting, value: Any) -> Shown:
        key = dotted(*path, setting.key)
        source = self._loaded.sources.get(key, "default")
        shown = setting.type.show(value)
        secret = self._secret(path, setting, value) if value else ""
        if isinstance(setting.type, SecretText):
            shown = None
        elif isinstance(setting.type, FilePath) and setting.type.private and value and not secret:
            # A path that leads nowhere may be the token itself, put into the wrong key.
            shown = "(a file that cannot be read)"
        elif setting.key == "username" and not value and (account := self._account(self._rules[path[1]])):
            shown, source = account
        is_detail = _name_of(path) not in ("", "serve") and source == "default"
        return Shown(key, shown, source, self._fingerprints.of(secret) if secret else "", is_detail)

    def _account(self, rule: Rule) -> tuple[str, str] | None:
        """The user name that a rule without one of its own has from the top level, and the key that it is in."""
        if not isinstance(rule.credential, CredentialSource):
            return None
        name = next(name for name, host in ACCOUNTS.items() if host == rule.upstream)
        return rule.credential.username, f"{name}_username"

    def _secret(self, path: tuple[str, ...], setting: Setting, value: Any) -> str:
        """The secret that a value is, holds or names the place of; empty for none."""
        match setting.type:
            case SecretText():
                return self._token(path, setting.key)
            case FilePath(private=True):
                return _read_token(value)
            case VariableName():
                return self._environ.get(value, "")
            case ProxyUrl() as proxy:
                return proxy.user_of(value)
            case _:
                return ""

    def _token(self, path: tuple[str, ...], key: str) -> str:
        """The token of a key that holds it: its variable's, or the one in the file. Empty where another place goes
        first."""
        if self._loaded.sources.get(dotted(*path, key), "").startswith("environment "):
            return self._environ[environment_name(path, key) or ""].strip()
        credential: Credential | None
        if path:
            credential = self._rules[path[1]].credential
        else:
            credential = self._loaded.settings.accounts.get(ACCOUNTS[key.removesuffix("_access_token")])
        return credential.access_token.token if isinstance(credential, CredentialSource) else ""


def _name_of(path: tuple[str, ...]) -> str:
    return path[0] if path else ""


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
