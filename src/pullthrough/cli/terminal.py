"""The person at the terminal."""

from __future__ import annotations

import sys

import typer


def is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: str, secret: bool) -> str:
    """A line of the person's; not echoed where it is a secret. The question goes to standard error."""
    import getpass

    if secret:
        return getpass.getpass(f"{question}: ", stream=sys.stderr)
    sys.stderr.write(f"{question}: ")
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise typer.Abort
    return line.rstrip("\n")
