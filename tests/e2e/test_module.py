"""The module as a user types it: from nothing to a verified cache on an engine, and real pulls through all five prefixes.

Docker-registries stand in for the five upstreams; those of Docker Hub and GitHub want a login.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.aws import Account, key_settings
from tests.e2e.clients import Skopeo, pullthrough
from tests.e2e.conftest import StartEngine, Stock, fill_stock
from tests.e2e.engine import Engine
from tests.e2e.processes import environment
from tests.e2e.registry import Registry, TokenServer

#: What `verify` pulls, by prefix, unless it is told otherwise.
IMAGES = {
    "docker-hub": ("library/hello-world", "latest"),
    "github": ("containerd/busybox", "1.36"),
    "quay": ("prometheus/busybox", "latest"),
    "kubernetes": ("pause", "3.9"),
    "ecr-public": ("docker/library/hello-world", "latest"),
}
HOSTS = {
    "docker-hub": "registry-1.docker.io",
    "github": "ghcr.io",
    "quay": "quay.io",
    "kubernetes": "registry.k8s.io",
    "ecr-public": "public.ecr.aws",
}
INPUTS = {
    "PULLTHROUGH_DOCKER_HUB_USERNAME": "acme",
    "PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "dckr_pat_the-right-one",
    "PULLTHROUGH_GITHUB_USERNAME": "octo",
    "PULLTHROUGH_GITHUB_ACCESS_TOKEN": "ghp_the-right-one",
}


@dataclass
class Module:
    """`pullthrough` with an empty home, told nothing but where and as whom."""

    folder: Path
    environ: dict[str, str]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self.folder.mkdir(exist_ok=True)
        done = subprocess.run(
            [pullthrough(), *arguments],
            cwd=self.folder,
            env=environment(self.folder, **self.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == code, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        for name, value in self.environ.items():
            assert "TOKEN" not in name or value not in done.stdout + done.stderr, f"{name} in the output"
        return done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What it prints with --json; progress and errors are for standard error."""
        return json.loads(self(*arguments, "--json", code=code).partition("\n}\n")[0] + "\n}")


@pytest.fixture
def cache(
    folder: Path,
    engine: StartEngine,
    workshop: Path,
    stock: Stock,
    guarded: Registry,
    upstream: Registry,
    tokens: TokenServer,
) -> Engine:
    """An engine whose five upstreams are here, with the images that `verify` pulls."""
    tokens.anonymous = False
    tokens.users |= {"acme": "dckr_pat_the-right-one", "octo": "ghp_the-right-one"}
    with fill_stock(workshop, stock.storage) as registry:
        for name, tag in IMAGES.values():
            registry.push(name, tag, stock.busybox)
    endpoints = "".join(
        f'[upstreams."{host}"]\nendpoint = "{(guarded if prefix in ("docker-hub", "github") else upstream).url}"\n'
        for prefix, host in HOSTS.items()
    )
    return engine(f"{key_settings(folder, Account(''))}{endpoints}")


@pytest.fixture
def module(folder: Path, cache: Engine) -> Module:
    return Module(folder / "operator", {**Account(cache.url).environ, **INPUTS})


def test_from_nothing_to_a_verified_cache_and_back(
    folder: Path, cache: Engine, module: Module, stock: Stock, tokens: TokenServer
) -> None:
    assert "12 to create, 0 to change, 0 to replace, 0 to delete" in module("plan")
    module("plan", "--exit-code", code=2)

    applied = module.json("apply", "--yes")
    assert len(applied["applied"]["done"]) == 12
    assert applied["verification"]["ok"], applied["verification"]
    assert {row["check"] for row in applied["verification"]["checks"]} >= {"rule", "pull"}

    ecr = Account(cache.url).client("ecr")
    rules = ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    assert {rule["ecrRepositoryPrefix"]: rule["upstreamRegistryUrl"] for rule in rules} == HOSTS
    secrets = Account(cache.url).client("secretsmanager")
    for prefix, username in (("docker-hub", "acme"), ("github", "octo")):
        value = json.loads(secrets.get_secret_value(SecretId=f"ecr-pullthroughcache/{prefix}")["SecretString"])
        assert value == {"username": username, "accessToken": INPUTS[f"PULLTHROUGH_{_input(prefix)}_ACCESS_TOKEN"]}

    addresses = module.json("addresses")
    assert {entry["prefix"]: entry["address"] for entry in addresses.values()} == {
        prefix: f"{cache.address}/{prefix}" for prefix in HOSTS
    }
    skopeo = Skopeo(folder / "skopeo")
    for entry in addresses.values():
        name, tag = IMAGES[entry["prefix"]]
        assert skopeo.pull(f"{entry['address']}/{name}:{tag}", everything=True) == stock.busybox.digest
    assert {who.split()[0] for who in tokens.asked} == {"acme", "octo"}

    assert "Everything that was checked works." in module("verify")
    assert "Nothing to do" in module("plan", "--exit-code")
    assert module.json("status")["in_line"] is True

    # What was cached is served on when all is taken back, and the engine's own rules are back.
    assert len(module.json("destroy", "--yes")["applied"]["done"]) == 12
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    assert cache.get("/v2/quay/prometheus/busybox/manifests/latest").status == 200
    again = module.json("apply", "--yes", "--no-verify")
    assert sorted({step["action"] for step in again["plan"]["steps"]}) == ["create", "restore"]
    assert "Nothing to do" in module("plan", "--exit-code")


def test_a_credential_is_rotated_in_place_and_a_wrong_one_is_found(
    cache: Engine, module: Module, tokens: TokenServer
) -> None:
    module("apply", "--yes")
    secrets = Account(cache.url).client("secretsmanager")

    def versions() -> int:
        found = secrets.list_secret_version_ids(SecretId="ecr-pullthroughcache/docker-hub", IncludeDeprecated=True)
        return len(found["Versions"])

    assert versions() == 1
    tokens.users["acme"] = module.environ["PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"] = "dckr_pat_another-one"
    (step,) = module.json("plan")["steps"]
    assert (step["id"], step["action"]) == ("secret:ecr-pullthroughcache/docker-hub", "update")
    assert module.json("apply", "--yes")["verification"]["ok"]
    assert versions() == 2

    module.environ["PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"] = "dckr_pat_a-wrong-one"
    verification = module.json("apply", "--yes", code=1)["verification"]
    failed = [row for row in verification["checks"] if row["outcome"] == "failed"]
    assert {row["subject"] for row in failed} == {"docker-hub"}
    assert any("app.docker.com" in row["fix"] for row in failed), failed


def _input(prefix: str) -> str:
    return {"docker-hub": "DOCKER_HUB", "github": "GITHUB"}[prefix]


def test_a_saved_plan_is_applied_while_nothing_has_changed(cache: Engine, module: Module) -> None:
    module("plan", "--out", "plan.json")
    saved = (module.folder / "plan.json").read_text()
    assert not any(value in saved for name, value in INPUTS.items() if "TOKEN" in name)
    module("apply", "plan.json", "--no-verify")
    said = module("apply", "plan.json", "--no-verify", code=1)
    assert "has changed since" in said
    assert "PT607" in said


def test_what_the_engines_own_file_has_is_done_where_it_is_equal_and_a_problem_where_not(
    folder: Path, engine: StartEngine
) -> None:
    cache = engine(
        f'{key_settings(folder, Account(""))}[rules.quay]\n[rules.kubernetes]\nupstream = "registry.example.com"\n'
    )
    module = Module(folder / "operator", {**Account(cache.url).environ, **INPUTS})
    plan = module.json("plan", code=1)
    assert [(left["name"], left["what"]) for left in plan["left_alone"]] == [("quay", "quay.io")]
    (problem,) = plan["problems"]
    assert "[rules.kubernetes] upstream" in problem
    assert "registry.example.com" in problem
    assert "rule:quay" not in {step["id"] for step in plan["steps"]}


def test_without_a_terminal_nothing_is_asked_and_nothing_done(module: Module) -> None:
    said = module("apply", code=2)
    assert "--yes" in said
    module("plan", "--exit-code", code=2)


@pytest.mark.parametrize("missing", sorted(INPUTS))
def test_each_missing_input_is_named_with_what_sets_it(module: Module, missing: str) -> None:
    del module.environ[missing]
    said = module("plan", code=2)
    assert missing in said
    assert "PULLTHROUGH_" in said


def test_no_credentials_and_a_wrong_key_are_errors_with_what_to_do(module: Module) -> None:
    kept = dict(module.environ)
    module.environ["AWS_SECRET_ACCESS_KEY"] = "wrong"
    assert "credentials are not taken" in module("plan", code=2)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        del module.environ[name]
    said = module("plan", code=2)
    assert "keys show" in said
    module.environ.update(kept | {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"})
    assert "us-east-1" in module("plan", code=2)


def test_the_same_from_python(cache: Engine, folder: Path) -> None:
    from pullthrough import PullThroughCache

    made = PullThroughCache(
        docker_hub_username="acme",
        docker_hub_access_token=INPUTS["PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"],
        github_username="octo",
        github_access_token=INPUTS["PULLTHROUGH_GITHUB_ACCESS_TOKEN"],
    )
    assert "the-right-one" not in repr(made) + repr(made.declaration)
    environ: Mapping[str, str] = {"HOME": str(folder), **Account(cache.url).environ}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in Account(cache.url).environ.items():
            patch.setenv(name, value)
        deployment = made.connect(environ=environ)
        deployment.apply(deployment.plan())
        assert deployment.plan().is_empty
        assert deployment.verify().ok
        names = {address.name for address in deployment.addresses()}
    assert names == {f"{prefix.replace('-', '_')}_registry" for prefix in HOSTS}


def test_repositories_that_are_there_follow_their_template_when_asked(cache: Engine, module: Module) -> None:
    module("apply", "--yes")
    declaration = module.folder / "pullthrough.toml"
    declaration.write_text("[template]\nkeep_images = 7\n[templates.quay]\nresource_tags = { source = 'quay' }\n")
    module("apply", "--yes", "--no-verify")
    quay = "quay/prometheus/busybox"
    differing = {entry["name"]: entry["attributes"] for entry in module.json("status")["differing_repositories"]}
    assert len(differing) == len(IMAGES)
    assert set(differing[quay]) == {"lifecyclePolicy", "resourceTags"}
    assert f"{quay}: lifecyclePolicy, resourceTags" in module("status")

    module("plan", "--exit-code")
    module("plan", "--existing", "--exit-code", code=2)
    module("apply", "--existing", "--yes", "--no-verify")
    ecr = Account(cache.url).client("ecr")
    policy = json.loads(ecr.get_lifecycle_policy(repositoryName=quay)["lifecyclePolicyText"])
    assert policy["rules"][0]["selection"]["countNumber"] == 7
    (repository,) = ecr.describe_repositories(repositoryNames=[quay])["repositories"]
    tags = ecr.list_tags_for_resource(resourceArn=repository["repositoryArn"])["tags"]
    assert tags == [{"Key": "source", "Value": "quay"}]
    assert module.json("status")["differing_repositories"] == []
    module("plan", "--existing", "--exit-code")


def test_destroy_deletes_repositories_only_when_told_and_counts_them(
    folder: Path, cache: Engine, module: Module
) -> None:
    module("apply", "--yes")
    name, tag = IMAGES["quay"]
    Skopeo(folder / "skopeo").pull(f"{cache.address}/quay/{name}:{tag}", everything=True)
    ecr = Account(cache.url).client("ecr")
    ecr.create_repository(repositoryName="mine/app")
    plan = module.json("destroy", "--yes")["plan"]
    assert "repository" not in {step["kind"] for step in plan["steps"]}
    assert len(ecr.describe_repositories()["repositories"]) == len(IMAGES) + 1
    module("apply", "--yes", "--no-verify")
    plan = module.json("destroy", "--delete-repositories", "--yes")["plan"]
    counted = {step["name"]: step["details"] for step in plan["steps"] if step["kind"] == "repository"}
    assert len(counted) == len(IMAGES)
    assert all(details["images"] >= 1 for details in counted.values())
    assert counted[f"quay/{name}"]["bytes"] > 0
    assert [one["repositoryName"] for one in ecr.describe_repositories()["repositories"]] == ["mine/app"]


def test_on_a_terminal_it_asks_for_what_is_missing_and_before_it_applies(cache: Engine, module: Module) -> None:
    """A pseudo-terminal, as a person has one: tokens are not echoed, and what is typed reaches Secrets Manager."""
    for name in INPUTS:
        del module.environ[name]
    module.folder.mkdir(exist_ok=True)
    said, code = at_terminal(
        [pullthrough(), "apply", "--no-verify"],
        module,
        [
            ("docker_hub_username: ", "acme"),
            ("docker_hub_access_token: ", INPUTS["PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN"]),
            ("github_username: ", "octo"),
            ("github_access_token: ", INPUTS["PULLTHROUGH_GITHUB_ACCESS_TOKEN"]),
            ("Only 'yes' is taken for it: ", "yes"),
        ],
    )
    assert code == 0, said
    assert f"Apply 12 steps to account 000000000000, region us-east-1 at {cache.url}" in said
    assert "\x1b[32m" in said  # a terminal has colours
    assert not any(token in said for name, token in INPUTS.items() if "TOKEN" in name)
    secrets = Account(cache.url).client("secretsmanager")
    value = json.loads(secrets.get_secret_value(SecretId="ecr-pullthroughcache/github")["SecretString"])
    assert value == {"username": "octo", "accessToken": INPUTS["PULLTHROUGH_GITHUB_ACCESS_TOKEN"]}


def at_terminal(command: list[str], module: Module, answers: list[tuple[str, str]]) -> tuple[str, int]:
    """Run a command on a terminal, answering each prompt when it has come; what the terminal showed, and the exit code."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command,
        cwd=module.folder,
        env={**environment(module.folder, **module.environ), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = ""
    try:
        for prompt, answer in answers:
            while not said.endswith(prompt):
                said += os.read(ours, 4096).decode()
            os.write(ours, f"{answer}\n".encode())
        while True:
            said += os.read(ours, 4096).decode()
    except OSError:
        pass  # the other end is closed: the command has ended
    finally:
        os.close(ours)
    return said, process.wait(timeout=60)
