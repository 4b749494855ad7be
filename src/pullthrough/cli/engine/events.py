"""`pullthrough events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.operations.events import EVENTS, MAX_EVENTS, EventsRequest
from pullthrough.operations.json_form import to_json


def events(
    context: typer.Context,
    last: Annotated[int, typer.Option("--last", help="So many of the newest.", min=1, max=MAX_EVENTS)] = 50,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what happened: fetched from upstreams, pushed, deleted.

    The events have the shape that Amazon ECR gives to EventBridge; --json shows them whole, the newest first.
    """
    with session(context, config, data) as cache:
        answer = cache.perform(EVENTS, EventsRequest(last))
    if as_json:
        write_json(to_json(answer))
    elif not answer.events:
        write("nothing has happened yet")
    else:
        write_table(("time", "what", "image", "how"), [_row(event) for event in answer.events])


def _row(event: Mapping[str, Any]) -> tuple[str, str, str, str]:
    detail = event["detail"]
    if "sync-status" in detail:
        what, how = "pull through", detail["sync-status"].lower()
        if "failure-code" in detail:
            how = f"{detail['failure-code']}: {detail['failure-reason']}"
    elif "own-repositories" in detail:
        count = detail["own-repositories-count"]
        what, how = (
            "rule",
            f"{count} pushed {'repository stays' if count == 1 else 'repositories stay'} the registry's own",
        )
        return event["time"], what, f"{detail['ecr-repository-prefix']}/...", how
    else:
        what, how = detail.get("action-type", "").lower(), detail.get("result", "").lower()
    image = detail.get("repository-name", "")
    if tag := detail.get("image-tag"):
        image += f":{tag}"
    elif digest := detail.get("image-digest"):
        image += f"@{digest[:19]}"
    return event["time"], what, image, how
