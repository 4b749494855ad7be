"""`pullthrough addresses`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption, open_deployment
from pullthrough.cli.options import ConfigOption, JsonOption, load
from pullthrough.cli.output import write, write_json, write_table


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    SHELL = "shell"
    TERRAFORM = "terraform"


def addresses(
    context: typer.Context,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    form: Annotated[
        Form, typer.Option("--format", help="A table, JSON, a shell's variables, or Terraform's (tfvars).")
    ] = Form.TABLE,
    cache_off: Annotated[
        bool, typer.Option("--cache-off", help="The upstreams' own addresses, as without a cache. Asks nobody.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what image names begin with, for each upstream: through the cache, or its own where that is switched off."""
    from pullthrough.addressing import addresses as forms

    if cache_off:
        declaration = load(context, config, require_tokens=False).settings.declaration
        found = forms.addresses(declaration, "", cache_off=True)
    else:
        found = open_deployment(context, config, profile, region, endpoint_url).addresses()
    if as_json or form is Form.JSON:
        write_json(forms.as_json(found))
    elif form is Form.SHELL:
        write(forms.as_shell(found).rstrip("\n"))
    elif form is Form.TERRAFORM:
        write(forms.as_terraform(found).rstrip("\n"))
    else:
        write_table(("name", "upstream", "address"), forms.as_rows(found))
