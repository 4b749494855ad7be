"""How long a person waits: for the first answer of a new server, and for a help page."""

from __future__ import annotations

import contextlib
import http.client
import shutil
import subprocess
import time

from bench.machine import SERVER_CORE, free_port, pinned
from bench.processes import Process
from bench.report import Outcome, Target
from bench.run import Run, Scenario, in_turns
from bench.servers import write_engine_config

NEW, AGAIN, HELP = "serve, empty folder", "serve, folder of an earlier run", "pullthrough --help"


def scenarios() -> list[Scenario]:
    return [Scenario("start", "Start", _start)]


def _start(run: Run, outcome: Outcome) -> None:
    folder = run.folder("start")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pullthrough.toml"
    write_engine_config(config, ["http://127.0.0.1:9"])
    try:
        # The warm-up round leaves the folder that AGAIN needs, and the modules in the page cache.
        for number, case, build in in_turns(run, [NEW, AGAIN, HELP]):
            program = build.program()
            begin = time.monotonic()
            if case == HELP:
                subprocess.run(pinned(SERVER_CORE, [*program, "--help"]), capture_output=True, check=True)
                seconds = time.monotonic() - begin
            else:
                data = folder / build.label("again" if case == AGAIN else "new")
                if case == NEW:
                    shutil.rmtree(data, ignore_errors=True)
                port = free_port()
                command = [*program, "serve", "--config", str(config), "--data", str(data)]
                begin = time.monotonic()
                process = Process([*command, "--listen", f"127.0.0.1:{port}"], folder / "output", core=SERVER_CORE)
                try:
                    process.wait_until(lambda port=port: _answers(port), "its first answer")  # type: ignore[misc]
                    seconds = time.monotonic() - begin
                finally:
                    process.stop()
            if number >= 0:
                outcome.add(case, number, build.label("pullthrough"), {"seconds": seconds})
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.targets += [
        Target(NEW, "seconds", at_most=0.7),
        Target(AGAIN, "seconds", at_most=0.7),
        Target(HELP, "seconds", at_most=0.4),
    ]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
