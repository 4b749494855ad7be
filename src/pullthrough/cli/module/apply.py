"""`pullthrough apply`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    YesOption,
    confirm,
    open_deployment,
    progress_of,
)
from pullthrough.cli.module.plan import show
from pullthrough.cli.module.verify import show_report
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import note, warn, write_json
from pullthrough.errors import ConfigurationError
from pullthrough.units import counted

if TYPE_CHECKING:
    from pullthrough.provision.deployment import Deployment
    from pullthrough.provision.model.plan import Plan


def apply(
    context: typer.Context,
    saved: Annotated[
        Path | None,
        typer.Argument(metavar="PLAN", help="A plan that `plan --out` saved; applied if it is still the plan."),
    ] = None,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    replace: ReplaceOption = False,
    prune: PruneOption = None,
    adopt: AdoptOption = None,
    existing: ExistingOption = False,
    yes: YesOption = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Do not verify the rules at the end.")] = False,
    no_input: NoInputOption = False,
    as_json: JsonOption = False,
) -> int:
    """Make ECR, or an engine, the pull-through cache that is declared; then verify it.

    Shows the plan first, and asks on a terminal; elsewhere it needs --yes. Run again after a failure, it goes on. Run
    again after success, it changes nothing.
    """
    from pullthrough.provision.execution.saved import check_saved, options_of, read_plan
    from pullthrough.provision.model.plan import Options

    options = Options(replace=replace, prune=tuple(prune or ()), adopt=tuple(adopt or ()), existing=existing)
    document = None
    if saved is not None:
        if options != Options():
            raise ConfigurationError(f"{saved} has its own options; make a new plan with others")
        document = read_plan(saved)
        options = options_of(document)
    deployment = open_deployment(context, config, profile, region, endpoint_url, no_input=no_input or as_json)
    plan = deployment.plan(options)
    if document is not None:
        check_saved(document, plan)
    if not as_json:
        show(plan, as_json=False)
    warn(deployment.warnings)
    answer: dict[str, Any] = {"plan": plan.as_json(), "applied": None, "verification": None}
    if not plan.is_empty and not plan.problems:
        question = f"Apply {counted(len(plan.steps), 'step')} to {plan.target}?"
        if not confirm(context, question, yes=yes or document is not None, what="apply"):
            note("nothing was done")
            return ExitCode.FAILED
    answer["applied"] = carry_out(deployment, plan, as_json=as_json)
    verified = True
    if not plan.is_empty and not no_verify:
        report = deployment.verify()
        answer["verification"] = report.as_json()
        verified = report.ok
        if not as_json:
            show_report(report)
    if as_json:
        write_json(answer)
    return ExitCode.OK if verified else ExitCode.FAILED


def carry_out(deployment: Deployment, plan: Plan, *, as_json: bool) -> dict[str, object]:
    """Apply the plan with progress. Raises PlanProblem, ApplyFailed."""
    applied = deployment.apply(plan, progress_of(time.monotonic))
    if not as_json and not plan.is_empty:
        note(f"done: {counted(len(applied.done), 'step')}")
    return applied.as_json()
