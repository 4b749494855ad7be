"""`pullthrough config show` and `pullthrough config check`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.fingerprints import KEY_FILE, Fingerprints
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption, ListenOption, load, parts_of
from pullthrough.cli.output import note, warn, write, write_json, write_table

if TYPE_CHECKING:
    from pullthrough.declaration import CredentialSource
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
        bool, typer.Option("--all", help="Also the settings of rules and upstreams that have their default.")
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
        note(f"{len(rows) - len(shown)} settings of rules and upstreams have their default; --all shows them")
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
    loaded = load(context, config, data=data, listen=listen)
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
    from pullthrough.settings.kinds import FilePath, Secret
    from pullthrough.settings.models import kinds_of
    from pullthrough.settings.sources import dotted, environment_name

    credentials = {rule.prefix: rule.credential for rule in loaded.settings.rules}
    for path, table in sorted(
        loaded.tables.items(), key=lambda item: ("", "serve", "rules", "upstreams", "ecr").index(_of(item[0]))
    ):
        for key, (attribute, kind) in kinds_of(type(table)).items():
            full = dotted(*path, key)
            source = loaded.sources.get(full, "default")
            raw = getattr(table, attribute)
            value: object = kind.show(raw)
            fingerprint = ""
            if isinstance(kind, Secret):
                value = None
                fingerprint = fingerprints.of(environ[environment_name(path, key) or ""]) if raw else ""
            elif isinstance(kind, FilePath) and kind.private and raw:
                token = _read_token(raw)
                # A path that leads nowhere may be the token itself, put into the wrong key.
                value = value if token else "(a file that cannot be read)"
                fingerprint = fingerprints.of(token) if token else ""
            elif key == "access_token_env" and raw:
                fingerprint = fingerprints.of(environ[raw])
            elif key == "proxy" and "@" in str(raw):
                scheme, _, rest = str(raw).partition("://")
                user, _, host = rest.rpartition("@")
                value, fingerprint = f"{scheme}://…@{host}", fingerprints.of(user)
            elif key == "username" and not raw and isinstance(credential := credentials.get(path[1]), CredentialSource):
                value, source = credential.username, _account_source(loaded, credential)
            is_detail = path[:1] in (("rules",), ("upstreams",), ("ecr",)) and source == "default"
            yield _Row(full, value, source, fingerprint, is_detail)


def _of(path: tuple[str, ...]) -> str:
    return path[0] if path else ""


def _account_source(loaded: Loaded, credential: CredentialSource) -> str:
    """Which account of the top level a rule's credential is."""
    from pullthrough.settings.load import ACCOUNTS

    host = next(rule.upstream for rule in loaded.settings.rules if rule.credential == credential)
    return next(f"{account}_username" for account, upstream in ACCOUNTS.items() if upstream == host)


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
