"""The entry point: builds the command tree, runs one command, turns its outcome into an exit code.

Imports nothing that takes time. Each command loads what it needs when it runs, so that `--help` answers at once.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, NoReturn

import typer
from typer.core import TyperGroup
from typer.main import get_group

from pullthrough.cli import output
from pullthrough.cli.dependencies import Dependencies
from pullthrough.cli.engine.check import check
from pullthrough.cli.engine.config import config_app
from pullthrough.cli.engine.demo import demo
from pullthrough.cli.engine.events import events
from pullthrough.cli.engine.evict import evict
from pullthrough.cli.engine.keys import keys_app
from pullthrough.cli.engine.lifecycle import lifecycle
from pullthrough.cli.engine.pin import pin, unpin
from pullthrough.cli.engine.pull import pull
from pullthrough.cli.engine.refresh import refresh
from pullthrough.cli.engine.serve import serve
from pullthrough.cli.exit_codes import ExitCode, exit_code_of
from pullthrough.cli.module.addresses import addresses
from pullthrough.cli.module.apply import apply
from pullthrough.cli.module.destroy import destroy
from pullthrough.cli.module.export import export_app
from pullthrough.cli.module.import_ import import_
from pullthrough.cli.module.plan import plan
from pullthrough.cli.module.policy import policy_app
from pullthrough.cli.module.status import status
from pullthrough.cli.module.verify import verify
from pullthrough.cli.version import version
from pullthrough.errors import PullthroughError
from pullthrough.version import __version__

#: The interpreter's own is 700.
_OBJECTS_PER_COLLECTION = 50_000

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
app.command("plan")(plan)
app.command("apply")(apply)
app.command("verify")(verify)
app.command("addresses")(addresses)
app.command("status")(status)
app.command("destroy")(destroy)
app.command("import")(import_)
app.add_typer(export_app)
app.add_typer(policy_app)
# The engine.
app.command("serve")(serve)
app.command("demo")(demo)
app.command("pull")(pull)
app.command("refresh")(refresh)
app.command("pin")(pin)
app.command("unpin")(unpin)
app.command("evict")(evict)
app.command("lifecycle")(lifecycle)
app.command("events")(events)
app.command("check")(check)
app.add_typer(keys_app)
app.add_typer(config_app)
app.command("version")(version)


def run(arguments: Sequence[str] | None = None, dependencies: Dependencies | None = None) -> NoReturn:
    """Run the command line and end the process. The only place that does."""
    # What a command imports is a hundred thousand objects that stay. Looking through them now and then, as the interpreter
    # does by default, is an eighth of the engine's start.
    gc.set_threshold(_OBJECTS_PER_COLLECTION)
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
