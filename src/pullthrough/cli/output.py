"""Everything the commands print: data to standard output, all else to standard error.

Rich is imported when a table is drawn, not before: `pullthrough --help` answers without it.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import IO

from pullthrough.errors import PullthroughError

#: Wide enough that no cell wraps where the output goes to a file or a pipe.
_UNBOUNDED_WIDTH = 400


class OutputClosed(Exception):
    """Whoever read our output has gone, as `head` does."""


def write(text: str) -> None:
    """A line, or lines, of data. Raises OutputClosed."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def write_json(document: object) -> None:
    write(json.dumps(document, indent=2, ensure_ascii=False))


def note(text: str, stream: IO[str] | None = None) -> None:
    """A line for people beside the data."""
    stream = stream or sys.stderr
    try:
        stream.write(f"{text}\n")
        stream.flush()
    except BrokenPipeError as error:
        raise OutputClosed from error


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        note(f"warning: {warning}")


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: frozenset[str] = frozenset()) -> None:
    """`right` names the columns aligned to the right. On a terminal cells wrap to its width; elsewhere they do not."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    on_terminal = sys.stdout.isatty()
    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        # Text, not str: a tag or a message may hold what rich reads as markup.
        table.add_row(*(Text(cell) for cell in row))
    buffer = io.StringIO()
    width = shutil.get_terminal_size().columns if on_terminal else _UNBOUNDED_WIDTH
    Console(file=buffer, width=width, force_terminal=on_terminal, highlight=False).print(table)
    write("\n".join(line.rstrip() for line in buffer.getvalue().strip("\n").splitlines()))


def write_error(error: PullthroughError, *, as_json: bool) -> None:
    """What went wrong, why, what to try, and the stable reference. With --json the form of the control socket."""
    if as_json:
        body = {"reference": error.reference, "message": error.message, "hint": error.hint}
        note(json.dumps({"error": body}, ensure_ascii=False))
        return
    note(f"error: {error.message}")
    cause = error.__cause__
    # Only our own errors promise to hold no secret; of the system's, the reason alone is shown.
    why = cause.message if isinstance(cause, PullthroughError) else cause.strerror if isinstance(cause, OSError) else ""
    if why and why not in error.message:
        note(f"  why: {why}")
    if error.hint:
        note(f"  try: {error.hint}")
    note(f"  reference: {error.reference}")
