"""The demo's script: an upstream like Docker Hub, an engine in front of it, one pull after another, each measured."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pullthrough.client.pull import pull_image
from pullthrough.client.reports import PullReport
from pullthrough.demo.images import Image, make_artifact, make_image, make_index
from pullthrough.demo.listener import Listener
from pullthrough.demo.rows import (
    DemoRow,
    Measured,
    Promise,
    asks_nothing,
    broken_promises,
    no_blob_again,
    one_copy,
    refused,
    row_of,
    stale,
)
from pullthrough.demo.upstream import UpstreamOptions, UpstreamRegistry
from pullthrough.errors import PullthroughError, UpstreamUnavailable
from pullthrough.oci.names import DOCKER_HUB, parse_image_reference
from pullthrough.server import running
from pullthrough.settings import Settings, load_settings
from pullthrough.units import format_bytes, format_duration

CLIENTS = 50
_PLATFORM = "linux/amd64"
_PREFIX = "docker-hub"
_MIB = 1024 * 1024
#: Docker Hub's limit for callers without a login.
_RATE_LIMIT = 100
#: The demo is done in a third of this on a small machine; beyond, something hangs.
_LIMIT_SECONDS = 90.0
_STALL_SECONDS = 20.0
_LOG_LINES = 30
#: Where no terminal says how wide it is.
_FILE_WIDTH = 110

_CONFIG = """\
[rules.{prefix}]
upstream = "{host}"
# Tags named "latest" are checked before each answer; all others are fresh for a day.
freshness = "24h"
freshness_by_tag = {{ "latest" = "always" }}
revalidate = "before"
anonymous = true

[upstreams."{host}"]
endpoint = "{url}"
queue_timeout = "2s"
"""


@dataclass(frozen=True, slots=True)
class Played:
    rows: tuple[DemoRow, ...]
    seconds: float

    @property
    def broken(self) -> list[str]:
        return broken_promises(self.rows)

    def to_dict(self) -> dict[str, object]:
        return {
            "ok": not self.broken,
            "seconds": round(self.seconds, 6),
            "rows": [row.to_dict() for row in self.rows],
            "broken": self.broken,
        }


def play_and_print(*, json_output: bool) -> int:
    """Blocking; runs an event loop of its own. KeyboardInterrupt passes through, after everything was removed."""
    log = _KeptLog()
    beside = Console(stderr=True)
    waiting = nullcontext() if json_output or not beside.is_terminal else beside.status("pulling …")
    with log.kept(), waiting:
        try:
            played = asyncio.run(_play_until_signal())
        except asyncio.CancelledError as error:
            raise KeyboardInterrupt from error  # SIGTERM; for SIGINT asyncio.run raises it by itself
    if json_output:
        sys.stdout.write(f"{json.dumps(played.to_dict(), indent=2)}\n")
    else:
        print_table(played)
    if not played.broken:
        return 0
    for line in log.lines:
        beside.print(Text(line))
    return 1


async def play(folder: Path) -> Played:
    """The whole demo, its files in `folder`. Raises PullthroughError only where the engine does not even start."""
    started = time.monotonic()
    async with asyncio.timeout(_LIMIT_SECONDS), _Stage.set_up(folder) as stage:
        rows = [row async for row in stage.rows()]
    return Played(tuple(rows), time.monotonic() - started)


async def _play_until_signal() -> Played:
    """SIGTERM ends the demo as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        with tempfile.TemporaryDirectory(prefix="pullthrough-demo-") as folder:
            return await play(Path(folder))
    except TimeoutError as error:
        raise UpstreamUnavailable(
            f"the demo did not end within {_LIMIT_SECONDS:.0f} s", upstream=DOCKER_HUB, hint="is the machine very busy?"
        ) from error
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class _Stage:
    """The upstream and the engine, both serving, and the images."""

    def __init__(self, registry: UpstreamRegistry, listener: Listener, cache_url: str, images: _Images) -> None:
        self._registry = registry
        self._listener = listener
        self._cache_url = cache_url
        self._images = images

    @classmethod
    @asynccontextmanager
    async def set_up(cls, folder: Path) -> AsyncIterator[_Stage]:
        images = await asyncio.to_thread(_Images.make, folder)
        registry = UpstreamRegistry(UpstreamOptions(rate_limit=_RATE_LIMIT))
        listener = Listener(registry.handle)
        registry.url = listener.url
        registry.add("library/app", images.app, "1.0", "latest")
        registry.add("library/popular", images.popular, "1.0")
        registry.add("library/late", images.late, "1.0")
        try:
            await listener.start()
            async with running(_settings(folder, listener.url)) as engine:
                yield cls(registry, listener, engine.url, images)
        finally:
            await listener.close()

    async def rows(self) -> AsyncIterator[DemoRow]:
        app = f"{_PREFIX}/library/app"
        yield await self._row("cold", "each body once from the upstream", one_copy, f"{app}:1.0")
        yield await self._row("warm", "nothing asked of the upstream", asks_nothing, f"{app}:1.0")
        yield await self._row(
            "by digest", "nothing asked of the upstream", asks_nothing, f"{app}@{self._images.app.digest}"
        )
        yield await self._row("another tag of it", "no blob a second time", no_blob_again, f"{app}:latest")
        yield await self._row(
            f"cold, {CLIENTS} clients at once",
            "each body once from the upstream",
            one_copy,
            f"{_PREFIX}/library/popular:1.0",
            clients=CLIENTS,
        )
        await self._listener.stop()
        yield await self._row("upstream cut off", "the cached image", asks_nothing, f"{app}:1.0")
        yield await self._row("upstream cut off, tag due for a check", "the cached image", stale, f"{app}:latest")
        await self._listener.start()
        # Others behind the same address have used it up.
        self._registry.set_pulls_left(0)
        yield await self._row(
            "over the rate limit, cold", "429 with the reason", refused, f"{_PREFIX}/library/late:1.0"
        )
        yield await self._row("over the rate limit, warm", "nothing asked of the upstream", asks_nothing, f"{app}:1.0")

    async def _row(self, pull: str, promise: str, check: Promise, image: str, *, clients: int = 1) -> DemoRow:
        self._registry.requests.clear()
        started = time.monotonic()
        pulls = await asyncio.gather(*(self._pull(image) for _ in range(clients)))
        seconds = time.monotonic() - started
        return row_of(pull, promise, check, Measured(pulls, list(self._registry.requests), seconds))

    async def _pull(self, image: str) -> PullReport | PullthroughError:
        try:
            return await pull_image(
                parse_image_reference(image),
                registry=self._cache_url,
                platform=_PLATFORM,
                stall_timeout_seconds=_STALL_SECONDS,
            )
        except PullthroughError as error:
            return error


@dataclass(frozen=True, slots=True)
class _Images:
    """A multi-arch image, one that many want at once, and one that comes too late."""

    app: Image
    popular: Image
    late: Image

    @classmethod
    def make(cls, folder: Path) -> _Images:
        """Blocking. Layers are files in `folder`."""
        layers = folder / "images"
        layers.mkdir()
        amd64 = make_image("app", layer_sizes=(48 * _MIB, 24 * _MIB, 3 * _MIB, 0), platform=_PLATFORM, folder=layers)
        arm64 = make_image("app", layer_sizes=(5 * _MIB, 3 * _MIB), platform="linux/arm64/v8", folder=layers)
        attestation = make_artifact("attestation", subject=None, artifact_type="application/vnd.in-toto+json")
        popular = make_image("popular", layer_sizes=(6 * _MIB, 2 * _MIB, _MIB), platform=_PLATFORM, folder=layers)
        return cls(
            app=make_index(amd64, arm64, attestation),
            popular=make_index(popular, docker=False),
            late=make_index(make_image("late", platform=_PLATFORM)),
        )


def _settings(folder: Path, upstream_url: str) -> Settings:
    config = folder / "pullthrough.toml"
    config.write_text(_CONFIG.format(prefix=_PREFIX, host=DOCKER_HUB, url=upstream_url))
    flags = {
        "serve.listen": "127.0.0.1:0",
        "serve.data": str(folder / "data"),
        "serve.access_log": "off",
        # The demo's few files are its own to remove, however full the disk is.
        "serve.max_size": "never",
        "serve.min_free": "never",
    }
    return load_settings(config, {}, flags, folder=folder).settings


class _KeptLog(logging.Handler):
    """The engine's last log lines. Between the table's lines they would be noise: the demo provokes its warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    @contextmanager
    def kept(self) -> Iterator[None]:
        log = logging.getLogger("pullthrough")
        propagated, log.propagate = log.propagate, False
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.propagate = propagated


def print_table(played: Played) -> None:
    """For people, to standard output."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("pull")
    for column in ("time", "bytes from\nupstream", "requests to\nupstream"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("outcome")
    for row in played.rows:
        measured = row.measured
        table.add_row(
            row.pull,
            format_duration(measured.seconds),
            format_bytes(measured.bytes_from_upstream),
            str(len(measured.requests)),
            Text(row.outcome, style="red" if row.broken else ""),
        )
    console.print("A small registry that behaves like Docker Hub, an engine in front of it, pulls through the engine:")
    console.print(table)
    for broken in played.broken:
        console.print(Text(f"Promise broken: {broken}", style="red"))
    if not played.broken:
        console.print(f"All promises kept. Each number was measured in this run of {played.seconds:.1f} s.")
