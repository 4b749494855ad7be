"""What keeps `serve` from starting, said in one message: where, what, why, what to try."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.clients import pullthrough
from tests.e2e.engine import Engine
from tests.e2e.processes import environment
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.conftest import StartEngine


def serve(folder: Path, config: str, *arguments: str, **environ: str) -> tuple[int, str]:
    """Exit code and output of an engine that must not start."""
    folder.mkdir(exist_ok=True)
    file = folder / "pullthrough.toml"
    file.write_text(config)
    command = [str(pullthrough()), "serve", "--config", str(file), *arguments]
    done = subprocess.run(
        command, env=environment(folder, **environ), capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def held() -> Iterator[str]:
    """An address that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("[serve]\nlistn = 'x'", "listen"),
        ("[ecr]\nauth = 'none'\n[serve]\nlisten = '0.0.0.0:0'", "auth_none_everywhere"),
        ("[ecr]\nauth = 'none'\n[serve]\nlisten = '[::]:0'", "auth_none_everywhere"),
        ("[serve]\nworkers = 0", "workers"),
        ("[rules.x]\nupstream = 'docker.io'\nfreshness = 10", "unit"),
        ("this is no TOML", "TOML|toml|line 1"),
        ("[serve]\ntls_cert = '/nowhere/cert.pem'\ntls_key = '/nowhere/key.pem'", "/nowhere/cert.pem"),
        ("[serve.mirrors]\n'127.0.0.1:0' = 'nothing'", "nothing"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_is_opened(tmp_path: Path, config: str, sentence: str) -> None:
    code, output = serve(tmp_path, config, "--data", str(tmp_path / "data"))
    assert code == 2, output
    assert re.search(sentence, output), output
    assert "Traceback" not in output
    assert not (tmp_path / "data").exists()


def test_what_the_machine_lacks_is_said(tmp_path: Path, held: str) -> None:
    newer, broken, file = tmp_path / "newer", tmp_path / "broken", tmp_path / "file"
    for folder in (newer, broken):
        folder.mkdir()
    with sqlite3.connect(newer / "catalog.sqlite") as catalog:
        catalog.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        catalog.execute("INSERT INTO alembic_version VALUES ('9999')")
    catalog.close()
    (broken / "catalog.sqlite").write_bytes(b"this is no catalog" * 1000)
    file.write_text("not a folder")
    for arguments, sentence in (
        (("--listen", held, "--data", str(tmp_path / "data")), "in use"),
        (("--listen", "192.0.2.1:0", "--data", str(tmp_path / "data")), "no address of this machine"),
        (("--listen", "127.0.0.1:0", "--data", str(newer)), "newer"),
        (("--listen", "127.0.0.1:0", "--data", str(broken)), "catalog"),
        (("--listen", "127.0.0.1:0", "--data", str(file / "below")), "below"),
        (("--listen", "127.0.0.1:0", "--data", "/proc/nowhere"), "/proc/nowhere"),
    ):
        code, output = serve(tmp_path, "", *arguments)
        assert code in (1, 2), output
        assert re.search(sentence, output), output
        assert "Traceback" not in output, output


def test_a_second_engine_takes_neither_the_port_nor_the_folder(
    start_engine: StartEngine, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    engine = start_engine()
    for arguments, sentence in (
        (("--listen", engine.address, "--data", str(tmp_path / "other")), "in use"),
        (("--listen", "127.0.0.1:0", "--data", str(engine.data)), "another"),
    ):
        code, output = serve(tmp_path / "second", "", *arguments)
        assert code != 0, output
        assert re.search(sentence, output), output
    assert engine.get("/readyz").status == 200


def test_flags_come_before_the_environment_before_the_file_before_the_default(
    upstream: ScriptedUpstream, tmp_path: Path, workers: int
) -> None:
    engine = Engine(
        tmp_path / "engine",
        f'[serve]\nlisten = "127.0.0.1:1"\naccess_log = "all"\nworkers = {workers}\n',
        environ={"PULLTHROUGH_SERVE_ACCESS_LOG": "off"},
    )
    try:
        engine.start()  # by the flag --listen
        assert engine.get("/v2/").status == 200
        shown = engine.command("config", "show")
        assert re.search(r"serve\.access_log.*off.*environment PULLTHROUGH_SERVE_ACCESS_LOG", shown), shown
        assert re.search(rf"serve\.workers.*{workers}.*pullthrough\.toml", shown)
        assert re.search(r"serve\.data.*flag --data", shown)
        assert re.search(r"serve\.prefetch .*default", shown)
        log = engine.log.read_text()
        for prefix in ("docker-hub", "github", "quay", "kubernetes", "ecr-public"):
            assert re.search(rf"{engine.address}/{prefix} ", log)
        engine.stop()
        assert "{" not in engine.log.read_text(), "the access log is off"
    finally:
        engine.end()
