"""`pullthrough export`: the declaration in the words of other tools. Secrets are variables and parameters."""

from __future__ import annotations

from typing import Annotated

import typer

from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption, open_deployment
from pullthrough.cli.options import ConfigOption, load
from pullthrough.cli.output import write_json

export_app = typer.Typer(
    name="export", help="The declaration for another pipeline, without secrets.", rich_markup_mode=None
)


@export_app.command("terraform")
def terraform(
    context: typer.Context,
    config: ConfigOption = None,
    imports: Annotated[
        bool, typer.Option("--imports", help="With import blocks for what the account already has; reads it.")
    ] = False,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Print the declaration as Terraform's JSON, for a file whose name ends with .tf.json."""
    from pullthrough.provision.export.terraform import terraform_document

    declaration = load(context, config, require_tokens=False).settings.declaration
    if not imports:
        write_json(terraform_document(declaration))
        return
    observed = open_deployment(context, config, profile, region, endpoint_url).observe()
    write_json(terraform_document(declaration, observed=observed))


@export_app.command("cloudformation")
def cloudformation(context: typer.Context, config: ConfigOption = None) -> None:
    """Print the declaration as a CloudFormation template."""
    from pullthrough.provision.export.cloudformation import cloudformation_template

    write_json(cloudformation_template(load(context, config, require_tokens=False).settings.declaration))
