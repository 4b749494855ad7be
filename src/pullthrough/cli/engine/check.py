"""`pullthrough check`."""

from __future__ import annotations

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.exit_codes import ExitCode
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.operations.json_form import to_json
from pullthrough.operations.operation import NoInput
from pullthrough.units import counted, format_bytes


def check(
    context: typer.Context, config: ConfigOption = None, data: DataOption = None, as_json: JsonOption = False
) -> int:
    """Verify what is stored, byte by byte.

    Holds every body against its digest, and the catalog against the files. Without an engine it repairs what it safely
    can, and says what it did; beside a running engine it only reports.
    """
    from pullthrough.operations.check import CHECK

    with session(context, config, data) as cache:
        answer = cache.perform(CHECK, NoInput())
    problems = answer.problems
    left = sum(not problem.repaired for problem in problems)
    if as_json:
        write_json(to_json(answer))
        return ExitCode.CONTENT if left else ExitCode.OK
    if problems:
        write_table(
            ("problem", "of", "detail", "repaired"),
            [
                (problem.kind, problem.subject, problem.detail, "yes" if problem.repaired else "no")
                for problem in problems
            ],
        )
    found = f"{counted(len(problems), 'problem')}, {len(problems) - left} repaired" if problems else "no problems"
    read = f"{counted(answer.blobs, 'blob')} and {counted(answer.manifests, 'manifest')}"
    write(f"{read}, {format_bytes(answer.bytes)} read: {found}")
    return ExitCode.CONTENT if left else ExitCode.OK
