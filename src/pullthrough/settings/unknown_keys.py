"""What is said of a key that a table does not have, and of a secret that stands in the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pullthrough.settings.environment import PREFIX
from pullthrough.settings.fields import settings_of
from pullthrough.settings.keys import dotted, nearest
from pullthrough.settings.tables import TABLE_NAMES, TABLES
from pullthrough.settings.tables.top import TopSettings
from pullthrough.settings.values.texts import SecretText

#: Keys that hold a secret, of whichever table; and what people call them who do not know ours.
_SECRET_KEYS = {
    *(
        key
        for table in TABLES
        for key, setting in settings_of(table.model).items()
        if isinstance(setting.type, SecretText)
    ),
    *("token", "password", "secret", "secret_access_key", "webhook_secret"),
}


def unknown_key(file: Path | None, path: tuple[str, ...], key: str, known: Iterable[str]) -> str:
    """`known` are the keys that the table has."""
    if key in _SECRET_KEYS:
        return secret_in_file(file, path, key, None)
    full = dotted(*path, key)
    if near := nearest(key, known if path else [*known, *TABLE_NAMES]):
        return f"{file}: unknown key {full}; did you mean {dotted(*path, near)}?"
    if elsewhere := _tables_with(key):
        return f"{file}: unknown key {full}; {key} belongs {' or '.join(elsewhere)}"
    return f"{file}: unknown key {full}; known here: {', '.join(sorted(known))}"


def _tables_with(key: str) -> list[str]:
    headers: dict[type, list[str]] = {}
    for table in TABLES:
        if key in settings_of(table.model):
            headers.setdefault(table.model, []).append(table.header)
    return [
        f"in {' or '.join(of_model)}" if all(of_model) else "at the top of the file, before any table"
        for of_model in headers.values()
    ]


def secret_in_file(file: Path | None, path: tuple[str, ...], key: str, secret: SecretText | None) -> str:
    """`secret` is the setting's type; None where the table has no such key."""
    if path[:1] == ("rules",):
        instead = "name its place: access_token_env, access_token_file or access_token_command"
    elif path[:1] == ("ecr",):
        instead = "encryption_key_file, webhook_secret_file and secret_access_key_file name files"
    else:
        name = key if key in settings_of(TopSettings) else "docker_hub_access_token"
        instead = f"set {PREFIX}{name.upper()}, or {name}_file, or {name}_command"
    if secret is not None and secret.is_inline:
        instead += "; or allow it by allow_inline_tokens = true at the top of the file"
    return f"{file}: {dotted(*path, key)} would put a secret into the file; {instead}"
