"""`pullthrough evict`."""

from __future__ import annotations

from typing import Annotated

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.operations.json_form import to_json
from pullthrough.units import format_bytes


def evict(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and why.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make room now, as the engine does by itself.

    Brings the cache down to max_size and min_free. Least recently pulled images go first; never what is pinned, being
    served or being filled. What went is filled again on the next pull.
    """
    from pullthrough.operations.room import EVICT, EvictRequest

    with session(context, config, data) as cache:
        answer = cache.perform(EVICT, EvictRequest(dry_run))
    if as_json:
        write_json(to_json(answer))
        return
    if answer.evicted:
        write_table(
            ("image", "digest", "size", "last pulled", "why"),
            [
                (
                    entry.image,
                    entry.digest[:19],
                    format_bytes(entry.bytes),
                    entry.last_pulled or "never",
                    entry.reason,
                )
                for entry in answer.evicted
            ],
            right=frozenset({"size"}),
        )
    limit = "no limit" if answer.limit_bytes is None else f"a limit of {format_bytes(answer.limit_bytes)}"
    verb = "would be freed" if answer.dry_run else "freed"
    write(f"{format_bytes(answer.freed_bytes)} {verb}; {format_bytes(answer.stored_bytes)} stored, {limit}")
