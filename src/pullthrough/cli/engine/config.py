"""`pullthrough config show` and `pullthrough config check`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.options import ConfigOption, DataOption, JsonOption, ListenOption, dependencies_of, load
from pullthrough.cli.output import note, warn, write, write_json, write_table
from pullthrough.fingerprints import KEY_FILE, Fingerprints

if TYPE_CHECKING:
    from pullthrough.settings.listing import Shown

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
    from pullthrough.settings.listing import list_settings

    loaded = load(context, config, data=data, listen=listen)
    fingerprints = Fingerprints(loaded.settings.serve.data)
    rows = list(list_settings(loaded, dependencies_of(context).environ, fingerprints))
    if as_json:
        write_json(
            {
                "file": str(loaded.file) if loaded.file else None,
                "settings": {row.key: _as_json(row) for row in rows},
                "fingerprint_key": "stored" if fingerprints.stored else "temporary",
                "warnings": list(loaded.warnings),
            }
        )
        return
    shown = [row for row in rows if everything or not row.is_detail]
    write_table(("setting", "value", "from"), [(row.key, _as_text(row), row.source) for row in shown])
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
    from pullthrough.engine.tell.webhook import check_secret

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


def _as_text(row: Shown) -> str:
    text = "" if row.value is None else json.dumps(row.value, ensure_ascii=False)
    mark = f"fingerprint {row.fingerprint}…" if row.fingerprint else ""
    return f"{text} ({mark})" if text and mark else text or mark


def _as_json(row: Shown) -> dict[str, object]:
    entry = {"value": row.value, "source": row.source}
    return {**entry, "fingerprint": row.fingerprint} if row.fingerprint else entry
