"""What the commands depend on, so that a test can hand in its own.

The defaults import the real thing when they are called: a command loads only what it needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pullthrough.cli import terminal

if TYPE_CHECKING:
    from pullthrough.client.reports import ProgressEvent, PullReport
    from pullthrough.oci.names import ImageReference
    from pullthrough.operations.operation import Performer
    from pullthrough.provision.aws import AwsConnection
    from pullthrough.settings import Loaded


def _serve(loaded: Loaded) -> int:
    from pullthrough.server import serve

    return serve(loaded)


def _demo(*, json_output: bool) -> int:
    from pullthrough.demo import run

    return run(json_output=json_output)


def _pull(
    image: ImageReference,
    *,
    registry: str,
    platform: str | None,
    progress: Callable[[ProgressEvent], None] | None,
) -> PullReport:
    import asyncio

    from pullthrough.client.pull import pull_image

    return asyncio.run(pull_image(image, registry=registry, platform=platform, progress=progress))


def _offline(loaded: Loaded) -> AbstractContextManager[Performer]:
    from pullthrough.server import offline

    return offline(loaded)


def _connect(
    environ: Mapping[str, str], *, profile: str | None, region: str | None, endpoint_url: str | None
) -> AwsConnection:
    from pullthrough.provision.aws import connect

    return connect(environ, profile=profile, region=region, endpoint_url=endpoint_url)


@dataclass(frozen=True)
class Dependencies:
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    #: Runs an engine until it is told to stop; the exit code.
    serve: Callable[[Loaded], int] = _serve
    #: Called with `json_output`; the exit code.
    demo: Callable[..., int] = _demo
    #: Pulls an image and verifies it; `registry` is the cache's URL, `progress` gets each blob's events.
    pull: Callable[..., PullReport] = _pull
    #: The operations on a data folder that no engine holds; takes the folder's lock.
    offline: Callable[[Loaded], AbstractContextManager[Performer]] = _offline
    #: What the module works on: an AWS account in a region, or an engine.
    connect: Callable[..., AwsConnection] = _connect
    #: Whether somebody sits at a terminal and can be asked.
    is_terminal: Callable[[], bool] = terminal.is_terminal
    #: Asks; the second argument says whether the answer is a secret.
    ask: Callable[[str, bool], str] = terminal.ask
