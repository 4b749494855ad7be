"""The AWS APIs: small calls beside moto in server mode, and lists of a registry with many images.

Every request is signed and every signature is checked by the engine; requests are signed before the clock starts
(bench.signing), so that the load generator is not what is slow. moto checks no signature. It has no
DescribePullThroughCacheRules: its DescribeRepositories is the read beside it, with as many repositories as there are
rules, which is the cheaper answer of the two for moto.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.builds import ROOT, Build
from bench.load import run_small_load
from bench.machine import SERVER_CORE, Unavailable, free_port, resident_bytes
from bench.processes import Process
from bench.report import Outcome, Target
from bench.run import Run, Scenario, all_running, candidates, interleaved
from bench.servers import Server, Start, fresh, start_engine, write_engine_config
from bench.signing import ACCESS_KEY_ID, SECRET_ACCESS_KEY, sign, write_wrk_script

TOKEN = "GetAuthorizationToken, 32 keep-alive connections"
RULES = "DescribePullThroughCacheRules of 10 rules; moto: DescribeRepositories of 10"
_PEER = "moto"
_RULES = 10
FIRST_PAGE = "first page of up to 100, one after the other"
ALL_IMAGES = "DescribeImages of every repository, page by page"
LIST_IMAGES = "ListImages of the largest repository, page by page"
LIST_REPOSITORIES = "DescribeRepositories, 10 a page"


def scenarios() -> list[Scenario]:
    return [
        Scenario("ecr-calls", "The ECR API, small calls to one process on one core", _calls),
        Scenario("ecr-lists", "The ECR API, lists of a large registry", _lists),
    ]


def _engine(build: Build, registry_size: tuple[int, int, int] | None = None) -> Start:
    """With one key, and the catalog filled where a size is given: repositories, images, images of the largest."""
    build.program()  # or Unavailable

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        secret = folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(SECRET_ACCESS_KEY)
        key = f'[ecr.keys.bench]\naccess_key_id = "{ACCESS_KEY_ID}"\nsecret_access_key_file = "{secret}"\nrole = "admin"\n'
        config = folder / "pullthrough.toml"
        write_engine_config(config, ["http://127.0.0.1:9"], extra=key)
        if registry_size is not None:
            # By the build's own storage: a catalog belongs to a version.
            program = [build.python, "-P", ROOT / "bench" / "registry.py"]
            command = [*program, folder / "data" / "catalog.sqlite", *registry_size]
            subprocess.run([str(part) for part in command], check=True)
        server = start_engine(folder, config, build=build)
        try:
            yield server
        finally:
            server.process.stop()

    return start


def _moto() -> Start:
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        raise Unavailable(f"{program} is not there; run `make setup-dev`")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        port = free_port()
        command = [str(program), "--host", "127.0.0.1", "--port", str(port)]
        server = Server(_PEER, Process(command, folder / "output", core=SERVER_CORE), port)
        try:
            server.process.wait_until(lambda: _is_up(server), "an answer from moto")
            yield server
        finally:
            server.process.stop()

    return start


def _is_up(server: Server) -> bool:
    try:
        return server.get("/moto-api/")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


class _Client:
    """A keep-alive connection. Signing is not in `seconds`, the time that the last answer took."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection = server.connect()
        self.seconds = 0.0

    def call(self, operation: str, **input: Any) -> dict[str, Any]:
        signed = sign(self._server.url, operation, **input)
        begin = time.perf_counter()
        self._connection.request("POST", "/", signed.body, dict(signed.headers))
        response = self._connection.getresponse()
        body = response.read()
        self.seconds = time.perf_counter() - begin
        assert response.status == 200, f"{self._server.name}: {operation}: {response.status} {body[:300]!r}"
        answer: dict[str, Any] = json.loads(body)
        return answer

    def pages(self, operation: str, **input: Any) -> Iterator[dict[str, Any]]:
        token: dict[str, str] = {}
        while True:
            page = self.call(operation, **input, **token)
            yield page
            if not page.get("nextToken"):
                return
            token = {"nextToken": page["nextToken"]}


def _calls(run: Run, outcome: Outcome) -> None:
    starts = candidates(run, outcome, {"pullthrough": _engine}, {_PEER: _moto})
    with all_running(run, starts) as servers:
        for name, server in servers.items():
            client = _Client(server)
            for number in range(_RULES):
                if name == _PEER:
                    client.call("CreateRepository", repositoryName=f"team/app-{number}")
                else:
                    client.call(
                        "CreatePullThroughCacheRule", ecrRepositoryPrefix=f"hub-{number}", upstreamRegistryUrl="quay.io"
                    )
        for case in (TOKEN, RULES):
            for number, name in interleaved(run, list(servers)):
                server = servers[name]
                reading = "DescribeRepositories" if name == _PEER else "DescribePullThroughCacheRules"
                operation = "GetAuthorizationToken" if case == TOKEN else reading
                script = run.folder("ecr-calls.lua")
                write_wrk_script(script, [sign(server.url, operation)])
                load = run_small_load(server, "/", seconds=run.seconds, script=script)
                if number >= 0:
                    outcome.add(case, number, name, load.values())
            outcome.targets.append(Target(case, "requests_per_second", peer=_PEER, at_least=5))
            run.say(f"  {case}")
    outcome.notes.append(
        "Every request is signed, before the clock starts, and the engine checks every signature; moto checks none."
    )


def _lists(run: Run, outcome: Outcome) -> None:
    size = (100, 5_000, 1_000) if run.quick else (1_000, 100_000, 10_000)
    images = f"{size[1]:,} images in {size[0]:,} repositories"
    first_page = f"DescribeImages, {images}: {FIRST_PAGE}"
    samples = 200 if run.quick else 2_000
    for number, build in interleaved(run, run.builds, warm_up=False):
        name = build.label("pullthrough")
        with fresh(_engine(build, size), run.folder(name)) as server:
            client = _Client(server)
            names = [
                one["repositoryName"] for page in client.pages("DescribeRepositories") for one in page["repositories"]
            ]
            assert len(names) == size[0]
            took = []
            for repository in [names[0], *run.rng.choices(names, k=samples)]:
                client.call("DescribeImages", repositoryName=repository, maxResults=100)
                took.append(client.seconds)
            outcome.add(first_page, number, name, {"p99_ms": _percentile(took, 99) * 1000})
            outcome.add(ALL_IMAGES, number, name, _growth(server, client, names, size[1]))
            for case, operation, more in (
                (LIST_IMAGES, "ListImages", {"repositoryName": names[0], "maxResults": 50}),
                (LIST_REPOSITORIES, "DescribeRepositories", {"maxResults": 10}),
            ):
                times = [client.seconds for _ in client.pages(operation, **more)]
                outcome.add(case, number, name, {"late_to_early": _late_to_early(times)})
        run.say(f"  round {number + 1}, {name}")
    outcome.targets += [
        Target(first_page, "p99_ms", at_most=20),
        Target(ALL_IMAGES, "growth_mb", at_most=5),
        Target(LIST_IMAGES, "late_to_early", at_most=1.5),
        Target(LIST_REPOSITORIES, "late_to_early", at_most=1.5),
    ]


def _growth(server: Server, client: _Client, names: list[str], images: int) -> dict[str, float]:
    """Of resident memory, between a tenth of the way and the end: what comes before is what the first answers load."""
    found, early = 0, 0
    for number, name in enumerate(names):
        if number == len(names) // 10:
            early = resident_bytes(server.process.pid)
        for page in client.pages("DescribeImages", repositoryName=name, maxResults=50):
            found += len(page["imageDetails"])
    assert found == images, f"{found} of {images} images were listed"
    late = resident_bytes(server.process.pid)
    return {"rss_mb": late / 1e6, "growth_mb": (late - early) / 1e6}


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def _late_to_early(times: list[float]) -> float:
    """How much longer the pages of the last tenth took than those of the first: 1 where paging is linear."""
    tenth = max(1, len(times) // 10)
    return _median(times[-tenth:]) / _median(times[:tenth])


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
