from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings

from pullthrough.declaration import GITHUB, ROOT, STANDARD_RULES, Declaration, NodeAccess, Rule, ScanFrequency
from pullthrough.errors import PlanProblem
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.export.terraform import terraform_document
from pullthrough.provision.model.observed import Observed, Scanning
from pullthrough.provision.model.resources import Existing, Key, ResourceKind
from tests.effort import examples
from tests.unit.provision.export.support import (
    CASES,
    HERE,
    OTHER_ACCOUNT,
    TARGET,
    TOKEN,
    addresses,
    declarations,
    evaluate_terraform,
    expected,
    read_terraform,
    standard,
)

_SCHEMAS = json.loads((HERE / "aws_provider_schema.json").read_text())["provider_schemas"][
    "registry.terraform.io/hashicorp/aws"
]
_META_ARGUMENTS = {"//", "depends_on"}


def _resources(declaration: Declaration, observed: Observed | None = None) -> dict[str, Any]:
    document: dict[str, Any] = terraform_document(declaration, observed=observed)
    resources: dict[str, Any] = evaluate_terraform(document)["resource"]
    return resources


@pytest.mark.parametrize("case", CASES)
def test_document_makes_what_apply_makes(case: str) -> None:
    assert read_terraform(_resources(CASES[case])) == expected(CASES[case])


@settings(max_examples=examples(60))
@given(declarations())
def test_document_of_any_declaration_makes_what_apply_makes(declaration: Declaration) -> None:
    assert read_terraform(_resources(declaration)) == expected(declaration)


@pytest.mark.parametrize("case", CASES)
def test_document_follows_the_provider_s_schema(case: str) -> None:
    document = json.loads(json.dumps(terraform_document(CASES[case])))
    assert set(document) <= {"//", "terraform", "data", "variable", "resource", "output"}
    for kind, bodies in document["resource"].items():
        for label, body in bodies.items():
            assert label.isidentifier()
            _check_block(body, _SCHEMAS["resource_schemas"][kind]["block"], f"{kind}.{label}")
    for kind, bodies in document["data"].items():
        assert bodies == {"current": {}}
        assert kind in _SCHEMAS["data_source_schemas"]


def _check_block(body: Mapping[str, Any], block: Mapping[str, Any], where: str) -> None:
    attributes, blocks = block["attributes"], block.get("block_types", {})
    for name, value in body.items():
        if name in _META_ARGUMENTS:
            continue
        here = f"{where}.{name}"
        if name in blocks:
            assert isinstance(value, list), here
            for entry in value:
                _check_block(entry, blocks[name]["block"], here)
            continue
        assert name in attributes, here
        assert attributes[name].get("required") or attributes[name].get("optional"), f"{here} is not for input"
        _check_type(value, attributes[name]["type"], here)
    assert {name for name, attribute in attributes.items() if attribute.get("required")} <= set(body), where
    assert all(len(body.get(name, [])) >= nested["min_items"] for name, nested in blocks.items()), where


def _check_type(value: object, kind: str | list[str], where: str) -> None:
    match kind:
        case "string":
            assert isinstance(value, str), where
        case ["list" | "set", "string"]:
            assert isinstance(value, list), where
            assert all(isinstance(entry, str) for entry in value), where
        case ["map", "string"]:
            assert isinstance(value, dict), where
            assert all(isinstance(entry, str) for entry in value.values()), where
        case _:
            raise AssertionError(f"{where}: {kind} is not used")


def test_references_lead_to_resources_and_variables_that_are_there() -> None:
    """What evaluation does not follow: the order of things."""
    for declaration in CASES.values():
        document: dict[str, Any] = terraform_document(declaration)
        there = {f"{kind}.{label}" for kind, bodies in document["resource"].items() for label in bodies}
        for bodies in document["resource"].values():
            for body in bodies.values():
                assert set(body.get("depends_on", ())) <= there


# Secrets


def test_inputs_have_the_names_of_the_terraform_module_and_no_value() -> None:
    document: dict[str, Any] = terraform_document(CASES["default"])
    assert list(document["variable"]) == [
        "docker_hub_username",
        "docker_hub_access_token",
        "github_username",
        "github_access_token",
    ]
    for variable in document["variable"].values():
        assert variable["sensitive"] is True
        assert variable["nullable"] is False
        assert variable["type"] == "string"
        assert "default" not in variable


def test_rules_with_an_account_of_their_own_have_variables_of_their_own() -> None:
    document: dict[str, Any] = terraform_document(CASES["accounts of their own"])
    stems = [name.removesuffix("_username") for name in document["variable"] if name.endswith("_username")]
    own = stems[0]
    assert own.startswith("docker_hub_")
    assert stems == [own, "docker_hub", "github", "lab", "azure", "chainguard"]
    versions = evaluate_terraform(document)["resource"]["aws_secretsmanager_secret_version"]
    assert {label: json.loads(body["secret_string"]) for label, body in versions.items()} == {
        label: {"username": f"var.{stem}_username", "accessToken": f"var.{stem}_access_token"}
        for label, stem in {
            "docker_hub": own,
            "hub": "docker_hub",
            "ghcr": "github",
            # ghcr2 shares its secret.
            "github": "github",
            "lab": "lab",
            "azure": "azure",
            "chainguard": "chainguard",
        }.items()
    }


def test_secret_is_to_the_character_what_apply_writes() -> None:
    version = _resources(CASES["default"])["aws_secretsmanager_secret_version"]["github"]
    account = {"username": "var.github_username", "accessToken": "var.github_access_token"}
    assert version["secret_string"] == json.dumps(account)


def test_given_secret_needs_no_variables() -> None:
    document: dict[str, Any] = terraform_document(CASES["given secret"])
    assert list(document["variable"]) == ["github_username", "github_access_token"]


def test_no_token_and_no_user_name_is_in_the_document() -> None:
    for declaration in CASES.values():
        text = json.dumps(terraform_document(declaration))
        assert TOKEN not in text
        assert '"me"' not in text


# Names


def test_names_that_are_alike_stay_apart() -> None:
    rules = _resources(CASES["names that are alike"])["aws_ecr_pull_through_cache_rule"]
    prefixes = {label: body["ecr_repository_prefix"] for label, body in rules.items()}
    assert len(prefixes) == 8
    readable = {label: prefix for label, prefix in prefixes.items() if prefix not in ("team.a", "team_a")}
    assert readable == {
        "team__a": "team/a",
        "team_a": "team-a",
        "teama": "teama",
        "_1a": "1a",
        "a1": "a1",
        "a_1": "a-1",
    }


def test_further_rule_renames_nothing() -> None:
    before = [Rule("team_a", "quay.io")]
    after = [Rule("team-a", "quay.io"), Rule("team.a", "quay.io"), *before]
    label = next(iter(_resources(Declaration(rules=tuple(before)))["aws_ecr_pull_through_cache_rule"]))
    rules = _resources(Declaration(rules=tuple(after)))["aws_ecr_pull_through_cache_rule"]
    assert rules[label]["ecr_repository_prefix"] == "team_a"


# Outputs


def _outputs(declaration: Declaration) -> dict[str, str]:
    outputs = evaluate_terraform(terraform_document(declaration))["output"]
    return addresses({name: output["value"] for name, output in outputs.items()})


def test_outputs_are_those_of_the_sibling_module() -> None:
    assert _outputs(CASES["default"]) == {
        "docker_hub_registry": "HOST/docker-hub",
        "github_registry": "HOST/github",
        "quay_registry": "HOST/quay",
        "kubernetes_registry": "HOST/kubernetes",
        "ecr_public_registry": "HOST/ecr-public",
    }


def test_renamed_rule_keeps_its_output_and_one_that_is_off_gives_the_upstream() -> None:
    outputs = _outputs(CASES["renamed and switched off"])
    assert outputs["docker_hub_registry"] == "HOST/hub"
    assert outputs["github_registry"] == "ghcr.io"
    assert len(outputs) == 5
    assert _outputs(Declaration())["docker_hub_registry"] == "docker.io"


def test_root_s_address_is_the_registry_itself() -> None:
    assert _outputs(CASES["root"])["docker_hub_registry"] == "HOST"
    assert _outputs(CASES["scanned all the time"])["ROOT_registry"] == "HOST"


def test_prefix_of_a_standard_rule_with_another_upstream_does_not_take_its_output() -> None:
    outputs = _outputs(
        Declaration(rules=(Rule("quay", "public.ecr.aws"), Rule("qq", "quay.io"), Rule("xx", "quay.io")))
    )
    assert outputs["quay_registry"] == "HOST/qq"
    assert outputs["ecr_public_registry"] == "HOST/quay"
    assert outputs["xx_registry"] == "HOST/xx"


# What AWS and the provider do not take


def test_anonymous_rule_is_refused_as_on_aws() -> None:
    declaration = Declaration(rules=(Rule("docker-hub", DOCKER_HUB, anonymous=True),))
    with pytest.raises(PlanProblem, match="is anonymous, and AWS takes no rule"):
        terraform_document(declaration)


def test_upstream_that_aws_does_not_know_is_refused() -> None:
    with pytest.raises(PlanProblem, match="none of those that AWS"):
        terraform_document(Declaration(rules=(Rule("gcr", "gcr.io"),)))


@pytest.mark.parametrize("prefix", ["team--a", "team__a"])
def test_prefix_that_only_ecr_takes_is_refused(prefix: str) -> None:
    with pytest.raises(PlanProblem, match="Terraform's AWS provider does not take"):
        terraform_document(Declaration(rules=(Rule(prefix, "quay.io"),)))


# The registry's documents


def test_whole_documents_say_so() -> None:
    resources = terraform_document(CASES["access"])["resource"]
    assert isinstance(resources, dict)
    assert "owns all of it" in resources["aws_ecr_registry_policy"]["registry"]["//"]
    scanning = _resources(CASES["scanned when they come in"])["aws_ecr_registry_scanning_configuration"]["registry"]
    assert "owns all of it" in scanning["//"]
    assert scanning["scan_type"] == "BASIC"


def test_continuous_scanning_asks_for_the_enhanced_kind() -> None:
    resources = _resources(CASES["scanned all the time"])
    assert resources["aws_ecr_registry_scanning_configuration"]["registry"]["scan_type"] == "ENHANCED"


# Imports

_ARN = f"arn:aws:secretsmanager:eu-west-1:{TARGET.account}:secret:ecr-pullthroughcache/docker-hub-a1B2c3"


def _there(kind: ResourceKind, name: str, **more: Any) -> Existing:
    return Existing(Key(kind, name), more.pop("attributes", {}), **more)


def _observed(*existing: Existing, policy: str = "", scanning: Scanning | None = None) -> Observed:
    return Observed(
        TARGET,
        {entry.key: entry for entry in existing},
        registry_policy=policy,
        scanning=scanning or Scanning(),
    )


def _imports(declaration: Declaration, observed: Observed) -> dict[str, str]:
    document: dict[str, Any] = terraform_document(declaration, observed=observed)
    there = {f"{kind}.{label}" for kind, bodies in document["resource"].items() for label in bodies}
    blocks = document.get("import", [])
    assert {block["to"] for block in blocks} <= there
    return {block["to"]: block["id"] for block in blocks}


def test_nothing_there_is_nothing_to_import() -> None:
    assert _imports(CASES["default"], _observed()) == {}


def test_everything_that_is_there_and_declared_is_imported() -> None:
    declaration = Declaration(
        rules=STANDARD_RULES,
        templates=CASES["tags, KMS and a role"].templates,
        access=NodeAccess(node_roles=("eks-nodes", "others"), pull_accounts=(OTHER_ACCOUNT,)),
        scan_frequency=ScanFrequency.ON_PUSH,
    )
    role = "pullthrough-pullthrough-template"
    observed = _observed(
        _there(ResourceKind.SECRET, "ecr-pullthroughcache/docker-hub", arn=_ARN, more={"currentVersion": "v-1"}),
        _there(ResourceKind.RULE, "docker-hub"),
        _there(ResourceKind.RULE, "somebody-else"),
        _there(ResourceKind.TEMPLATE, "ecr-public"),
        _there(ResourceKind.ROLE, role, attributes={"policy": {}}),
        _there(ResourceKind.NODE_ACCESS, "eks-nodes"),
        policy=json.dumps({"Version": "2012-10-17", "Statement": []}),
    )
    assert _imports(declaration, observed) == {
        "aws_secretsmanager_secret.docker_hub": _ARN,
        "aws_secretsmanager_secret_version.docker_hub": f"{_ARN}|v-1",
        "aws_ecr_pull_through_cache_rule.docker_hub": "docker-hub",
        "aws_ecr_repository_creation_template.ecr_public": "ecr-public",
        "aws_iam_role.template": role,
        "aws_iam_role_policy.template": f"{role}:create-repositories",
        "aws_iam_role_policy.node_eks_nodes": "eks-nodes:pullthrough-pullthrough",
        "aws_ecr_registry_policy.registry": TARGET.account,
        "aws_ecr_registry_scanning_configuration.registry": TARGET.account,
    }


def test_role_without_its_policy_and_secret_without_a_value_are_imported_alone() -> None:
    role = "pullthrough-pullthrough-template"
    observed = _observed(
        _there(ResourceKind.SECRET, "ecr-pullthroughcache/github", arn="arn:x", more={"currentVersion": ""}),
        _there(ResourceKind.ROLE, role, attributes={"policy": None}),
    )
    assert _imports(CASES["tags, KMS and a role"], observed) == {
        "aws_secretsmanager_secret.github": "arn:x",
        "aws_iam_role.template": role,
    }


def test_secret_that_is_to_be_deleted_is_not_imported_and_says_what_to_do() -> None:
    name = "ecr-pullthroughcache/github"
    observed = _observed(_there(ResourceKind.SECRET, name, arn="arn:x", is_scheduled_for_deletion=True))
    assert _imports(CASES["default"], observed) == {}
    secret = _resources(CASES["default"], observed)["aws_secretsmanager_secret"]["github"]
    assert f"restore-secret --secret-id {name}" in secret["//"]


def test_statements_of_others_stay_and_ours_are_renewed() -> None:
    theirs = {
        "Sid": "Theirs",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "ecr:*",
        "Condition": {"Null": {"${a}": "x"}},
    }
    ours = {"Sid": "PullthroughAccountsOfpullthrough", "Effect": "Allow", "Principal": "*", "Action": "ecr:*"}
    for statements in ([ours, theirs], theirs):
        text = json.dumps({"Version": "2008-10-17", "Id": "kept", "Statement": statements})
        resources = _resources(CASES["access"], _observed(policy=text))
        policy = json.loads(resources["aws_ecr_registry_policy"]["registry"]["policy"])
        assert policy["Version"] == "2008-10-17"
        assert policy["Id"] == "kept"
        declared = expected(CASES["access"])[Key(ResourceKind.REGISTRY_POLICY, "registry")]["statements"]
        assert isinstance(declared, list)
        assert sorted(policy["Statement"], key=str) == sorted([theirs, *declared], key=str)


def test_filters_of_others_and_the_kind_of_scanning_stay() -> None:
    scanning = Scanning(
        "ENHANCED",
        (
            {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "mine/*", "filterType": "WILDCARD"}]},
            {"scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{"filter": "p*", "filterType": "WILDCARD"}]},
        ),
    )
    declaration = Declaration(rules=standard("docker-hub", "github", "quay"), scan_frequency=ScanFrequency.ON_PUSH)
    resources = _resources(declaration, _observed(scanning=scanning))
    configuration = resources["aws_ecr_registry_scanning_configuration"]["registry"]
    assert configuration["scan_type"] == "ENHANCED"
    assert {
        rule["scan_frequency"]: [entry["filter"] for entry in rule["repository_filter"]]
        for rule in configuration["rule"]
    } == {"SCAN_ON_PUSH": ["ecr-public/*", "kubernetes/*", "mine/*"], "CONTINUOUS_SCAN": ["p*"]}


def test_root_and_github_under_root_keep_the_inputs_of_the_module() -> None:
    document: dict[str, Any] = terraform_document(Declaration(rules=(Rule(ROOT, GITHUB),)))
    assert list(document["variable"]) == ["github_username", "github_access_token"]
    assert document["resource"]["aws_secretsmanager_secret"]["ROOT"]["name"] == "ecr-pullthroughcache/ROOT"
