"""`pullthrough pin`."""

from __future__ import annotations

import typer

from pullthrough.cli.operations import session
from pullthrough.cli.options import ConfigOption, DataOption, ImageArgument, JsonOption
from pullthrough.cli.output import write, write_json


def pin(
    context: typer.Context,
    image: ImageArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep an image from eviction.

    An index keeps the platforms that are cached. Pinning fetches nothing.
    """
    with session(context, config, data) as cache:
        answer = cache.operations.pin({"image": cache.image(image)})
    if as_json:
        write_json(answer)
    else:
        write(f"{answer['image']} {'is pinned' if answer['pinned'] else 'is not pinned'}")
