"""`pullthrough pull`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.options import ConfigOption, JsonOption, dependencies_of, load
from pullthrough.cli.output import write, write_json, write_table
from pullthrough.oci.names import ImageReference, canonical_host, parse_image_reference
from pullthrough.units import format_bytes, format_duration

if TYPE_CHECKING:
    from pullthrough.client.reports import FetchReport, ProgressEvent, PullReport


def pull(
    context: typer.Context,
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="The image as the cache names it (docker-hub/library/nginx:1.27), "
            "or under its upstream's host (docker.io/library/nginx:1.27).",
        ),
    ],
    registry: Annotated[
        str | None,
        typer.Option("--registry", metavar="URL", help="The cache. Without it: the one that the settings describe."),
    ] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", metavar="OS/ARCH", help="Instead of this machine's platform.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pull an image through the cache and verify every byte of it.

    Keeps nothing. Prints for each manifest and blob how long it took and where the cache had it from.
    """
    reference = parse_image_reference(image)
    address = registry or _registry_of(context, config, reference)
    with _progress(shown=not as_json and sys.stderr.isatty()) as progress:
        report = dependencies_of(context).pull(reference, registry=address, platform=platform, progress=progress)
    if as_json:
        write_json(report.to_dict())
    else:
        _write_report(report)


def _registry_of(context: typer.Context, config: Path | None, image: ImageReference) -> str:
    """The cache on this machine; or the image's own host where that is no rule's upstream."""
    settings = load(context, config, require_tokens=False).settings
    scheme = "https" if settings.serve.tls_cert else "http"
    if image.host and all(rule.upstream != canonical_host(image.host) for rule in settings.rules):
        return f"{scheme}://{image.host}"
    listen = settings.serve.addresses[0]
    # An engine that listens on every address is reached on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    return f"{scheme}://{listen._replace(host=host)}"


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[ProgressEvent], None] | None]:
    """Bars on standard error, one a blob, gone when it is done."""
    if not shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(True), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:

        def update(event: ProgressEvent) -> None:
            digest = str(event.digest)
            if digest not in tasks:
                tasks[digest] = bars.add_task(f"{event.part.value} {digest[:19]}", total=event.size_bytes)
            bars.update(tasks[digest], completed=event.received_bytes)

        yield update


def _write_report(report: PullReport) -> None:
    write_table(
        ("part", "digest", "size", "time", "first byte", "source"),
        [
            (
                fetched.part.value,
                str(fetched.digest)[:19],
                format_bytes(fetched.size_bytes),
                format_duration(fetched.seconds),
                format_duration(fetched.first_byte_seconds),
                _source(fetched),
            )
            for fetched in (*report.manifests, *report.blobs)
        ],
        right=frozenset({"size", "time", "first byte"}),
    )
    platform = f" for {report.platform}" if report.platform else ""
    write(
        f"{report.image}{platform} is {report.digest}\n"
        f"{format_bytes(report.size_bytes)} in {format_duration(report.seconds)}, every digest verified"
    )


def _source(fetched: FetchReport) -> str:
    """What the cache said about an answer."""
    source = fetched.source
    if source is None:
        return "not said"
    age = f"{format_duration(source.age_seconds)} old" if source.age_seconds is not None else ""
    return ", ".join(part for part in (source.outcome, age, source.reason) if part)
