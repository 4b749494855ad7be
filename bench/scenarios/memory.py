"""Resident memory: idle, and how much a client that hardly reads costs (plain, TLS, on a body that is still filling)."""

from __future__ import annotations

import time

from bench.load import sip, slow_clients
from bench.machine import resident_bytes
from bench.report import Outcome, Target
from bench.run import Run, Scenario, candidates, in_turns
from bench.servers import Server, Start, engine, fresh, upstream, wait_for_settled

MB = 1e6
PLAIN, TLS, FILLING = "plain", "TLS", "plain, beside the fill of the same blob"
IDLE_CASE = "idle after one pull"


def scenarios() -> list[Scenario]:
    return [Scenario("memory", "Resident memory of the engine", _memory)]


def _memory(run: Run, outcome: Outcome) -> None:
    count = 100 if run.quick else 128
    image = run.assets.of_size(run.assets.small_mib)
    large = run.assets.of_size(run.assets.large_mib)
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {
                PLAIN: lambda build: engine(build, run.assets, source.url),
                TLS: lambda build: engine(build, run.assets, source.url, tls=True),
                FILLING: lambda build: engine(build, run.assets, source.slow_url),
            },
        )
        for number, condition, build in in_turns(run, [PLAIN, TLS, FILLING], warm_up=False):
            if start := starts.get(name := build.label(condition)):
                filling = condition == FILLING
                _grow(run, outcome, number, name, start, (large if filling else image).repository, count, filling)
    outcome.targets += [
        Target(IDLE_CASE, "rss_mb", candidate=PLAIN, at_most=90),
        Target(_case(count), "mb_per_client", candidate=PLAIN, at_most=0.1),
        Target(_case(count), "mb_per_client", candidate=FILLING, at_most=0.1),
        Target(_case(count), "mb_per_client", candidate=TLS, at_most=0.6),
    ]


def _case(count: int) -> str:
    return f"{count} clients that read 8 KiB now and then"


def _grow(
    run: Run, outcome: Outcome, number: int, name: str, start: Start, repository: str, count: int, filling: bool
) -> None:
    image = run.assets.image(repository)
    with fresh(start, run.folder(f"memory {name}")) as server:
        server.warm(image, blobs=not filling)
        # The first few clients pay for buffers that all share; they are not growth a client.
        _hold(server, server.blob_path(image), 4, seconds=0.5)
        if not filling:
            wait_for_settled(server)
        idle = resident_bytes(server.process.pid)
        if not filling:
            outcome.add(IDLE_CASE, number, name, {"rss_mb": idle / MB})
        peak = _hold(server, server.blob_path(image), count, seconds=run.seconds + 1)
        outcome.add(
            _case(count), number, name, {"rss_mb": peak / MB, "mb_per_client": max(0.0, peak - idle) / MB / count}
        )


def _hold(server: Server, path: str, count: int, *, seconds: float) -> int:
    """Resident bytes at the highest of ten moments, while the clients are there."""
    peak = 0
    with slow_clients(server, path, count) as sockets:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sip(sockets, chunk_bytes=8192, seconds=seconds / 10, pause=0.05)
            peak = max(peak, resident_bytes(server.process.pid))
    return peak
