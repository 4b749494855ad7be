"""`pullthrough status`."""

from __future__ import annotations

import typer

from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption, open_deployment
from pullthrough.cli.module.status_view import show_status
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import write_json


def status(
    context: typer.Context,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what is there: rules and their credentials' age, drift, rules nobody declared, repositories. Changes nothing."""
    found = open_deployment(context, config, profile, region, endpoint_url).status()
    if as_json:
        write_json(found.as_json())
    else:
        show_status(found)
