"""A whole image pulled and unpacked by containerd's `ctr`, from a warm cache and from a plain registry."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench.machine import CLIENT_CORE, Unavailable, cpu_seconds, need, pinned
from bench.processes import Failed, Process
from bench.report import Outcome, Target
from bench.run import Run, Scenario, all_running, candidates, interleaved
from bench.servers import Server, docker_registry, engine, upstream

UNPACKED, FETCHED = "ctr images pull (fetch and unpack)", "ctr content fetch (no unpacking)"


def scenarios() -> list[Scenario]:
    return [Scenario("image", "A whole image with ctr, warm", _image)]


def _image(run: Run, outcome: Outcome) -> None:
    if os.geteuid() != 0:
        raise Unavailable("containerd needs root")
    image = run.assets.whole
    size = sum(blob.size_bytes for blob in image.blobs)
    with (
        upstream(run.assets, run.folder("upstream")) as source,
        _containerd(run.folder("containerd")) as ctr,
    ):
        starts = candidates(
            run,
            outcome,
            {"pullthrough": lambda build: engine(build, run.assets, source.url)},
            {"docker-registry": lambda: docker_registry(run.assets)},
        )
        with all_running(run, starts) as servers:
            for server in servers.values():
                server.warm(image)
            for case, pull in (
                (UNPACKED, ["images", "pull", "--snapshotter", "native"]),
                (FETCHED, ["content", "fetch"]),
            ):
                for number, name in interleaved(run, list(servers)):
                    server = servers[name]
                    reference = f"{server.address}/{server.prefix}{image.repository}:{image.tag}"
                    before = cpu_seconds(server.process.pid)
                    begin = time.monotonic()
                    _run([*ctr, *pull, "--plain-http", reference])
                    seconds = time.monotonic() - begin
                    cpu = cpu_seconds(server.process.pid) - before
                    _forget(ctr, server, reference)
                    if number >= 0:
                        outcome.add(case, number, name, {"seconds": seconds, "cpu_seconds_per_gb": cpu / (size / 1e9)})
                run.say(f"  {case}")
                outcome.targets.append(Target(case, "seconds", peer="docker-registry", at_most=1.1))
    outcome.notes.append(f"The image: {len(image.blobs) - 1} gzipped layers, {size / 1e6:,.0f} MB together.")


def _run(command: list[str]) -> None:
    run = subprocess.run(pinned(CLIENT_CORE, command), capture_output=True, text=True, check=False, timeout=300)
    if run.returncode != 0:
        raise Failed(f"{' '.join(command)}: {run.stderr[-800:]}")


def _forget(ctr: list[str], server: Server, reference: str) -> None:
    """Remove the image and, by the garbage collection that --sync waits for, all its content and snapshots."""
    _run([*ctr, "images", "rm", "--sync", reference])
    listed = subprocess.run([*ctr, "content", "ls", "-q"], capture_output=True, text=True, check=True).stdout.split()
    if listed:
        # `content fetch` keeps what it fetched under a lease-free label; take it away by name.
        _run([*ctr, "content", "rm", *listed])


@contextlib.contextmanager
def _containerd(folder: Path) -> Iterator[list[str]]:
    """A containerd of its own in the folder; yields the start of a ctr command line."""
    daemon, client = need("containerd", "containerd"), need("ctr", "containerd")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    socket = folder / "containerd.sock"
    config = folder / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{socket}"\n'
    )
    process = Process([daemon, "--config", str(config)], folder / "output", core=CLIENT_CORE)
    command = [client, "--address", str(socket), "--namespace", "bench"]
    try:
        process.wait_until(
            lambda: socket.exists() and subprocess.run([*command, "version"], capture_output=True).returncode == 0,
            "an answer of containerd",
        )
        yield command
    finally:
        process.stop()
        shutil.rmtree(folder, ignore_errors=True)
