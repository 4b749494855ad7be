"""`pullthrough refresh`."""

from __future__ import annotations

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, ImageArgument, JsonOption
from pullthrough.cli.output import write, write_json
from pullthrough.operations.json_form import to_json


def refresh(
    context: typer.Context,
    image: ImageArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a tag with its upstream now.

    At most one check of a tag runs at a time, and one in 10 seconds; an unchanged tag costs one HEAD.
    """
    from pullthrough.operations.images import REFRESH, ImageRequest

    with session(context, config, data) as cache:
        answer = cache.perform(REFRESH, ImageRequest(cache.image(image)))
    if as_json:
        write_json(to_json(answer))
        return
    what = "now is" if answer.changed else "is still"
    write(f"{answer.image} {what} {answer.digest} (checked {answer.checked_at})")
