"""`pullthrough destroy`."""

from __future__ import annotations

from typing import Annotated

import typer

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.cli.module.apply import carry_out
from pullthrough.cli.module.deployment import (
    EndpointOption,
    ProfileOption,
    RegionOption,
    YesOption,
    confirm,
    open_deployment,
)
from pullthrough.cli.module.plan import show
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import note, write_json
from pullthrough.units import counted, format_bytes


def destroy(
    context: typer.Context,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    include_adopted: Annotated[
        bool, typer.Option("--include-adopted", help="Also remove declared rules that were there before `apply`.")
    ] = False,
    delete_repositories: Annotated[
        bool,
        typer.Option("--delete-repositories", help="Also delete the repositories under the rules, with all images."),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> int:
    """Take back what `apply` made: rules, templates, secrets, roles. Cached images stay, unless you say otherwise.

    Only what bears this declaration's mark, or stands in its journal, goes. Secrets can be restored for 30 days; `apply`
    does so.
    """
    from pullthrough.provision.model.plan import Options
    from pullthrough.provision.model.resources import ResourceKind

    deployment = open_deployment(context, config, profile, region, endpoint_url)
    plan = deployment.plan_destroy(Options(include_adopted=include_adopted, delete_repositories=delete_repositories))
    if not as_json:
        show(plan, as_json=False)
    if not plan.is_empty and not plan.problems:
        repositories = [step for step in plan.steps if step.key.kind is ResourceKind.REPOSITORY]
        question = f"Destroy {counted(len(plan.steps), 'thing')} in {plan.target}?"
        if repositories:
            images = sum(int(str(step.details["images"])) for step in repositories)
            size = sum(int(str(step.details["bytes"])) for step in repositories)
            among = f"{counted(len(repositories), 'repository')} with {counted(images, 'image')} ({format_bytes(size)})"
            question = f"{question[:-1]}, {among} among them?"
        if not confirm(context, question, yes=yes, what="destroy"):
            note("nothing was done")
            return ExitCode.FAILED
    applied = carry_out(deployment, plan, as_json=as_json)
    if as_json:
        write_json({"plan": plan.as_json(), "applied": applied})
    return ExitCode.OK
