"""`pullthrough plan`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.cli.module.deployment import (
    AdoptOption,
    EndpointOption,
    ExistingOption,
    NoInputOption,
    ProfileOption,
    PruneOption,
    RegionOption,
    ReplaceOption,
    open_deployment,
)
from pullthrough.cli.module.plan_view import is_coloured, plan_lines
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import note, warn, write, write_error, write_json
from pullthrough.errors import PullthroughError

if TYPE_CHECKING:
    from pullthrough.provision.model.plan import Plan

#: With --exit-code: there is something to do.
_CHANGES = 2


def plan(
    context: typer.Context,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    replace: ReplaceOption = False,
    prune: PruneOption = None,
    adopt: AdoptOption = None,
    existing: ExistingOption = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Save the plan, for `pullthrough apply FILE`.")
    ] = None,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="End with 0 where there is nothing to do, 2 where there is, 1 on errors."),
    ] = False,
    no_input: NoInputOption = False,
    as_json: JsonOption = False,
) -> int:
    """Show what `apply` would change, in an AWS account or an engine. Changes nothing.

    It needs the accounts for Docker Hub and GitHub (docker_hub_username and docker_hub_access_token, github_username and
    github_access_token), from the environment, a file or a command, and asks for them on a terminal. Tokens are shown as
    fingerprints.
    """
    from pullthrough.provision.execution.saved import write_plan
    from pullthrough.provision.model.plan import Options

    try:
        deployment = open_deployment(context, config, profile, region, endpoint_url, no_input=no_input or as_json)
        made = deployment.plan(
            Options(replace=replace, prune=tuple(prune or ()), adopt=tuple(adopt or ()), existing=existing)
        )
        show(made, as_json=as_json)
        warn(deployment.warnings)
        if out is not None and not made.problems:
            write_plan(out, made)
            note(f"saved to {out}; `pullthrough apply {out}` applies it while nothing has changed")
    except PullthroughError as error:
        if not exit_code:
            raise
        write_error(error, as_json=as_json)
        return ExitCode.FAILED
    if made.problems:
        return ExitCode.FAILED
    return _CHANGES if exit_code and not made.is_empty else ExitCode.OK


def show(made: Plan, *, as_json: bool) -> None:
    if as_json:
        write_json(made.as_json())
    else:
        write("\n".join(plan_lines(made, coloured=is_coloured())))
