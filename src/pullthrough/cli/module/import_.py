"""`pullthrough import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption, open_deployment
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import note, write, write_json
from pullthrough.errors import ConfigurationError


def import_(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the declaration there; policies that it names go beside it."),
    ] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the declaration of what an account already has: `pullthrough plan` with it has nothing to do.

    Secrets are named by their ARN. The account is only read.
    """
    from pullthrough.provision.imports.declaration import declaration_text

    deployment = open_deployment(context, config, profile, region, endpoint_url)
    imported = declaration_text(deployment.observe(), name=deployment.declaration.name)
    if as_json:
        write_json({"declaration": imported.text, "files": dict(imported.files)})
        return
    if out is None:
        write(imported.text.rstrip("\n"))
        if imported.files:
            note(f"it names files that --out FILE would write: {', '.join(sorted(imported.files))}")
        return
    written = {out: imported.text, **{out.parent / name: text for name, text in imported.files.items()}}
    for path in written:
        if path.exists():
            raise ConfigurationError(f"{path} is there already", hint="name another file with --out, or move it away")
    for path, text in written.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
        note(f"wrote {path}")
