"""The example of all resources of this cache, applied, planned again, changed and destroyed by Terraform itself.

Needs terraform (https://developer.hashicorp.com/terraform/install) and its AWS provider: from the registry, or from the
folder that TERRAFORM_PLUGINS names, as `terraform providers mirror FOLDER` makes it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import Account, key_settings
from tests.e2e.engine import Engine
from tests.e2e.processes import environment
from tests.programs import ROOT, missing

_EXAMPLE = ROOT / "examples" / "terraform"
#: Exit codes of `terraform plan -detailed-exitcode`.
_NO_CHANGES, _CHANGES = 0, 2


class Terraform:
    """One working folder with a copy of the example."""

    def __init__(self, folder: Path, account: Account) -> None:
        program = shutil.which("terraform") or shutil.which("terraform", path="/usr/local/bin:/usr/bin:/opt/bin")
        if program is None:
            missing("terraform is not installed: https://developer.hashicorp.com/terraform/install")
        self._program = program
        self._folder = folder
        shutil.copytree(_EXAMPLE, folder)
        config = folder / "terraform.rc"
        config.write_text("disable_checkpoint = true\n" + _where_the_provider_is())
        self._environ = environment(
            folder,
            TF_CLI_CONFIG_FILE=str(config),
            TF_IN_AUTOMATION="1",
            TF_INPUT="0",
            TF_VAR_endpoint=account.endpoint,
            TF_VAR_region=account.region,
            TF_VAR_docker_hub='{"username": "u", "access_token": "a-secret-access-token"}',
            AWS_ACCESS_KEY_ID=account.access_key_id,
            AWS_SECRET_ACCESS_KEY=account.secret_access_key,
            AWS_EC2_METADATA_DISABLED="true",
        )
        self._initialize()

    def _initialize(self) -> None:
        begun = self.run("init", "-no-color")
        if begun.returncode:
            missing(
                "terraform found no AWS provider: where the registry cannot be reached, set TERRAFORM_PLUGINS to a folder "
                f"that `terraform providers mirror` made:\n{begun.stderr[-1500:]}"
            )
        versions = json.loads(self("version", "-json"))["provider_selections"]
        (version,) = (value for name, value in versions.items() if name.endswith("hashicorp/aws"))
        if int(version.partition(".")[0]) < 6:
            (self._folder / "provider-6.tf").unlink()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            cwd=self._folder,
            env=self._environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, f"terraform {' '.join(arguments)}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def apply(self) -> None:
        self("apply", "-no-color", "-auto-approve")

    def plan(self) -> tuple[int, str]:
        """The exit code, and what it would do. State is read from the engine first."""
        done = self.run("plan", "-no-color", "-detailed-exitcode")
        return done.returncode, done.stdout + done.stderr

    def change(self, old: str, new: str) -> None:
        """Edit the copy of the example."""
        file = self._folder / "main.tf"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))

    def declared(self) -> set[str]:
        """The resources that the files are about."""
        text = "\n".join(file.read_text() for file in self._folder.glob("*.tf"))
        return {f"{kind}.{name}" for kind, name in re.findall(r'^resource "(\w+)" "(\w+)"', text, re.MULTILINE)}

    def resources(self) -> list[str]:
        return self("state", "list").split()


def _where_the_provider_is() -> str:
    plugins = os.environ.get("TERRAFORM_PLUGINS", "")
    return f'provider_installation {{\n  filesystem_mirror {{ path = "{plugins}" }}\n}}\n' if plugins else ""


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    keys = key_settings(tmp_path, Account(""))
    made = Engine(tmp_path / "engine", f"[serve]\nworkers = {request.param}\n{keys}", cold=True)
    try:
        made.start()
        yield made
    finally:
        made.end()


@pytest.mark.timeout(1800)
def test_example_is_applied_planned_without_changes_changed_and_destroyed(engine: Engine, tmp_path: Path) -> None:
    account = Account(engine.url)
    terraform = Terraform(tmp_path / "terraform", account)
    terraform.apply()
    assert terraform.declared() == {one for one in terraform.resources() if not one.startswith("data.")}
    code, said = terraform.plan()
    assert code == _NO_CHANGES, said

    # What Terraform set up is what the engine obeys.
    ecr = account.client("ecr")
    rules = ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]
    assert {rule["ecrRepositoryPrefix"] for rule in rules} == {"docker-hub", "quay"}

    for old, new in (
        ('"repositories that nobody made by hand"', '"repositories that a pull made"'),
        ('image_tag_mutability = "IMMUTABLE"', 'image_tag_mutability = "MUTABLE"'),
        ("countNumber    = 200", "countNumber    = 100"),
        ('tags                 = { team = "a" }', 'tags                 = { team = "b" }'),
        ('"Docker Hub, for the pull-through cache"', '"Docker Hub"'),
        ('filter      = "team/*"', 'filter      = "team*"'),
    ):
        terraform.change(old, new)
    code, said = terraform.plan()
    assert code == _CHANGES, said
    # A lifecycle policy is replaced by this provider, whatever changes in it.
    assert "Plan: 1 to add, 4 to change, 1 to destroy." in said, said
    terraform.apply()
    code, said = terraform.plan()
    assert code == _NO_CHANGES, said

    terraform("destroy", "-no-color", "-auto-approve")
    assert terraform.resources() == []
    assert ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"] == []
    assert ecr.describe_repositories()["repositories"] == []
    assert account.client("secretsmanager").list_secrets()["SecretList"] == []
    assert "a-secret-access-token" not in engine.log.read_text()
