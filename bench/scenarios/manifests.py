"""Warm manifests over 32 keep-alive connections to one process."""

from __future__ import annotations

from bench.load import run_small_load
from bench.report import Outcome, Target
from bench.run import Run, Scenario, all_running, candidates, interleaved
from bench.servers import docker_registry, drayage, engine, nginx, upstream


def scenarios() -> list[Scenario]:
    return [Scenario("warm-manifest", "Warm manifest, 32 keep-alive connections", _manifest)]


def _manifest(run: Run, outcome: Outcome) -> None:
    image = run.assets.whole
    with upstream(run.assets, run.folder("upstream")) as source:
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url)},
            {
                "drayage": lambda: drayage(run.work, source.url),
                "docker-registry": lambda: docker_registry(run.assets),
                "nginx": lambda: nginx(run.assets),
            },
        )
        with all_running(run, starts) as servers:
            for server in servers.values():
                server.warm(image, blobs=False)
            for what, reference in (("tag", image.tag), ("digest", image.digest)):
                case = f"warm manifest by {what}, {image.manifest.stat().st_size:,} bytes"
                for number, name in interleaved(run, list(servers)):
                    load = run_small_load(
                        servers[name], servers[name].manifest_path(image, reference), seconds=run.seconds
                    )
                    if number >= 0:
                        outcome.add(case, number, name, load.values())
                run.say(f"  {case}")
                outcome.targets += [
                    Target(case, "requests_per_second", peer="docker-registry", at_least=15),
                    Target(case, "requests_per_second", peer="drayage", at_least=1),
                    Target(case, "p99_ms", at_most=5),
                ]
