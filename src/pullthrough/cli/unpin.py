"""`pullthrough unpin`."""

from __future__ import annotations

import typer

from pullthrough.cli.operations import session
from pullthrough.cli.options import ConfigOption, DataOption, ImageArgument, JsonOption
from pullthrough.cli.output import write, write_json


def unpin(
    context: typer.Context,
    image: ImageArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let eviction take an image again."""
    with session(context, config, data) as cache:
        answer = cache.operations.unpin({"image": cache.image(image)})
    if as_json:
        write_json(answer)
    else:
        write(f"{answer['image']} {'is pinned' if answer['pinned'] else 'is not pinned'}")
