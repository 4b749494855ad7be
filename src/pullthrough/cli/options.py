"""The options that several commands share, and loading the settings they choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.dependencies import Dependencies

if TYPE_CHECKING:
    from pullthrough.settings import Loaded

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration file. Without it: $PULLTHROUGH_CONFIG, else ./pullthrough.toml if it is there.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="The engine's data folder, instead of serve.data.")
]
ListenOption = Annotated[
    str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen, instead of serve.listen.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
ImageArgument = Annotated[
    str,
    typer.Argument(
        metavar="IMAGE",
        help="The image as the cache names it, such as docker-hub/library/nginx:1.27; "
        "the cache's own host may stand in front.",
    ),
]


def dependencies_of(context: typer.Context) -> Dependencies:
    dependencies = context.obj
    assert isinstance(dependencies, Dependencies)
    return dependencies


def load(
    context: typer.Context,
    config: Path | None,
    *,
    data: Path | None = None,
    listen: str | None = None,
    require_tokens: bool = True,
) -> Loaded:
    """The settings in force for this command. Raises ConfigurationError."""
    from pullthrough.settings import load_settings

    flags = {"serve.data": data, "serve.listen": listen}
    return load_settings(config, dependencies_of(context).environ, flags, require_tokens=require_tokens)
