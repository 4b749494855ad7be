"""`pullthrough config show` and `pullthrough config check`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.options import ConfigOption, DataOption, JsonOption, ListenOption, load, parts_of
from pullthrough.cli.output import note, warn, write, write_json, write_table
from pullthrough.fingerprints import KEY_FILE, Fingerprints

if TYPE_CHECKING:
    from pullthrough.declaration import Credential
    from pullthrough.settings import Loaded

#: No token is longer; a file of that size is something else.
_MAX_TOKEN_BYTES = 64 * 1024

config_app = typer.Typer(name="config", help="Show or try the configuration.", rich_markup_mode=None)


@config_app.command("show")
def show(
    context: typer.Context,
    config: ConfigOption = None,
    listen: ListenOption = None,
    data: DataOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the settings of tables other than [serve] that have their default.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the settings in force, and where each came from.

    A secret is shown as a fingerprint: the same secret gives the same one, on this data folder. JSON has all settings.
    """
    loaded = load(context, config, data=data, listen=listen)
    fingerprints = Fingerprints(loaded.settings.serve.data)
    rows = list(_rows(loaded, parts_of(context).environ, fingerprints))
    if as_json:
        write_json(
            {
                "file": str(loaded.file) if loaded.file else None,
                "settings": {row.key: row.as_json() for row in rows},
                "fingerprint_key": "stored" if fingerprints.stored else "temporary",
                "warnings": list(loaded.warnings),
            }
        )
        return
    shown = [row for row in rows if everything or not row.is_detail]
    write_table(("setting", "value", "from"), [(row.key, row.as_text(), row.source) for row in shown])
    if len(shown) < len(rows):
        note(f"{len(rows) - len(shown)} settings of tables other than [serve] have their default; --all shows them")
    if not fingerprints.stored and any(row.fingerprint for row in shown):
        note(
            f"the fingerprints hold for this run only: {loaded.settings.serve.data / KEY_FILE} is not there and could "
            "not be made"
        )
    warn(loaded.warnings)


@config_app.command("check")
def check(
    context: typer.Context,
    config: ConfigOption = None,
    listen: ListenOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether the engine would start with this configuration, without starting it.

    Reaches no upstream and changes nothing.
    """
    from pullthrough.access.assembly import check_files
    from pullthrough.engine.webhook import check_secret

    loaded = load(context, config, data=data, listen=listen)
    check_files(loaded.settings)
    if (secret := loaded.settings.ecr.webhook_secret_file) is not None:
        check_secret(secret)
    rules = [rule.prefix for rule in loaded.settings.rules]
    file = str(loaded.file) if loaded.file else None
    if as_json:
        write_json({"valid": True, "file": file, "rules": rules, "warnings": list(loaded.warnings)})
        return
    warn(loaded.warnings)
    write(f"{file or 'the configuration (no file)'} is valid; the rules are: {', '.join(rules) or 'none'}")


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    value: object
    source: str
    fingerprint: str = ""
    #: Whether it is one of the many that the short form leaves out.
    is_detail: bool = False

    def as_text(self) -> str:
        text = "" if self.value is None else json.dumps(self.value, ensure_ascii=False)
        mark = f"fingerprint {self.fingerprint}…" if self.fingerprint else ""
        return f"{text} ({mark})" if text and mark else text or mark

    def as_json(self) -> dict[str, object]:
        entry = {"value": self.value, "source": self.source}
        return {**entry, "fingerprint": self.fingerprint} if self.fingerprint else entry


def _rows(loaded: Loaded, environ: Mapping[str, str], fingerprints: Fingerprints) -> Iterator[_Row]:
    """Every setting of every table, in the order of the reference page."""
    from pullthrough.declaration import CredentialSource
    from pullthrough.settings.fields import settings_of
    from pullthrough.settings.keys import dotted
    from pullthrough.settings.tables import TABLE_NAMES
    from pullthrough.settings.values.texts import FilePath, Secret

    settings = loaded.settings
    rules = {rule.prefix: rule for rule in (*settings.rules, *settings.declaration.disabled)}
    for path, table in sorted(loaded.tables.items(), key=lambda item: ("", *TABLE_NAMES).index(_of(item[0]))):
        for key, setting in settings_of(type(table)).items():
            full = dotted(*path, key)
            source = loaded.sources.get(full, "default")
            raw = getattr(table, setting.attribute)
            value: object = setting.type.show(raw)
            fingerprint = ""
            if isinstance(setting.type, Secret):
                value = None
                token = _token(loaded, path, key, environ) if raw else ""
                fingerprint = fingerprints.of(token) if token else ""
            elif isinstance(setting.type, FilePath) and setting.type.private and raw:
                token = _read_token(raw)
                # A path that leads nowhere may be the token itself, put into the wrong key.
                value = value if token else "(a file that cannot be read)"
                fingerprint = fingerprints.of(token) if token else ""
            elif key == "access_token_env" and raw:
                fingerprint = fingerprints.of(token) if (token := environ.get(raw, "")) else ""
            elif key == "proxy" and "@" in str(raw):
                scheme, _, rest = str(raw).partition("://")
                user, _, host = rest.rpartition("@")
                value, fingerprint = f"{scheme}://…@{host}", fingerprints.of(user)
            elif (
                key == "username" and not raw and isinstance(credential := rules[path[1]].credential, CredentialSource)
            ):
                value, source = credential.username, _account_source(rules[path[1]].upstream)
            is_detail = _of(path) not in ("", "serve") and source == "default"
            yield _Row(full, value, source, fingerprint, is_detail)


def _of(path: tuple[str, ...]) -> str:
    return path[0] if path else ""


def _token(loaded: Loaded, path: tuple[str, ...], key: str, environ: Mapping[str, str]) -> str:
    """The token of a key that holds it: its variable's, or the one in the file. Empty where another place goes first."""
    from pullthrough.declaration import CredentialSource
    from pullthrough.settings.environment import environment_name
    from pullthrough.settings.keys import dotted
    from pullthrough.settings.loading.accounts import ACCOUNTS

    if loaded.sources.get(dotted(*path, key), "").startswith("environment "):
        return environ[environment_name(path, key) or ""].strip()
    settings = loaded.settings
    credential: Credential | None
    if not path:
        credential = settings.accounts.get(ACCOUNTS[key.removesuffix("_access_token")])
    else:
        credential = next(
            rule.credential for rule in (*settings.rules, *settings.declaration.disabled) if rule.prefix == path[1]
        )
    return credential.access_token.token if isinstance(credential, CredentialSource) else ""


def _account_source(upstream: str) -> str:
    """Which account of the top level the credential of a rule for this upstream is."""
    from pullthrough.settings.loading.accounts import ACCOUNTS

    return next(f"{account}_username" for account, host in ACCOUNTS.items() if host == upstream)


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
