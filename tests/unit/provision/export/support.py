"""Declarations to export, what `apply` would make of each, and how to read that back out of an export."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from pullthrough.declaration import (
    GITHUB,
    ROOT,
    STANDARD_RULES,
    CredentialSource,
    Declaration,
    Encryption,
    InlineToken,
    NodeAccess,
    Rule,
    ScanFrequency,
    SecretCredential,
    TagMutability,
    Template,
)
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.model.accounts import Account, wants_account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.resources import Json, Key, ResourceKind, secret_reference
from pullthrough.provision.model.target import DeploymentTarget

HERE = Path(__file__).parent
TARGET = DeploymentTarget("123456789012", "eu-west-1")
HOST = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
OTHER_ACCOUNT = "210987654321"
GITLAB = "registry.gitlab.com"
#: A token that must be nowhere in an export.
TOKEN = "dckr_pat_do-not-show-me"
SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/given-a1B2c3"
ROLE_ARN = "arn:aws:iam::123456789012:role/given"
KEY_ARN = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f"
POLICY_FILE, LIFECYCLE_FILE = HERE / "repository_policy.json", HERE / "lifecycle_policy.json"


def standard(*leave_out: str) -> tuple[Rule, ...]:
    return tuple(rule for rule in STANDARD_RULES if rule.prefix not in leave_out)


_INLINE = CredentialSource("me", access_token=InlineToken(TOKEN))
_COMMON = CredentialSource("me", access_token_env="PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN")
_OWN = CredentialSource("team", access_token_file=Path("/nowhere/token"))

#: By what is special about it.
CASES: Mapping[str, Declaration] = {
    "default": Declaration(rules=STANDARD_RULES),
    "renamed and switched off": Declaration(
        name="second-cache",
        rules=(Rule("hub", DOCKER_HUB, credential=_INLINE), *standard("docker-hub", "github")),
        disabled=(Rule("github", GITHUB),),
        usernames={DOCKER_HUB: "me"},
    ),
    "root": Declaration(rules=(*standard("docker-hub"), Rule(ROOT, DOCKER_HUB))),
    "ecr to ecr": Declaration(
        rules=(
            Rule(
                "own/one", f"{OTHER_ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com", "upstream/one", custom_role_arn=ROLE_ARN
            ),
            Rule("own/all", "123456789012.dkr.ecr.us-east-1.amazonaws.com"),
        )
    ),
    "given secret": Declaration(
        rules=(*standard("docker-hub"), Rule("docker-hub", DOCKER_HUB, credential=SecretCredential(SECRET_ARN)))
    ),
    "accounts of their own": Declaration(
        rules=(
            Rule("docker-hub", DOCKER_HUB, credential=_OWN),
            Rule("hub", DOCKER_HUB, credential=_COMMON),
            Rule("ghcr", GITHUB),
            Rule("github", GITHUB, secret_name="ecr-pullthroughcache/common"),
            Rule("ghcr2", GITHUB, secret_name="ecr-pullthroughcache/common"),
            Rule("lab", GITLAB, credential=CredentialSource("lab", access_token_command=("pass", TOKEN))),
            Rule("azure", "example.azurecr.io"),
            Rule("chainguard", "cgr.dev"),
        ),
        usernames={DOCKER_HUB: "me"},
    ),
    "names that are alike": Declaration(
        rules=tuple(
            Rule(prefix, GITLAB) for prefix in ("team/a", "team-a", "team.a", "team_a", "teama", "1a", "a1", "a-1")
        )
    ),
    "tags, KMS and a role": Declaration(
        rules=STANDARD_RULES,
        templates={
            "quay": Template(resource_tags={"team": "platform", "empty": ""}),
            "github": Template(encryption=Encryption.KMS, kms_key=KEY_ARN, resource_tags={"cost": "1"}),
            "kubernetes": Template(encryption=Encryption.KMS, role_arn=ROLE_ARN),
        },
        tags={"owner": "me@example.com", "a b": "c:/d=e+f"},
    ),
    "repository policies": Declaration(
        rules=STANDARD_RULES,
        templates={
            "quay": Template(pull_accounts=(OTHER_ACCOUNT,), pull_organization="o-a1b2c3d4e5"),
            "github": Template(repository_policy_file=POLICY_FILE, lifecycle_policy_file=LIFECYCLE_FILE),
            "kubernetes": Template(
                keep_images=None,
                tag_mutability=TagMutability.IMMUTABLE,
                tag_mutability_exclusions=("latest", "dev-*"),
            ),
            "ecr-public": Template(enabled=False),
        },
    ),
    "access": Declaration(
        rules=STANDARD_RULES,
        access=NodeAccess(
            node_roles=("eks-nodes", "EksNodes", "eks_nodes", "1.node@x"),
            pull_accounts=(OTHER_ACCOUNT,),
            pull_organization="o-a1b2c3d4e5",
        ),
    ),
    "scanned when they come in": Declaration(rules=STANDARD_RULES, scan_frequency=ScanFrequency.ON_PUSH),
    "scanned all the time": Declaration(
        rules=(*STANDARD_RULES, Rule(ROOT, "cgr.dev")), scan_frequency=ScanFrequency.CONTINUOUS
    ),
    "no templates": Declaration(
        rules=STANDARD_RULES, templates={rule.prefix: Template(enabled=False) for rule in STANDARD_RULES}
    ),
}


class _NoFingerprints(Fingerprints):
    def __init__(self) -> None:
        self.stored = False

    def of(self, secret: str) -> str:
        return ""


def expected(declaration: Declaration) -> dict[Key, dict[str, Json]]:
    """What `apply` would make of it in TARGET; of accounts nothing."""
    accounts = {rule.prefix: Account("", "") for rule in declaration.rules if wants_account(rule, TARGET)}
    desired = build_desired(declaration, accounts, _NoFingerprints(), TARGET)
    found = {resource.key: dict(resource.attributes) for resource in desired.resources}
    for key, attributes in found.items():
        if key.kind is ResourceKind.SECRET:
            del attributes["username"], attributes["accessToken"]
    return found


def addresses(outputs: Mapping[str, str]) -> dict[str, str]:
    return {name: address.replace(HOST, "HOST") for name, address in outputs.items()}


# Reading a Terraform document whose expressions have been evaluated

#: A resource's body by type and label.
Resources = Mapping[str, Mapping[str, Mapping[str, Any]]]
SECRET_STAND_IN = "arn-of:"


def read_terraform(resources: Resources) -> dict[Key, dict[str, Json]]:
    """In the words of the API, as `expected` has them; ARNs of secrets are SECRET_STAND_IN and their label."""
    found: dict[Key, dict[str, Json]] = {}
    secrets = {label: body["name"] for label, body in resources.get("aws_secretsmanager_secret", {}).items()}
    assert secrets.keys() == resources.get("aws_secretsmanager_secret_version", {}).keys()
    for body in resources.get("aws_secretsmanager_secret", {}).values():
        found[Key(ResourceKind.SECRET, body["name"])] = {
            "description": body["description"],
            "kmsKeyId": "",
            "tags": body["tags"],
        }
    for body in resources.get("aws_ecr_pull_through_cache_rule", {}).values():
        credential = body.get("credential_arn", "")
        if credential.startswith(SECRET_STAND_IN):
            label = credential.removeprefix(SECRET_STAND_IN)
            assert body["depends_on"] == [f"aws_secretsmanager_secret_version.{label}"]
            credential = secret_reference(secrets[label])
        found[Key(ResourceKind.RULE, body["ecr_repository_prefix"])] = {
            "upstreamRegistryUrl": body["upstream_registry_url"],
            "upstreamRepositoryPrefix": body.get("upstream_repository_prefix", ROOT),
            "credentialArn": credential,
            "customRoleArn": body.get("custom_role_arn", ""),
        }
    found |= _read_roles(resources)
    for body in resources.get("aws_ecr_repository_creation_template", {}).values():
        found[Key(ResourceKind.TEMPLATE, body["prefix"])] = _read_template(body)
    for body in resources.get("aws_ecr_registry_policy", {}).values():
        found[Key(ResourceKind.REGISTRY_POLICY, "registry")] = {"statements": json.loads(body["policy"])["Statement"]}
    for body in resources.get("aws_ecr_registry_scanning_configuration", {}).values():
        filters = [
            f"{rule['scan_frequency']} {entry['filter']}"
            for rule in body["rule"]
            for entry in rule["repository_filter"]
        ]
        found[Key(ResourceKind.SCANNING, "registry")] = {"filters": sorted(filters)}
    return found


def _read_roles(resources: Resources) -> dict[Key, dict[str, Json]]:
    found: dict[Key, dict[str, Json]] = {}
    roles = {body["name"]: body for body in resources.get("aws_iam_role", {}).values()}
    for body in resources.get("aws_iam_role_policy", {}).values():
        policy: dict[str, Json] = {"policyName": body["name"], "policy": json.loads(body["policy"])}
        if role := roles.get(body["role"]):
            found[Key(ResourceKind.ROLE, body["role"])] = policy | {
                "description": role["description"],
                "trustPolicy": json.loads(role["assume_role_policy"]),
                "tags": role["tags"],
            }
        else:
            found[Key(ResourceKind.NODE_ACCESS, body["role"])] = policy
    return found


def _read_template(body: Mapping[str, Any]) -> dict[str, Json]:
    (encryption,) = body["encryption_configuration"]
    exclusions = body.get("image_tag_mutability_exclusion_filter", [])
    assert all(entry["filter_type"] == "WILDCARD" for entry in exclusions)
    return {
        "description": body["description"],
        "appliedFor": body["applied_for"],
        "imageTagMutability": body["image_tag_mutability"],
        "imageTagMutabilityExclusionFilters": [entry["filter"] for entry in exclusions],
        "encryptionType": encryption["encryption_type"],
        "kmsKey": encryption.get("kms_key", ""),
        "lifecyclePolicy": json.loads(body["lifecycle_policy"]) if "lifecycle_policy" in body else None,
        "repositoryPolicy": json.loads(body["repository_policy"]) if "repository_policy" in body else None,
        "resourceTags": body.get("resource_tags", {}),
        "customRoleArn": body.get("custom_role_arn", ""),
    }


# Evaluating Terraform's templates, as far as exports use them; an integration test compares with Terraform itself

_TEMPLATE = re.compile(r"(\$\$\{|%%\{)|\$\{([^{}]*)\}|(%\{)")
_DATA = {
    "data.aws_caller_identity.current.account_id": TARGET.account,
    "data.aws_region.current.region": TARGET.region,
    "data.aws_partition.current.partition": "aws",
    "data.aws_partition.current.dns_suffix": "amazonaws.com",
}


def evaluate_terraform(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its expressions evaluated; a variable is `var.` and its name."""

    def expression(text: str) -> str:
        if text in _DATA:
            return _DATA[text]
        if call := re.fullmatch(r"jsonencode\(var\.(\w+)\)", text):
            assert call[1] in document["variable"], text
            return json.dumps(f"var.{call[1]}")
        kind, label, attribute = text.split(".")
        body = document["resource"][kind][label]
        if attribute == "arn" and kind == "aws_iam_role":
            return f"arn:aws:iam::{TARGET.account}:role/{body['name']}"
        if attribute in ("arn", "id") and kind == "aws_secretsmanager_secret":
            return f"{SECRET_STAND_IN}{label}"
        assert attribute == "name", text
        return str(body["name"])

    def template(text: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            assert match[3] is None, f"a directive in {text!r}"
            return match[1][1:] if match[1] else expression(match[2])

        return _TEMPLATE.sub(replaced, text)

    result: dict[str, Any] = {}
    for section, content in document.items():
        result[section] = content if section in ("terraform", "variable") else _each_text(content, template)
    return result


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(entry, change) for key, entry in value.items()}
    if isinstance(value, list):
        return [_each_text(entry, change) for entry in value]
    return value


# Reading a CloudFormation template

_PSEUDO = {
    "AWS::AccountId": TARGET.account,
    "AWS::Region": TARGET.region,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}


def evaluate_cloudformation(template: Mapping[str, Any]) -> dict[str, Any]:
    """Resources and outputs with their functions evaluated; a parameter is `param.` and its name."""

    def reference(name: str) -> str:
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in template.get("Parameters", {}):
            return f"param.{name}"
        resource = template["Resources"][name]
        if resource["Type"] == "AWS::SecretsManager::Secret":
            return f"{SECRET_STAND_IN}{name}"
        assert resource["Type"] == "AWS::IAM::Role"
        return str(resource["Properties"]["RoleName"])

    def substitute(match: re.Match[str]) -> str:
        return f"${{{match[1][1:]}}}" if match[1].startswith("!") else reference(match[1])

    def evaluate(value: Any) -> Any:
        if isinstance(value, list):
            return [evaluate(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        match value:
            case {"Ref": str(name)}:
                return reference(name)
            case {"Fn::GetAtt": [str(name), "Arn"]}:
                return f"arn:aws:iam::{TARGET.account}:role/{reference(name)}"
            case {"Fn::Sub": str(text)}:
                return re.sub(r"\$\{([^}]*)\}", substitute, text)
        assert not any(key.startswith("Fn::") for key in value), value
        return {key: evaluate(entry) for key, entry in value.items()}

    return {section: evaluate(template.get(section, {})) for section in ("Resources", "Outputs")}


def read_cloudformation(resources: Mapping[str, Mapping[str, Any]]) -> dict[Key, dict[str, Json]]:
    """In the words of the API, as `expected` has them."""
    found: dict[Key, dict[str, Json]] = {}
    secrets = {
        f"{SECRET_STAND_IN}{name}": resource["Properties"]["Name"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::SecretsManager::Secret"
    }
    policies = {
        resource["Properties"]["RoleName"]: resource["Properties"]
        for resource in resources.values()
        if resource["Type"] == "AWS::IAM::RolePolicy"
    }
    for resource in resources.values():
        body = resource["Properties"]
        match resource["Type"]:
            case "AWS::SecretsManager::Secret":
                found[Key(ResourceKind.SECRET, body["Name"])] = {
                    "description": body["Description"],
                    "kmsKeyId": "",
                    "tags": _table(body["Tags"]),
                }
            case "AWS::ECR::PullThroughCacheRule":
                credential = body.get("CredentialArn", "")
                found[Key(ResourceKind.RULE, body["EcrRepositoryPrefix"])] = {
                    "upstreamRegistryUrl": body["UpstreamRegistryUrl"],
                    "upstreamRepositoryPrefix": body.get("UpstreamRepositoryPrefix", ROOT),
                    "credentialArn": secret_reference(secrets[credential]) if credential in secrets else credential,
                    "customRoleArn": body.get("CustomRoleArn", ""),
                }
            case "AWS::IAM::Role":
                policy = policies.pop(body["RoleName"])
                found[Key(ResourceKind.ROLE, body["RoleName"])] = {
                    "description": body["Description"],
                    "trustPolicy": body["AssumeRolePolicyDocument"],
                    "policyName": policy["PolicyName"],
                    "policy": policy["PolicyDocument"],
                    "tags": _table(body["Tags"]),
                }
            case "AWS::ECR::RepositoryCreationTemplate":
                found[Key(ResourceKind.TEMPLATE, body["Prefix"])] = _read_creation_template(body)
            case "AWS::ECR::RegistryPolicy":
                found[Key(ResourceKind.REGISTRY_POLICY, "registry")] = {"statements": body["PolicyText"]["Statement"]}
            case "AWS::ECR::RegistryScanningConfiguration":
                filters = [
                    f"{rule['ScanFrequency']} {entry['Filter']}"
                    for rule in body["Rules"]
                    for entry in rule["RepositoryFilters"]
                ]
                found[Key(ResourceKind.SCANNING, "registry")] = {"filters": sorted(filters)}
    for role, policy in policies.items():
        found[Key(ResourceKind.NODE_ACCESS, role)] = {
            "policyName": policy["PolicyName"],
            "policy": policy["PolicyDocument"],
        }
    return found


def _read_creation_template(body: Mapping[str, Any]) -> dict[str, Json]:
    encryption = body["EncryptionConfiguration"]
    return {
        "description": body["Description"],
        "appliedFor": body["AppliedFor"],
        "imageTagMutability": body["ImageTagMutability"],
        "imageTagMutabilityExclusionFilters": [
            entry["ImageTagMutabilityExclusionFilterValue"]
            for entry in body.get("ImageTagMutabilityExclusionFilters", [])
        ],
        "encryptionType": encryption["EncryptionType"],
        "kmsKey": encryption.get("KmsKey", ""),
        "lifecyclePolicy": json.loads(body["LifecyclePolicy"]) if "LifecyclePolicy" in body else None,
        "repositoryPolicy": json.loads(body["RepositoryPolicy"]) if "RepositoryPolicy" in body else None,
        "resourceTags": _table(body.get("ResourceTags", [])),
        "customRoleArn": body.get("CustomRoleArn", ""),
    }


def _table(tags: list[dict[str, str]]) -> dict[str, Json]:
    return {tag["Key"]: tag["Value"] for tag in tags}


# Declarations by chance

_words = st.text("abc019", min_size=1, max_size=4)
_prefixes = st.builds(
    lambda first, rest: (first + "".join(separator + word for separator, word in rest))[:30].strip("-_./"),
    _words,
    st.lists(st.tuples(st.sampled_from("-_./"), _words), max_size=3),
).filter(lambda prefix: len(prefix) >= 2)
#: What AWS takes as tags, and characters that mean something to one of the formats; settings refuse those.
_legal_tags = st.dictionaries(
    st.text("abé.:/=+-@_", min_size=1, max_size=8), st.text("ab é.:/=+-@_", max_size=12), max_size=3
)
_odd_tags = st.dictionaries(
    st.text("ab$.:/=+-@_{}%", min_size=1, max_size=8), st.text("ab ${}%!\"\\'<>&é.:/=\n", max_size=12), max_size=3
)
_upstreams = st.sampled_from(
    [DOCKER_HUB, GITHUB, "quay.io", "registry.k8s.io", "public.ecr.aws", GITLAB, "cgr.dev", "example.azurecr.io"]
)
_rules = st.lists(
    st.builds(Rule, st.one_of(_prefixes, st.just(ROOT)), _upstreams),
    min_size=1,
    max_size=6,
    unique_by=lambda r: r.prefix,
).filter(lambda rules: not any(other.prefix.startswith(f"{rule.prefix}/") for rule in rules for other in rules))


def _templates(tags: st.SearchStrategy[dict[str, str]]) -> st.SearchStrategy[Template]:
    return st.builds(
        Template,
        enabled=st.booleans(),
        keep_images=st.one_of(st.none(), st.integers(1, 1000)),
        tag_mutability=st.sampled_from(TagMutability),
        tag_mutability_exclusions=st.lists(st.text("ab*._-", min_size=1, max_size=5), max_size=3, unique=True).map(
            tuple
        ),
        resource_tags=tags,
        encryption=st.sampled_from([Encryption.AES256, Encryption.KMS]),
        pull_accounts=st.sampled_from([(), (OTHER_ACCOUNT,)]),
        pull_organization=st.sampled_from(["", "o-a1b2c3d4e5"]),
    )


@st.composite
def declarations(draw: st.DrawFn, *, legal_tags: bool = False) -> Declaration:
    rules, tags = draw(_rules), _legal_tags if legal_tags else _odd_tags
    return Declaration(
        name=draw(st.sampled_from(["pullthrough", "a-b", "x1"])),
        rules=tuple(rules),
        templates={rule.prefix: draw(_templates(tags)) for rule in rules if draw(st.booleans())},
        access=NodeAccess(
            node_roles=tuple(draw(st.lists(st.text("abA1+=,.@_-", min_size=1, max_size=6), max_size=3, unique=True))),
            pull_accounts=draw(st.sampled_from([(), (OTHER_ACCOUNT,)])),
        ),
        scan_frequency=draw(st.sampled_from([None, *ScanFrequency])),
        tags=draw(tags),
    )
