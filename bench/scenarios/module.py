"""The module against an engine: what `plan` takes of its own, and how long `apply` of everything takes.

On loopback the network takes next to nothing, and the engine's share is on the other core; what `plan` takes itself is the
processor time of its process. `terraform apply` of the exported declaration stands beside `apply` where Terraform and its
AWS provider can be had (TERRAFORM_PLUGINS names a folder that `terraform providers mirror` made).
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from bench.builds import HERE, Build
from bench.machine import CLIENT_CORE, Unavailable, pinned
from bench.report import Outcome, Target
from bench.run import Run, Scenario, interleaved
from bench.servers import Server, start_engine

PLAN, APPLY = "plan, five rules, nothing to do", "apply, five rules, two secrets, five templates, empty engine"
_ENGINE = '[serve]\nmax_size = "never"\nmin_free = "1MiB"\n[ecr]\nauth = "none"\n'


def scenarios() -> list[Scenario]:
    return [Scenario("module", "The module", _module)]


def _module(run: Run, outcome: Outcome) -> None:
    folder = run.folder("module")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "engine.toml"
    config.write_text(_ENGINE)
    environ = {
        **os.environ,
        "HOME": str(folder / "home"),
        "AWS_ACCESS_KEY_ID": "AKIDBENCH",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_EC2_METADATA_DISABLED": "true",
        "PULLTHROUGH_DOCKER_HUB_USERNAME": "bench",
        "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "dckr_pat_bench",
        "PULLTHROUGH_GITHUB_USERNAME": "bench",
        "PULLTHROUGH_GITHUB_ACCESS_TOKEN": "ghp_bench",
    }
    builds = {build.label("pullthrough"): build for build in run.builds}
    candidates = list(builds)
    if not run.compares:
        try:
            terraform = _Terraform(folder / "terraform", environ)
            candidates.append("terraform")
        except Unavailable as reason:
            outcome.left_out["terraform"] = str(reason)
    try:
        for number, candidate in interleaved(run, candidates):
            build = builds.get(candidate, HERE)
            server = start_engine(folder / f"engine-{number}-{candidate}", config, build=build)
            try:
                if candidate == "terraform":
                    metrics = {APPLY: {"seconds": terraform.apply(server)}}
                else:
                    metrics = _ours(build, server, folder, environ)
            finally:
                server.process.stop()
            for case, values in metrics.items():
                if number >= 0:
                    outcome.add(case, number, candidate, values)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.targets += [Target(PLAN, "own_seconds", at_most=0.6), Target(APPLY, "seconds", at_most=1.5)]


def _ours(build: Build, server: Server, folder: Path, environ: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """`apply` on an empty engine, then `plan`, which has nothing to do."""
    shutil.rmtree(folder / "home", ignore_errors=True)
    # Each engine is another account of sorts; what is verified at the end is the upstreams', which are not here.
    apply_seconds, _ = _timed([*build.program(), "apply", "--yes", "--no-verify"], server, folder, environ)
    plan_seconds, own_seconds = _timed([*build.program(), "plan", "--exit-code"], server, folder, environ)
    return {
        APPLY: {"seconds": apply_seconds},
        PLAN: {"seconds": plan_seconds, "own_seconds": own_seconds},
    }


def _timed(command: list[str], server: Server, folder: Path, environ: Mapping[str, str]) -> tuple[float, float]:
    """Seconds on the wall, and of the processor, of one command; its exit code must be 0."""
    command = [*command, "--endpoint-url", f"http://127.0.0.1:{server.port}"]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        pinned(CLIENT_CORE, command), cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-2000:]
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class _Terraform:
    """The exported declaration, applied by Terraform. Raises Unavailable where it, or its provider, is not here."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        program, plugins = shutil.which("terraform"), os.environ.get("TERRAFORM_PLUGINS")
        if program is None or not plugins:
            raise Unavailable("terraform with its AWS provider in the folder TERRAFORM_PLUGINS is not here")
        self._program, self._folder = program, folder
        folder.mkdir()
        (folder / "terraform.rc").write_text(
            f'disable_checkpoint = true\nprovider_installation {{ filesystem_mirror {{ path = "{plugins}" }} }}\n'
        )
        self._environ = {**environ, "TF_CLI_CONFIG_FILE": str(folder / "terraform.rc"), "TF_IN_AUTOMATION": "1"}
        for name in ("docker_hub", "github"):
            self._environ |= {f"TF_VAR_{name}_username": "bench", f"TF_VAR_{name}_access_token": "bench"}
        exported = subprocess.run(
            [*HERE.program(), "export", "terraform"], cwd=folder, env=self._environ, capture_output=True, check=True
        ).stdout
        (folder / "main.tf.json").write_bytes(exported)
        self._run("init")

    def apply(self, server: Server) -> float:
        """Seconds of `terraform apply` on an empty engine."""
        for state in self._folder.glob("terraform.tfstate*"):
            state.unlink()
        url = f"http://127.0.0.1:{server.port}"
        provider = {
            "region": "us-east-1",
            "skip_metadata_api_check": True,
            "endpoints": [{"ecr": url, "secretsmanager": url, "sts": url}],
        }
        (self._folder / "provider_override.tf.json").write_text(json.dumps({"provider": {"aws": [provider]}}))
        begin = time.monotonic()
        self._run("apply", "-auto-approve")
        return time.monotonic() - begin

    def _run(self, *arguments: str) -> None:
        command = pinned(CLIENT_CORE, [self._program, *arguments, "-no-color", "-input=false"])
        done = subprocess.run(command, cwd=self._folder, env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"terraform {arguments[0]} failed: {done.stderr[-500:]}")
