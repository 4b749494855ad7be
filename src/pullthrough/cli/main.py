"""The entry point: builds the command tree, runs one command, turns its outcome into an exit code.

Imports nothing that takes time. Each command loads what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from pullthrough.cli import (
    addresses,
    apply,
    check,
    config,
    demo,
    destroy,
    events,
    evict,
    export,
    import_,
    keys,
    lifecycle,
    output,
    pin,
    plan,
    policy,
    pull,
    refresh,
    serve,
    status,
    verify,
    version,
)
from pullthrough.cli.dependencies import Dependencies
from pullthrough.cli.exit_codes import ExitCode, exit_code_of
from pullthrough.errors import PullthroughError
from pullthrough.version import __version__

# Plain help pages: rich, which would draw frames around them, takes longer to import than all the rest.
app = typer.Typer(
    name="pullthrough",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        output.write(f"pullthrough {__version__}")
        raise typer.Exit


@app.callback()
def pullthrough(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """A pull-through cache for container images.

    `pullthrough plan` and `pullthrough apply` make one of AWS's ECR. `pullthrough serve` starts one of its own on
    127.0.0.1:5000; then pull `127.0.0.1:5000/docker-hub/library/nginx:latest`.
    """


# The module: ECR, or an engine, as it is declared.
app.command("plan")(plan.plan)
app.command("apply")(apply.apply)
app.command("verify")(verify.verify)
app.command("addresses")(addresses.addresses)
app.command("status")(status.status)
app.command("destroy")(destroy.destroy)
app.command("import")(import_.import_)
app.add_typer(export.export_app)
app.add_typer(policy.policy_app)
# The engine.
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("pull")(pull.pull)
app.command("refresh")(refresh.refresh)
app.command("pin")(pin.pin)
app.command("unpin")(pin.unpin)
app.command("evict")(evict.evict)
app.command("lifecycle")(lifecycle.lifecycle)
app.command("events")(events.events)
app.command("check")(check.check)
app.add_typer(keys.keys_app)
app.add_typer(config.config_app)
app.command("version")(version.version)


def run(arguments: Sequence[str] | None = None, dependencies: Dependencies | None = None) -> NoReturn:
    """Run the command line and end the process. The only place that does."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Where the locale cannot show a character, another one is better than a traceback.
        sys.stdout.reconfigure(errors="replace")
    code = int(execute(sys.argv[1:] if arguments is None else arguments, dependencies or Dependencies()))
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    # At once: what is open was closed by whoever opened it, and taking the interpreter apart takes a tenth of a second.
    os._exit(code)


def command_tree() -> TyperGroup:
    """The commands, for running them and for the reference page."""
    return get_group(app)


def execute(arguments: Sequence[str], dependencies: Dependencies) -> int:
    """Run one command; the exit code. Errors of this package are printed, never raised."""
    as_json = "--json" in arguments
    try:
        result = command_tree().main(
            list(arguments) or ["--help"], prog_name="pullthrough", standalone_mode=False, obj=dependencies
        )
    except PullthroughError as error:
        output.write_error(error, as_json=as_json)
        return exit_code_of(error)
    except typer.TyperException as error:
        return _usage(error)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except output.OutputClosed:
        # What is still in the buffer would fail again when the interpreter flushes it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OUTPUT_CLOSED
    if not arguments:
        return ExitCode.USAGE
    return result if isinstance(result, int) else ExitCode.OK


def _usage(error: typer.TyperException) -> ExitCode:
    # Typer's usage errors know where they happened, but their class is not public.
    path = getattr(getattr(error, "ctx", None), "command_path", "pullthrough")
    output.note(f"error: {error.format_message()}")
    output.note(f"  try: {path} --help")
    return ExitCode.USAGE
