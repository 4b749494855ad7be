from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings

from pullthrough.declaration import STANDARD_RULES, Declaration, Encryption, Rule, Template
from pullthrough.errors import PlanProblem
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.export.cloudformation import cloudformation_template
from tests.effort import examples
from tests.unit.provision.export.support import (
    CASES,
    GITLAB,
    TOKEN,
    addresses,
    declarations,
    evaluate_cloudformation,
    expected,
    read_cloudformation,
)


def _resources(declaration: Declaration) -> dict[str, Any]:
    resources: dict[str, Any] = evaluate_cloudformation(cloudformation_template(declaration))["Resources"]
    return resources


@pytest.mark.parametrize("case", CASES)
def test_template_makes_what_apply_makes(case: str) -> None:
    assert read_cloudformation(_resources(CASES[case])) == expected(CASES[case])


@settings(max_examples=examples(60))
@given(declarations())
def test_template_of_any_declaration_makes_what_apply_makes(declaration: Declaration) -> None:
    template: dict[str, Any] = cloudformation_template(declaration)
    assert read_cloudformation(_resources(declaration)) == expected(declaration)
    for section in ("Parameters", "Resources", "Outputs"):
        assert all(re.fullmatch(r"[A-Za-z0-9]{1,255}", name) for name in template.get(section, {}))


def test_accounts_are_parameters_that_are_never_shown() -> None:
    template: dict[str, Any] = cloudformation_template(CASES["default"])
    assert list(template["Parameters"]) == [
        "DockerHubUsername",
        "DockerHubAccessToken",
        "GithubUsername",
        "GithubAccessToken",
    ]
    for parameter in template["Parameters"].values():
        assert parameter["NoEcho"] is True
        assert "Default" not in parameter


def test_accounts_reach_their_secrets() -> None:
    resources = _resources(CASES["accounts of their own"])
    secrets = {
        name: json.loads(resource["Properties"]["SecretString"])
        for name, resource in resources.items()
        if resource["Type"] == "AWS::SecretsManager::Secret"
    }
    own = secrets["DockerHubSecret"]["username"].removeprefix("param.").removesuffix("Username")
    assert re.fullmatch("DockerHub[0-9a-f]{6}", own)
    assert secrets == {
        f"{name}Secret": {"username": f"param.{stem}Username", "accessToken": f"param.{stem}AccessToken"}
        for name, stem in {
            "DockerHub": own,
            "Hub": "DockerHub",
            "Ghcr": "Github",
            "Github": "Github",
            "Lab": "Lab",
            "Azure": "Azure",
            "Chainguard": "Chainguard",
        }.items()
    }


def test_values_that_would_break_a_secret_s_json_are_refused() -> None:
    template: dict[str, Any] = cloudformation_template(CASES["default"])
    for parameter in template["Parameters"].values():
        pattern = re.compile(parameter["AllowedPattern"])
        assert pattern.fullmatch("dckr_pat_Ab-1.~$x")
        assert not any(pattern.fullmatch(text) for text in ('a"b', "a\\b", "a b", "a\n", ""))


def test_no_token_and_no_user_name_is_in_the_template() -> None:
    for declaration in CASES.values():
        text = json.dumps(cloudformation_template(declaration))
        assert TOKEN not in text
        assert '"me"' not in text


def test_names_that_are_alike_stay_apart() -> None:
    declaration = CASES["names that are alike"]
    rules = {
        name: resource["Properties"]["EcrRepositoryPrefix"]
        for name, resource in _resources(declaration).items()
        if resource["Type"] == "AWS::ECR::PullThroughCacheRule"
    }
    assert sorted(rules.values()) == sorted(rule.prefix for rule in declaration.rules)
    assert rules["TeamARule"] == "team-a"
    assert rules["TeamaRule"] == "teama"
    assert rules["A1Rule"] == "a1"


def test_stack_s_end_removes_secrets_and_leaves_the_registry_s_documents() -> None:
    declaration = Declaration(
        rules=STANDARD_RULES, access=CASES["access"].access, scan_frequency=CASES["scanned all the time"].scan_frequency
    )
    kept = {"AWS::SecretsManager::Secret": "Delete"}
    kept |= dict.fromkeys(("AWS::ECR::RegistryPolicy", "AWS::ECR::RegistryScanningConfiguration"), "Retain")
    found = {}
    for resource in _resources(declaration).values():
        assert resource.get("DeletionPolicy") == resource.get("UpdateReplacePolicy")
        if "DeletionPolicy" in resource:
            found[resource["Type"]] = resource["DeletionPolicy"]
    assert found == kept


def _outputs(declaration: Declaration) -> dict[str, str]:
    outputs = evaluate_cloudformation(cloudformation_template(declaration))["Outputs"]
    return addresses({name: output["Value"] for name, output in outputs.items()})


def test_outputs_are_the_addresses() -> None:
    assert _outputs(CASES["renamed and switched off"]) == {
        "DockerHubRegistry": "HOST/hub",
        "GithubRegistry": "ghcr.io",
        "QuayRegistry": "HOST/quay",
        "KubernetesRegistry": "HOST/kubernetes",
        "EcrPublicRegistry": "HOST/ecr-public",
    }
    assert _outputs(CASES["root"])["DockerHubRegistry"] == "HOST"
    assert _outputs(Declaration(rules=(Rule("lab", GITLAB),)))["LabRegistry"] == "HOST/lab"


def test_template_without_a_resource_is_refused() -> None:
    with pytest.raises(PlanProblem, match="every rule is switched off"):
        cloudformation_template(Declaration())


def test_template_s_role_with_a_path_is_refused() -> None:
    template = Template(encryption=Encryption.KMS, role_arn="arn:aws:iam::123456789012:role/path/name")
    declaration = Declaration(rules=(Rule("quay", "quay.io"),), templates={"quay": template})
    with pytest.raises(PlanProblem, match="CloudFormation takes none with a path"):
        cloudformation_template(declaration)


def test_anonymous_rule_is_refused_as_on_aws() -> None:
    with pytest.raises(PlanProblem, match="is anonymous, and AWS takes no rule"):
        cloudformation_template(Declaration(rules=(Rule("docker-hub", DOCKER_HUB, anonymous=True),)))
