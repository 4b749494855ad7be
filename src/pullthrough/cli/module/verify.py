"""`pullthrough verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption, open_deployment
from pullthrough.cli.options import ConfigOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table

if TYPE_CHECKING:
    from pullthrough.provision.checks.report import Report


def verify(
    context: typer.Context,
    config: ConfigOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
    as_json: JsonOption = False,
) -> int:
    """Say whether each rule really works: its credential, a pull through it, and what nodes may do.

    Pulls the manifest of a small public image through each rule, which creates its repository.
    """
    report = open_deployment(context, config, profile, region, endpoint_url).verify()
    if as_json:
        write_json(report.as_json())
    else:
        show_report(report)
    return ExitCode.OK if report.ok else ExitCode.FAILED


def show_report(report: Report) -> None:
    """A table, and below it why each check failed and what mends it."""
    write_table(("what", "check", "outcome"), [(row.subject, row.check, row.outcome.value) for row in report.rows])
    for row in report.rows:
        if row.reason and row.outcome.value != "ok":
            write(f"\n{row.subject}, {row.check}: {row.reason}")
            if row.fix:
                write(f"  try: {row.fix}")
    failed = sum(row.outcome.value == "failed" for row in report.rows)
    write("Everything that was checked works." if report.ok else f"\n{failed} of {len(report.rows)} checks failed.")
