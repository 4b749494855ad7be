"""The AWS APIs and their keys."""

from __future__ import annotations

import re

from pullthrough.settings.keys import dotted
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.ecr import EcrAuth, EcrSettings, KeySettings


def read_ecr(sources: Sources) -> EcrSettings:
    table = {key: value for key, value in sources.subtable("ecr").items() if key != "keys"}
    ecr = sources.table(EcrSettings, ("ecr",), table) or EcrSettings()
    sources.check_file(("ecr",), "htpasswd_file", ecr.htpasswd_file)
    sources.check_secret_file(("ecr",), "webhook_secret_file", ecr.webhook_secret_file)
    if ecr.webhook_secret_file and not ecr.webhook_url:
        sources.problem(f"{sources.named('ecr', 'webhook_secret_file')} needs ecr.webhook_url beside it")
    if ecr.auth is EcrAuth.NONE:
        sources.warnings.append(
            f'{sources.named("ecr", "auth")} = "none": every signature and every client is taken for the '
            "registry's root; this is for throw-away use"
        )
    elif ecr.auth_none_everywhere:
        sources.problem(f'{sources.named("ecr", "auth_none_everywhere")} needs ecr.auth = "none" beside it')
    return ecr


def read_keys(sources: Sources) -> dict[str, KeySettings]:
    """By name."""
    tables = sources.subtable("ecr").get("keys", {})
    if not isinstance(tables, dict):
        sources.problem(f"{sources.file}: ecr.keys is not a table; write [ecr.keys.<name>]")
        return {}
    keys: dict[str, KeySettings] = {}
    for name, table in tables.items():
        if (key := _read_key(sources, name, table)) is None:
            continue
        if other := next((n for n, k in keys.items() if k.access_key_id == key.access_key_id), ""):
            sources.problem(
                f"{sources.header('ecr', 'keys', name)} has the access_key_id of [{dotted('ecr', 'keys', other)}]"
            )
        keys[name] = key
    return keys


def _read_key(sources: Sources, name: str, table: object) -> KeySettings | None:
    path = ("ecr", "keys", name)
    where = sources.header(*path)
    if not isinstance(table, dict):
        sources.problem(f"{sources.file}: {dotted(*path)} is not a table; write [ecr.keys.<name>]")
        return None
    if not is_key_name(name):
        sources.problem(f"{where} is not for a name: 1 to 64 letters, digits and any of _+=,.@-")
        return None
    key = sources.table(KeySettings, path, table)
    if key is None:
        return None
    for attribute in ("access_key_id", "secret_access_key_file"):
        if attribute not in table:
            sources.problem(f"{where} lacks its {attribute}")
    sources.check_secret_file(path, "secret_access_key_file", key.secret_access_key_file)
    sources.check_file(path, "policy_file", key.policy_file)
    if key.policy_file and "role" in table:
        sources.problem(f"{where} has a role and a policy_file, which exclude each other")
    return key


def is_key_name(name: str) -> bool:
    """Whether an API key can be called so: https://docs.aws.amazon.com/IAM/latest/APIReference/API_User.html"""
    return re.fullmatch(r"[\w+=,.@-]{1,64}", name, re.ASCII) is not None
