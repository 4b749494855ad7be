"""The servers that the AWS contract runs against: moto, and the engine with two workers.

That one worker answers the same is what tests/integration shows.
"""

from __future__ import annotations

import functools
import http.client
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.aws import ACCOUNT_ID, Account, key_settings, unique
from tests.contracts.aws.traps import TRAPS
from tests.e2e.engine import Engine
from tests.e2e.processes import Process, environment, free_port

MOTO, ENGINE = "moto", "two-workers"


@pytest.fixture(autouse=True)
def _unaided() -> None:
    """These servers are on the network."""


@dataclass(frozen=True)
class Server:
    name: str
    account: Account


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Server]]:
    """One of each for all tests: they keep out of each other's way by the names they use."""
    with ExitStack() as stack:

        @functools.cache
        def start(name: str) -> Server:
            opener = _moto if name == MOTO else _engine
            return Server(name, stack.enter_context(opener(tmp_path_factory.mktemp(name), name)))

        yield start


@pytest.fixture(params=[ENGINE, MOTO])
def server(request: pytest.FixtureRequest, servers: Callable[[str], Server]) -> Server:
    return servers(request.param)


@contextmanager
def _moto(folder: Path, name: str) -> Iterator[Account]:
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "--host", "127.0.0.1", "--port", str(port)]
    with Process(name, command, env=environment(folder, MOTO_ACCOUNT_ID=ACCOUNT_ID), log=folder / "log") as process:
        process.wait_until(lambda: _answers(port), "moto to answer")
        yield Account(f"http://127.0.0.1:{port}")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/moto-api/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def _engine(folder: Path, name: str) -> Iterator[Account]:
    keys = key_settings(folder, Account(""))
    config = f'standard_rules = false\n[serve]\nworkers = 2\n[ecr]\naccount = "{ACCOUNT_ID}"\n{keys}'
    engine = Engine(folder / "engine", config)
    try:
        engine.start()
        yield Account(engine.url)
    finally:
        engine.end()


@pytest.fixture
def ecr(server: Server) -> Any:
    return server.account.client("ecr")


@pytest.fixture
def secrets(server: Server) -> Any:
    return server.account.client("secretsmanager")


@pytest.fixture
def sts(server: Server) -> Any:
    return server.account.client("sts")


@pytest.fixture
def repository(ecr: Any) -> str:
    """The name of a repository that is there, of this test only."""
    name = unique("own")
    ecr.create_repository(repositoryName=name)
    return name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """moto must fail a test that a trap is named for; once it does not, the test says so."""
    for item in items:
        call = getattr(item, "callspec", None)
        for mark in item.iter_markers("moto_trap"):
            if call is not None and call.params.get("server") == MOTO:
                reason = f"{mark.args[0]}: {TRAPS[mark.args[0]]}"
                failures = (AssertionError, BotoCoreError, ClientError, LookupError, pytest.fail.Exception)
                item.add_marker(pytest.mark.xfail(strict=True, raises=failures, reason=reason))
