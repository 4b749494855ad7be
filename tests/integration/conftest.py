"""The engine as a process before a scripted upstream, with one worker and with two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.aws import unique
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.ecr import Site, open_site
from tests.integration.lanes import Lanes, open_lanes

#: Starts an engine with this configuration beside `workers` and the way to the upstream; ended by the fixture.
StartEngine = Callable[..., Engine]


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    """Every test that uses it, directly or through `start_engine`, runs with one worker and with two."""
    count: int = request.param
    return count


@pytest.fixture(scope="session", params=[1, 2], ids=["one-worker", "two-workers"])
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """One engine for all tests that want no more than a rule and a repository of their own."""
    with open_lanes(tmp_path_factory.mktemp("lanes"), request.param) as opened:
        yield opened


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """Docker Hub's look-alike, without authentication."""
    with ScriptedUpstream() as registry:
        yield registry


@pytest.fixture
def start_engine(tmp_path: Path, workers: int, upstream: ScriptedUpstream) -> Iterator[StartEngine]:
    """`start_engine(rule="", serve="", reach="", more="", environ={})`: lines for the tables of the configuration.

    The rule is `docker-hub` of registry-1.docker.io, reached at `upstream`; the standard rules are off.
    """
    with ExitStack() as stack:

        def start(
            rule: str = "",
            serve: str = "",
            reach: str = "",
            more: str = "",
            *,
            environ: dict[str, str] | None = None,
            folder: str = "engine",
        ) -> Engine:
            config = (
                "standard_rules = false\n"
                f"[serve]\nworkers = {workers}\n{serve}\n"
                f'[rules.docker-hub]\nupstream = "registry-1.docker.io"\n{rule}\n'
                f'[upstreams."registry-1.docker.io"]\nendpoint = "{upstream.url}"\n{reach}\n'
                f"{more}\n"
            )
            engine = Engine(tmp_path / folder, config, environ=environ)
            stack.callback(engine.end)
            engine.start()
            return engine

        yield start


# For tests of what the APIs set up. A module with other settings has a `site` of its own.


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site"), request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def ecr(site: Site) -> Any:
    """A client of the ECR API."""
    return site.client()


@pytest.fixture
def own(ecr: Any) -> str:
    """A new repository under no rule."""
    name = unique("own/app")
    ecr.create_repository(repositoryName=name)
    return name
