"""What `status` prints for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pullthrough.cli.output import write, write_table

if TYPE_CHECKING:
    from pullthrough.provision.planning.status import CredentialStatus, RuleStatus, Status

_DAY_SECONDS = 86400


def show_status(status: Status) -> None:
    """The rules, what differs, and what is there beside them."""
    write(f"Declaration {status.name} in {status.target}")
    write_table(
        ("rule", "upstream", "address", "state", "credential", "repositories"),
        [
            (
                rule.prefix,
                rule.upstream,
                rule.address,
                _state(rule),
                _credential(rule.credential),
                "" if rule.repositories is None else str(rule.repositories),
            )
            for rule in status.rules
        ],
        right=frozenset({"repositories"}),
    )
    _section(
        "Differs from the declaration; `pullthrough apply` puts it right",
        (
            f"{step.action.sign:>3} {step.key.kind} {step.key.name}: "
            f"{', '.join(name for name, _, _ in step.changes) if step.before else step.reason}"
            for step in status.drift
        ),
    )
    _section("Problems, which keep `apply` from working", status.problems)
    _section("Left alone", (f"{left.key.kind} {left.key.name} {left.reason}" for left in status.left_alone))
    _section(
        "Repositories that differ from their template; `pullthrough apply --existing` brings them in line",
        (
            f"{step.key.name}: {', '.join(name for name, _, _ in step.changes)}"
            for step in status.differing_repositories
        ),
    )
    _section("Not applicable here", status.not_applicable)
    _section("Notes", status.notes)
    if status.credentials_missing:
        write(f"\nCredentials were not compared: {status.credentials_missing}")
    if status.is_in_line:
        write("Everything is as declared.")


def _state(rule: RuleStatus) -> str:
    if not rule.is_there:
        return "missing"
    if rule.is_of_engine_file:
        return "in the engine's file"
    return "there" if rule.is_declared else "not declared"


def _credential(credential: CredentialStatus | None) -> str:
    if credential is None:
        return "none"
    if credential.is_there is False:
        return f"{credential.secret}: missing"
    if credential.is_scheduled_for_deletion:
        return f"{credential.secret}: to be deleted"
    if credential.age_seconds is None:
        return credential.secret
    days = int(credential.age_seconds // _DAY_SECONDS)
    age = "today" if days == 0 else f"{days} day{'' if days == 1 else 's'} ago"
    return f"{credential.secret}, changed {age}"


def _section(title: str, lines: Iterable[str]) -> None:
    lines = list(lines)
    if lines:
        write(f"\n{title}:")
        for line in lines:
            write(f"  {line}")
