"""What the commands of the module share: their options, the deployment they work on, and asking whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.options import dependencies_of, load
from pullthrough.cli.output import note, warn
from pullthrough.errors import ConfigurationError

if TYPE_CHECKING:
    from pullthrough.provision.deployment import Deployment
    from pullthrough.provision.execution.apply import StepProgress
    from pullthrough.provision.model.plan import Step

ProfileOption = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="The AWS profile, instead of AWS_PROFILE.")
]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", metavar="REGION", help="The AWS region, instead of AWS_REGION or the profile's."),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="An engine, or another endpoint that speaks ECR's API, instead of AWS or AWS_ENDPOINT_URL.",
    ),
]
NoInputOption = Annotated[
    bool,
    typer.Option("--no-input", help="Ask for nothing: a missing user name or token is an error on a terminal too."),
]
ReplaceOption = Annotated[
    bool,
    typer.Option("--replace", help="Allow rules to be deleted and made anew where AWS changes them in no other way."),
]
PruneOption = Annotated[
    list[str] | None,
    typer.Option("--prune", metavar="PREFIX", help="Remove this rule, which is not declared. May be given again."),
]
AdoptOption = Annotated[
    list[str] | None,
    typer.Option(
        "--adopt",
        metavar="KIND:NAME",
        help="Take over what is there and is not this declaration's, such as template:docker-hub. May be given again.",
    ),
]
ExistingOption = Annotated[
    bool,
    typer.Option("--existing", help="Also bring repositories that are there in line with their creation template."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def open_deployment(
    context: typer.Context,
    config: Path | None,
    profile: str | None,
    region: str | None,
    endpoint_url: str | None,
    *,
    no_input: bool = True,
) -> Deployment:
    """The declaration and where it is applied. Asks STS who we are. Raises ConfigurationError, TargetUnusable."""
    from pullthrough.provision.deployment import Deployment

    loaded, dependencies = load(context, config, require_tokens=False), dependencies_of(context)
    warn(loaded.warnings)
    return Deployment(
        loaded.settings.declaration,
        dependencies.connect(dependencies.environ, profile=profile, region=region, endpoint_url=endpoint_url),
        dependencies.environ,
        journal=loaded.settings.journal,
        ask=None if no_input or not dependencies.is_terminal() else dependencies.ask,
    )


def confirm(context: typer.Context, question: str, *, yes: bool, what: str) -> bool:
    """Whether the person agrees. Raises ConfigurationError where nobody can be asked."""
    if yes:
        return True
    dependencies = dependencies_of(context)
    if not dependencies.is_terminal():
        raise ConfigurationError(
            f"{what} asks before it changes anything, and there is no terminal to ask at", hint="--yes"
        )
    return dependencies.ask(f"{question} Only 'yes' is taken for it", False).strip().lower() == "yes"


def progress_of(clock: Callable[[], float]) -> Callable[[Step, StepProgress], None]:
    """Prints a line when a step ends, to standard error."""
    begun: dict[str, float] = {}

    def watch(step: Step, progress: StepProgress) -> None:
        key, now = str(step.key), clock()
        if progress.value == "begins":
            begun[key] = now
            return
        sign = "✗" if progress.value == "failed" else step.action.sign
        note(f"{sign:>3} {step.key.kind} {step.key.name}: {progress.value} in {now - begun[key]:.1f}s")

    return watch
