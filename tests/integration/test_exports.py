"""The exports before the tools that take them: cfn-lint, and Terraform itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint import ManualArgs
from cfnlint.api import lint
from hypothesis import HealthCheck, Phase, given, settings

from pullthrough.declaration import Declaration
from pullthrough.provision.export.cloudformation import cloudformation_template
from pullthrough.provision.export.terraform import terraform_document
from pullthrough.provision.model.observed import Observed, Scanning
from pullthrough.provision.model.resources import Existing, Key, ResourceKind
from tests.e2e.processes import environment
from tests.unit.provision.export.support import (
    CASES,
    SECRET_STAND_IN,
    TARGET,
    declarations,
    evaluate_terraform,
    expected,
    read_terraform,
)

# CloudFormation


def _findings(declaration: Declaration) -> list[str]:
    # A region of each kind: the newest resource types are not everywhere at once.
    regions = ManualArgs(regions=["us-east-1", "eu-west-1", "ap-southeast-2"])
    return [str(match) for match in lint(json.dumps(cloudformation_template(declaration)), config=regions)]


@pytest.mark.parametrize("case", CASES)
def test_cfn_lint_finds_nothing(case: str) -> None:
    assert _findings(CASES[case]) == []


# A run of cfn-lint takes a second: an example that fails is shown as it is.
@settings(
    max_examples=10,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(declarations(legal_tags=True))
def test_cfn_lint_finds_nothing_in_any_template(declaration: Declaration) -> None:
    assert _findings(declaration) == []


def test_cfn_lint_would_find_something() -> None:
    template: dict[str, Any] = cloudformation_template(CASES["default"])
    template["Resources"]["QuayRule"]["Properties"]["UpstreamRegistryUri"] = "quay.io"
    assert lint(json.dumps(template))


# Terraform

_VARIABLE = "value of "


def _terraform() -> str:
    program = shutil.which("terraform", path=f"{os.environ.get('PATH', '')}:/usr/local/bin:/usr/bin:/opt/bin")
    if program is None:
        pytest.skip("terraform is not installed: https://developer.hashicorp.com/terraform/install")
    return program


def _run(folder: Path, *arguments: str, plugins: str = "") -> str:
    config = folder / "terraform.rc"
    where = f'provider_installation {{\n  filesystem_mirror {{ path = "{plugins}" }}\n}}\n' if plugins else ""
    config.write_text(f"disable_checkpoint = true\n{where}")
    done = subprocess.run(
        [_terraform(), *arguments],
        cwd=folder,
        env=environment(folder, TF_CLI_CONFIG_FILE=str(config), TF_IN_AUTOMATION="1", TF_INPUT="0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def _without_provider(document: dict[str, Any]) -> dict[str, Any]:
    """The same document with a value in place of each resource, which Terraform evaluates without any provider."""
    named: dict[str, Any] = {}
    for kind, bodies in document["resource"].items():
        for label, body in bodies.items():
            more = {}
            if kind == "aws_secretsmanager_secret":
                more = dict.fromkeys(("arn", "id"), f"{SECRET_STAND_IN}{label}")
            elif kind == "aws_iam_role":
                more = {"arn": f"arn:aws:iam::{TARGET.account}:role/{body['name']}"}
            named[f"{kind}__{label}"] = body | more
    text = json.dumps(named | {"outputs": {name: body["value"] for name, body in document["output"].items()}})
    for source, value in {
        "data.aws_caller_identity.current.account_id": "local.account",
        "data.aws_region.current.region": "local.region",
        "data.aws_partition.current.partition": "local.partition",
        "data.aws_partition.current.dns_suffix": "local.suffix",
    }.items():
        text = text.replace(source, value)
    text = re.sub(r"\$\{(aws_[a-z_]+)\.(\w+)\.(\w+)\}", r"${local.\1__\2.\3}", text)
    constants = {"account": TARGET.account, "region": TARGET.region, "partition": "aws", "suffix": "amazonaws.com"}
    values: dict[str, Any] = json.loads(text)
    return {
        "terraform": {"required_version": document["terraform"]["required_version"]},
        **{name: body for name, body in document.items() if name == "variable"},
        "locals": constants | values,
        "output": {"values": {"value": {name: f"${{local.{name}}}" for name in values}, "sensitive": True}},
    }


def _evaluated(folder: Path, documents: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What Terraform makes of each document, in one run: each is a module of its own."""
    modules = {}
    for number, (name, document) in enumerate(documents.items()):
        module = folder / f"case{number}"
        module.mkdir()
        (module / "main.tf.json").write_text(json.dumps(_without_provider(document)))
        modules[name] = {"source": f"./case{number}"} | {
            variable: f"{_VARIABLE}{variable}" for variable in document.get("variable", {})
        }
    root = {
        "module": {f"case{number}": body for number, body in enumerate(modules.values())},
        "output": {
            f"case{number}": {"value": f"${{module.case{number}.values}}", "sensitive": True}
            for number in range(len(modules))
        },
    }
    (folder / "main.tf.json").write_text(json.dumps(root))
    _run(folder, "init", "-no-color")
    _run(folder, "apply", "-no-color", "-auto-approve")
    outputs = json.loads(_run(folder, "output", "-json"))
    return {name: outputs[f"case{number}"]["value"] for number, name in enumerate(documents)}


def test_terraform_itself_makes_of_documents_what_apply_makes(tmp_path: Path) -> None:
    documents: dict[str, dict[str, Any]] = {name: terraform_document(case) for name, case in CASES.items()}
    for name, values in _evaluated(tmp_path, documents).items():
        outputs = values.pop("outputs")
        assert outputs == {key: body["value"] for key, body in evaluate_terraform(documents[name])["output"].items()}
        resources: dict[str, dict[str, Any]] = {}
        for address, body in values.items():
            kind, _, label = address.partition("__")
            resources.setdefault(kind, {})[label] = body
        assert read_terraform(resources) == expected(CASES[name]), name
        for label, body in resources.get("aws_secretsmanager_secret_version", {}).items():
            assert body["secret_id"] == f"{SECRET_STAND_IN}{label}"
            account = json.loads(body["secret_string"])
            username, token = account["username"], account["accessToken"]
            assert username.removesuffix("username") == token.removesuffix("access_token")
            assert username.startswith(_VARIABLE)


@pytest.mark.skipif("TERRAFORM_PLUGINS" not in os.environ, reason="TERRAFORM_PLUGINS names no folder with the provider")
def test_terraform_with_its_provider_finds_documents_valid(tmp_path: Path) -> None:
    arn = f"arn:aws:secretsmanager:eu-west-1:{TARGET.account}:secret:ecr-pullthroughcache/docker-hub-a1B2c3"
    existing = (
        Existing(Key(ResourceKind.RULE, "docker-hub"), {}),
        Existing(Key(ResourceKind.TEMPLATE, "docker-hub"), {}),
        Existing(
            Key(ResourceKind.SECRET, "ecr-pullthroughcache/docker-hub"), {}, arn=arn, more={"currentVersion": "v-1"}
        ),
    )
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    observed = Observed(TARGET, {entry.key: entry for entry in existing}, policy, Scanning())
    for number, (name, declaration) in enumerate(CASES.items()):
        for suffix, document in (
            ("new", terraform_document(declaration)),
            ("there", terraform_document(declaration, observed=observed)),
        ):
            folder = tmp_path / f"case{number}-{suffix}"
            folder.mkdir()
            (folder / "main.tf.json").write_text(json.dumps(document))
            _run(folder, "init", "-no-color", plugins=os.environ["TERRAFORM_PLUGINS"])
            assert json.loads(_run(folder, "validate", "-json"))["diagnostics"] == [], name
