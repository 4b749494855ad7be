"""`pullthrough pin` and `pullthrough unpin`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, ImageArgument, JsonOption
from pullthrough.cli.output import write, write_json
from pullthrough.operations.json_form import to_json

if TYPE_CHECKING:
    from pullthrough.operations.images import PinAnswer


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
    from pullthrough.operations.images import PIN, ImageRequest

    with session(context, config, data) as cache:
        _show(cache.perform(PIN, ImageRequest(cache.image(image))), as_json=as_json)


def unpin(
    context: typer.Context,
    image: ImageArgument,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let eviction take an image again."""
    from pullthrough.operations.images import UNPIN, ImageRequest

    with session(context, config, data) as cache:
        _show(cache.perform(UNPIN, ImageRequest(cache.image(image))), as_json=as_json)


def _show(answer: PinAnswer, *, as_json: bool) -> None:
    if as_json:
        write_json(to_json(answer))
    else:
        write(f"{answer.image} {'is pinned' if answer.pinned else 'is not pinned'}")
