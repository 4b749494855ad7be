"""What the engine leaves on the disk is for its owner alone, however it was started: files, and no cores."""

from __future__ import annotations

import fnmatch
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.demo.images import make_blob, make_image
from tests.aws import Account
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream, Throttle, Valve
from tests.integration.sites import Download, children
from tests.programs import ROOT

#: As careless as it gets: everybody may read what is written, and cores are written whole.
CARELESS = ("sh", "-c", 'umask 022; ulimit -c "$(ulimit -H -c)"; exec "$@"', "sh")
LAYER = make_blob("layer", 400_000)
IMAGE = make_image("app", layers=(LAYER,))
MANIFEST = "/v2/docker-hub/acme/app/manifests/1"


@pytest.fixture
def engine(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> Iterator[Engine]:
    """Its token comes from a command, which writes down what it was started with."""
    upstream.add("acme/app", IMAGE, "1")
    command = f"umask > {tmp_path}/told; ulimit -c >> {tmp_path}/told; echo token"
    made = Engine(
        tmp_path / "engine",
        f"""
        standard_rules = false
        [serve]
        workers = {workers}
        [rules.docker-hub]
        upstream = "registry-1.docker.io"
        username = "acme"
        access_token_command = ["sh", "-c", '''{command}''']
        [upstreams."registry-1.docker.io"]
        endpoint = "{upstream.url}"
        [ecr]
        auth = "none"
        """,
        within=CARELESS,
    )
    yield made
    made.end()


def others_may_use(folder: Path) -> list[str]:
    return [
        f"{stat.filemode(path.lstat().st_mode)} {path.relative_to(folder)}"
        for path in folder.rglob("*")
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


def test_every_file_is_its_owners_alone(engine: Engine, upstream: ScriptedUpstream) -> None:
    engine.start()
    assert engine.get(MANIFEST).status == 200
    valve = Valve(100_000)
    upstream.script(Throttle(valve), kind="blob", method="GET")
    with Download(engine, f"/v2/docker-hub/acme/app/blobs/{LAYER.digest}") as download:
        download.read(1)
        assert engine.get("/v2/own/app/blobs/uploads/", method="POST").status == 202
        Account(engine.url).client("secretsmanager").create_secret(Name="a", SecretString="b")
        assert list((engine.data / "fills").glob("*.json"))
        assert list((engine.data / "uploads").glob("*.json"))
        assert others_may_use(engine.data) == []
        assert stat.S_IMODE(engine.data.stat().st_mode) == 0o700
        assert stat.S_IMODE(engine.data.with_name("data.key").stat().st_mode) == 0o600
        valve.let_all()
        download.rest()


def test_no_process_leaves_a_core(engine: Engine) -> None:
    engine.start()
    for pid in (engine.pid, *children(engine.pid)):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 ", limits, re.MULTILINE), limits


def test_commands_that_it_runs_inherit_both(engine: Engine, tmp_path: Path) -> None:
    engine.start()
    assert engine.get(MANIFEST).status == 200
    assert (tmp_path / "told").read_text() == "0077\n0\n"
    engine.stop()
    (tmp_path / "told").unlink()
    engine.command("refresh", "docker-hub/acme/app:1")
    assert (tmp_path / "told").read_text() == "0077\n0\n"


@pytest.mark.parametrize("name", [".data.key", "..data.key.new"])
def test_the_key_beside_the_checkouts_data_folder_cannot_be_committed(name: str) -> None:
    patterns = (ROOT / ".gitignore").read_text().splitlines()
    assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
