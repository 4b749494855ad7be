"""`pullthrough lifecycle`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.engine.session import session
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.operations.json_form import to_json
from pullthrough.units import counted

if TYPE_CHECKING:
    from pullthrough.operations.room import ImageUnderRule

_HELP = "As in `docker-hub/library/nginx`. All repositories with a policy if left out."


def lifecycle(
    context: typer.Context,
    repository: Annotated[str | None, typer.Argument(metavar="[REPOSITORY]", help=_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go, and by which rule.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Carry out lifecycle policies now, as the engine does by itself.

    An index goes with its platforms and a subject with its referrers; what is pinned stays. Policies are set with
    `aws ecr put-lifecycle-policy` or a repository creation template.
    """
    from pullthrough.operations.room import LIFECYCLE, LifecycleRequest

    with session(context, config, data) as cache:
        answer = cache.perform(LIFECYCLE, LifecycleRequest(repository, dry_run))
    if as_json:
        write_json(to_json(answer))
        return
    rows = [
        _row(entry.repository, image, what)
        for entry in answer.repositories
        for what, images in (("expired", entry.expired), ("archived", entry.archived))
        for image in images
    ]
    if rows:
        write_table(("image", "digest", "what", "rule"), rows, right=frozenset({"rule"}))
    for entry in answer.repositories:
        if entry.error:
            write(f"{entry.repository}: {entry.error}")
        if entry.skipped:
            write(f"{entry.repository}: {counted(entry.skipped, 'image')} changed meanwhile, left for the next time")
    verb = "would change" if answer.dry_run else "changed"
    write(f"{counted(len(rows), 'image')} {verb}, by {counted(len(answer.repositories), 'policy')}")


def _row(repository: str, image: ImageUnderRule, what: str) -> tuple[str, str, str, str]:
    name = f"{repository}:{','.join(image.tags)}" if image.tags else repository
    return name, image.digest[:19], what, str(image.rule)
