"""`pullthrough demo`."""

from __future__ import annotations

import typer

from pullthrough.cli.options import JsonOption, dependencies_of


def demo(context: typer.Context, as_json: JsonOption = False) -> int:
    """Show what the cache does, offline, in seconds.

    Starts a small upstream that behaves like Docker Hub and an engine before it, pulls an image in several ways, and
    prints what each pull cost.
    """
    return dependencies_of(context).demo(json_output=as_json)
