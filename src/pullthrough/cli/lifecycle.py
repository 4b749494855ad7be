"""`pullthrough lifecycle`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pullthrough.cli.operations import session
from pullthrough.cli.options import ConfigOption, DataOption, JsonOption
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.units import counted

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
    with session(context, config, data) as cache:
        answer = cache.operations.lifecycle({"repository": repository, "dry_run": dry_run})
    if as_json:
        write_json(answer)
        return
    rows = [
        row
        for entry in answer["repositories"]
        for what in ("expired", "archived")
        for row in _rows(entry["repository"], entry[what], what)
    ]
    if rows:
        write_table(("image", "digest", "what", "rule"), rows, right=frozenset({"rule"}))
    for entry in answer["repositories"]:
        if entry["error"]:
            write(f"{entry['repository']}: {entry['error']}")
        if entry["skipped"]:
            write(
                f"{entry['repository']}: {counted(entry['skipped'], 'image')} changed meanwhile, left for the next time"
            )
    verb = "would change" if answer["dry_run"] else "changed"
    count = len(answer["repositories"])
    write(f"{counted(len(rows), 'image')} {verb}, by {count:,} {'policy' if count == 1 else 'policies'}")


def _rows(repository: str, images: list[dict[str, Any]], what: str) -> list[tuple[str, str, str, str]]:
    return [
        (
            f"{repository}:{','.join(image['tags'])}" if image["tags"] else repository,
            image["digest"][:19],
            what,
            str(image["rule"]),
        )
        for image in images
    ]
