"""Cold blobs: every sample starts its candidate in an empty folder, has it read the manifest, then asks for the layer."""

from __future__ import annotations

from bench.load import run_body_load
from bench.report import Outcome, Target
from bench.run import Run, Scenario, candidates, interleaved
from bench.servers import Start, Upstream, docker_registry_proxy, engine, floor, fresh, upstream


def scenarios() -> list[Scenario]:
    return [
        Scenario("cold-blob-1", "Cold blob, one client", _one),
        Scenario("cold-blob-8", "Cold blob, eight clients", _eight),
    ]


def _one(run: Run, outcome: Outcome) -> None:
    case = f"cold blob, {run.assets.medium_mib} MiB, 1 client"
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url)},
            {
                "floor": lambda: floor(run.work, source.url),
                "docker-registry proxy": lambda: docker_registry_proxy(source.url),
            },
        )
        _measure(run, outcome, case, source, starts, clients=1)
    outcome.targets += [
        Target(case, "mb_per_second", peer="floor", at_least=0.85),
        Target(case, "cpu_seconds_per_gb", peer="floor", at_most=1.25),
        Target(case, "cpu_seconds_per_gb", peer="docker-registry proxy", at_most=0.45),
        Target(case, "first_byte_delay_ms", at_most=5),
        Target(case, "copies", at_most=1),
    ]


def _eight(run: Run, outcome: Outcome) -> None:
    case = f"cold blob, {run.assets.medium_mib} MiB, 8 clients"
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url)},
            {"docker-registry proxy": lambda: docker_registry_proxy(source.url)},
        )
        _measure(run, outcome, case, source, starts, clients=8)
    outcome.targets += [
        Target(case, "copies", at_most=1),
        Target(case, "mb_per_second_each", peer="docker-registry proxy", at_least=2.5),
    ]


def _measure(
    run: Run, outcome: Outcome, case: str, source: Upstream, starts: dict[str, Start], *, clients: int
) -> None:
    image = run.assets.of_size(run.assets.medium_mib)
    digest = image.layer.digest
    source.server.drain(source.server.blob_path(image))  # into the page cache, whoever comes first
    for number, name in interleaved(run, list(starts), warm_up=False):
        # The upstream's own first byte, as near in time as can be.
        direct = run_body_load(run.load, source.server, source.server.blob_path(image), seconds=0.05)
        with fresh(starts[name], run.folder(name)) as server:
            if name != "floor":
                server.warm(image, blobs=False)
            server.process.settle()
            _, before = source.transfers(digest)
            load = run_body_load(run.load, server, server.blob_path(image), clients=clients, settle=True)
            _, after = source.transfers(digest)
        # Per client: bytes of one body over the time each took; CPU per GB that came to clients.
        each = [image.layer.size_bytes / 1e6 / seconds for seconds in load.connection_seconds]
        values = {
            **load.values(),
            "mb_per_second_each": sum(each) / len(each),
            "first_byte_ms": load.first_byte_ms,
            "first_byte_delay_ms": load.first_byte_ms - direct.first_byte_ms,
            "copies": (after - before) / image.layer.size_bytes,
        }
        outcome.add(case, number, name, values)
    run.say(f"  {case}")
