"""A client under test: made of real parts, with recorded waits, a clock that is set, and names that lead to loopback."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pullthrough.settings import UpstreamSettings
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass, classify
from pullthrough.upstream.interfaces import Upstream, Upstreams
from pullthrough.upstream.upstreams import HttpUpstreams
from tests.integration.upstream.servers import Server


class Recorder:
    """An UpstreamObserver that keeps what it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, int | None]] = []
        self.size_bytes: Counter[str] = Counter()
        self.budgets: list[tuple[str, int | None, float]] = []
        self.health: list[tuple[str, bool]] = []
        self.credentials: list[tuple[str, bool]] = []
        self.unhealthy = threading.Event()

    def on_request(self, upstream: str, method: str, status: int | None) -> None:
        self.requests.append((upstream, method, status))

    def on_bytes(self, upstream: str, size_bytes: int) -> None:
        self.size_bytes[upstream] += size_bytes

    def on_budget(self, upstream: str, remaining: int | None, paused_until: float) -> None:
        self.budgets.append((upstream, remaining, paused_until))

    def on_health(self, upstream: str, healthy: bool) -> None:
        self.health.append((upstream, healthy))
        if not healthy:
            self.unhealthy.set()

    def on_credential(self, upstream: str, ok: bool) -> None:
        self.credentials.append((upstream, ok))

    @property
    def statuses(self) -> list[int | None]:
        return [status for _, _, status in self.requests]


class Time:
    """Stands still but for what is waited; `slept` holds those waits."""

    START = 1_800_000_000.0

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def clock(self) -> float:
        return self.START + self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def pause(self, abort: AbortHandle, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def make_upstreams(
    recorder: Recorder,
    time: Time,
    *,
    settings: Mapping[str, UpstreamSettings] | None = None,
    hosts: Mapping[str, Server | str] | None = None,
    classes: Mapping[str, AddressClass] | None = None,
    environ: Mapping[str, str] | None = None,
    **parts: Any,
) -> Upstreams:
    """`hosts` says which server plays a name, or which address a name has; `classes` what an address passes for."""

    def look_up(host: str, port: int, **options: object) -> list[Any]:
        found = (hosts or {}).get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name in this test")
        address = (found, port) if isinstance(found, str) else (found.host, found.port)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", address)]

    return HttpUpstreams(
        settings or {},
        observe=recorder,
        environ=environ or {},
        clock=time.clock,
        monotonic=parts.pop("monotonic", time.monotonic),
        sleep=time.sleep,
        pause=time.pause,
        random=lambda: 0.5,
        resolver=parts.pop("resolver", look_up),
        classify=lambda address: (classes or {}).get(address) or classify(address),
        **parts,
    )


def reached_at(*servers: Server | str, **options: Any) -> UpstreamSettings:
    """Settings with these endpoints and, unless said otherwise, no retries."""
    endpoints = tuple(server if isinstance(server, str) else server.url for server in servers)
    return UpstreamSettings(**{"endpoint": endpoints, "retries": 0, **options})


def over_tls(ca: Path, **options: Any) -> UpstreamSettings:
    return UpstreamSettings(**{"ca_file": ca, "retries": 0, **options})


Make = Callable[..., Upstreams]


def one(make: Make, *servers: Server | str, host: str = "registry.example.com", **options: Any) -> Upstream:
    """The upstream of `host`, reached at `servers`."""
    parts = {
        name: options.pop(name) for name in ("classes", "environ", "hosts", "monotonic", "resolver") if name in options
    }
    return make(settings={host: reached_at(*servers, **options)}, **parts).get(host)
