"""Warm blobs: plain HTTP and TLS 1.3, one size and number of clients a case."""

from __future__ import annotations

from bench.assets import Image
from bench.load import run_body_load
from bench.machine import Unavailable
from bench.native import has_openssl_headers
from bench.report import Outcome, Target
from bench.run import Run, Scenario, all_running, candidates, interleaved
from bench.servers import docker_registry, engine, nginx, upstream


def scenarios() -> list[Scenario]:
    return [
        Scenario("warm-blob-plain", "Warm blob, plain HTTP", _plain),
        Scenario("warm-blob-tls", "Warm blob, TLS 1.3 (AES-128-GCM)", _tls),
    ]


def _plain(run: Run, outcome: Outcome) -> None:
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url)},
            {
                "nginx": lambda: nginx(run.assets),
                "docker-registry": lambda: docker_registry(run.assets),
            },
        )
        with all_running(run, starts) as servers:
            for size in (run.assets.small_mib, run.assets.large_mib):
                image = run.assets.of_size(size)
                for server in servers.values():
                    server.warm(image)
                for clients in (1, 8, 32):
                    case = f"warm blob, {size} MiB, {clients} client{'s' if clients > 1 else ''}"
                    for number, name in interleaved(run, list(servers)):
                        load = run_body_load(
                            run.load,
                            servers[name],
                            servers[name].blob_path(image),
                            clients=clients,
                            seconds=run.seconds,
                        )
                        if number >= 0:
                            outcome.add(case, number, name, load.values())
                    run.say(f"  {case}")
                    outcome.targets += [
                        Target(case, "mb_per_second", peer="nginx", at_least=0.92),
                        Target(case, "cpu_seconds_per_gb", peer="nginx", at_most=1.3),
                        Target(case, "mb_per_second", peer="docker-registry", at_least=2),
                        Target(case, "cpu_seconds_per_gb", peer="docker-registry", at_most=0.333),
                    ]


def _tls(run: Run, outcome: Outcome) -> None:
    if not has_openssl_headers():
        raise Unavailable("the load generator needs OpenSSL's headers for TLS (Debian: apt-get install libssl-dev)")
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url, tls=True)},
            {"nginx": lambda: nginx(run.assets, tls=True)},
        )
        image: Image = run.assets.of_size(run.assets.small_mib)
        with all_running(run, starts) as servers:
            for server in servers.values():
                server.warm(image)
            for clients in (1, 8):
                case = f"warm blob over TLS, {run.assets.small_mib} MiB, {clients} client{'s' if clients > 1 else ''}"
                for number, name in interleaved(run, list(servers)):
                    load = run_body_load(
                        run.load, servers[name], servers[name].blob_path(image), clients=clients, seconds=run.seconds
                    )
                    if number >= 0:
                        outcome.add(case, number, name, load.values())
                run.say(f"  {case}")
                outcome.targets.append(Target(case, "mb_per_second", peer="nginx", at_least=1.0))
