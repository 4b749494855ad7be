"""The entry point: help, usage, errors as text and as JSON, exit codes, and what is imported when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pullthrough import __version__
from pullthrough.cli.exit_codes import MEANINGS, ExitCode, error_classes, exit_code_of
from pullthrough.cli.main import command_tree
from pullthrough.errors import (
    ConfigurationError,
    DigestMismatch,
    FolderLocked,
    ManifestUnknown,
    NameInvalid,
    PullthroughError,
    UpstreamDenied,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.settings import Loaded
from tests.unit.cli.support import Command

COMMANDS = [
    "addresses",
    "apply",
    "check",
    "config",
    "demo",
    "destroy",
    "events",
    "evict",
    "export",
    "import",
    "keys",
    "lifecycle",
    "pin",
    "plan",
    "policy",
    "pull",
    "refresh",
    "serve",
    "status",
    "unpin",
    "verify",
    "version",
]
#: Those that have commands of their own.
SUBCOMMANDS = [
    *(["config", name] for name in ("show", "check")),
    *(["export", name] for name in ("terraform", "cloudformation")),
    *(["policy", name] for name in ("operator", "node", "template")),
]


def test_the_commands_are_those_that_were_promised(run: Command) -> None:
    assert sorted(command_tree().commands) == COMMANDS
    out = run("--help").out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), *SUBCOMMANDS])
def test_every_command_has_help(run: Command, command: list[str]) -> None:
    for option in ("--help", "-h"):
        outcome = run(*command, option)
        assert outcome.code == 0
        assert outcome.out.startswith(f"Usage: pullthrough {' '.join(command)} ")


def test_no_command_is_help_and_a_usage_error(run: Command) -> None:
    outcome = run()
    assert outcome.code == ExitCode.USAGE
    assert "Commands:" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["srve"], "No such command 'srve'", "pullthrough --help"),
        (["serve", "--lisen", "x"], "No such option: --lisen", "pullthrough serve --help"),
        (["pin"], "Missing argument 'IMAGE'", "pullthrough pin --help"),
        (["config"], "Missing command", "pullthrough config --help"),
        (["evict", "extra"], "unexpected extra argument", "pullthrough evict --help"),
        (["serve", "--listen"], "requires an argument", "pullthrough"),
    ],
)
def test_a_wrong_command_line_says_what_and_where_to_look(
    run: Command, arguments: list[str], error: str, hint: str
) -> None:
    outcome = run(*arguments)
    assert outcome.code == ExitCode.USAGE
    assert outcome.out == ""
    assert error in outcome.err
    assert f"try: {hint}" in outcome.err


def test_version(run: Command) -> None:
    assert run("version").out == f"pullthrough {__version__}\n"
    assert run("--version").out == f"pullthrough {__version__}\n"
    assert run("version", "--json").json["pullthrough"] == __version__


def test_serve_hands_the_settings_to_the_server_and_its_code_to_the_shell(run: Command, tmp_path: Path) -> None:
    served: list[Loaded] = []

    def serve(loaded: Loaded) -> int:
        served.append(loaded)
        return 7

    assert run("serve", "--listen", "127.0.0.1:5009", "--data", "d", serve=serve).code == 7
    (loaded,) = served
    assert (loaded.settings.serve.addresses[0].port, loaded.settings.serve.data) == (5009, tmp_path / "d")
    assert loaded.sources["serve.data"] == "flag --data"


def test_demo_is_told_whether_a_program_reads_it(run: Command) -> None:
    asked: list[bool] = []

    def demo(*, json_output: bool) -> int:
        asked.append(json_output)
        return 1

    assert run("demo", demo=demo).code == 1
    assert run("demo", "--json", demo=demo).code == 1
    assert asked == [False, True]


def _raising(error: BaseException) -> object:
    def serve(loaded: Loaded) -> int:
        raise error

    return serve


def test_an_error_is_printed_with_what_why_what_to_try_and_its_reference(run: Command) -> None:
    error = FolderLocked("/data is locked by another engine", hint="stop it first")
    error.__cause__ = OSError(11, "Resource temporarily unavailable")
    outcome = run("serve", serve=_raising(error))
    assert outcome.code == ExitCode.FAILED
    assert outcome.err == (
        "error: /data is locked by another engine\n"
        "  why: Resource temporarily unavailable\n"
        "  try: stop it first\n"
        "  reference: PT502\n"
    )


def test_the_cause_is_shown_only_where_it_promises_to_hold_no_secret(run: Command) -> None:
    error = ManifestUnknown("not there")
    error.__cause__ = ValueError("hunter2")
    assert "hunter2" not in run("serve", serve=_raising(error)).err
    error.__cause__ = NameInvalid("a name")
    assert "  why: a name\n" in run("serve", serve=_raising(error)).err


def test_with_json_an_error_has_the_form_of_the_control_socket(run: Command) -> None:
    outcome = run("config", "check", "--json", environ={"PULLTHROUGH_SERVE_WORKERS": "0"})
    assert outcome.out == ""
    error = json.loads(outcome.err)["error"]
    assert error["reference"] == "PT100"
    assert "PULLTHROUGH_SERVE_WORKERS" in error["message"]
    assert set(error) == {"reference", "message", "hint"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("x"), ExitCode.USAGE),
        (NameInvalid("x"), ExitCode.USAGE),
        (ManifestUnknown("x"), ExitCode.FAILED),
        (UpstreamUnavailable("x", upstream="u"), ExitCode.UNREACHABLE),
        (UpstreamThrottled("x", upstream="u", retry_after_seconds=1), ExitCode.UNREACHABLE),
        (UpstreamDenied("x", upstream="u"), ExitCode.FAILED),
        (DigestMismatch("x", expected="a", actual="b"), ExitCode.CONTENT),
        (FolderLocked("x"), ExitCode.FAILED),
        (PullthroughError("x"), ExitCode.FAILED),
    ],
)
def test_exit_codes(run: Command, error: PullthroughError, code: ExitCode) -> None:
    assert exit_code_of(error) == code
    assert run("serve", serve=_raising(error)).code == code


def test_every_exit_code_is_explained_and_every_error_has_a_reference_of_its_own() -> None:
    assert set(MEANINGS) == set(ExitCode)
    # A class that only groups others may have its parent's.
    own = [cls for cls in error_classes() if "reference" in vars(cls) or not cls.__subclasses__()]
    assert len({cls.reference for cls in own}) == len(own)


def test_an_interrupt_is_no_traceback(run: Command) -> None:
    outcome = run("serve", serve=_raising(KeyboardInterrupt()))
    assert (outcome.code, outcome.err) == (ExitCode.INTERRUPTED, "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from pullthrough.cli.main import run; run(['version'])"]
    with os.fdopen(writing, "wb") as output:
        finished = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, check=False)
    assert (finished.returncode, finished.stderr) == (ExitCode.OUTPUT_CLOSED, b"")


def test_a_locale_that_lacks_a_character_is_no_traceback() -> None:
    command = [sys.executable, "-c", "from pullthrough.cli.main import run; run(['config', 'show'])"]
    environ = {"PYTHONIOENCODING": "ascii", "HOME": "/home/somebody"}
    finished = subprocess.run(command, env=environ, capture_output=True, check=False)
    assert finished.returncode == 0
    assert b"serve.listen" in finished.stdout


def test_help_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys\nfrom pullthrough.cli.main import execute\nfrom pullthrough.cli.dependencies import Dependencies\n"
        "execute(['--help'], Dependencies())\nprint(*sorted(sys.modules), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"pydantic", "rich", "aiohttp", "sqlalchemy", "alembic", "asyncio", "prometheus_client", "http.client"}
    loaded = finished.stderr.split()
    assert heavy.isdisjoint(loaded)
    # A command loads its operation when it runs. The bound of `events --last` is known from the start.
    modules_of_operations = {name for name in loaded if name.startswith("pullthrough.operations.")}
    assert modules_of_operations == {f"pullthrough.operations.{name}" for name in ("events", "json_form", "operation")}
