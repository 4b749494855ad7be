"""`pullthrough serve`."""

from __future__ import annotations

import typer

from pullthrough.cli.options import ConfigOption, DataOption, ListenOption, dependencies_of, load


def serve(
    context: typer.Context, config: ConfigOption = None, listen: ListenOption = None, data: DataOption = None
) -> int:
    """Start the cache in the foreground.

    Ready means: a log line with the address, and 200 from /healthz and /readyz. SIGTERM lets answers in flight finish;
    SIGHUP reads the certificate again.
    """
    return dependencies_of(context).serve(load(context, config, data=data, listen=listen))
