"""What is there: rules, templates, secrets, roles and the registry's documents, read from AWS or an engine.

What a read costs, in calls: the list of rules, of templates and of marked secrets, a page each; the registry's policy; its
scanning configuration; the values of the declared secrets together; and one for each declared secret, given secret,
node's role and template's role (two for the last: its trust, and its policy). They go out together.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pullthrough.declaration import ROOT
from pullthrough.errors import AwsRefused
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.ecr_upstreams import upstream_host
from pullthrough.provision.aws import Aws, Readers
from pullthrough.provision.desired import marked_by
from pullthrough.provision.resources import MARKER_TAG, Attributes, Existing, Json, Key, ResourceKind
from pullthrough.provision.target import Target

#: BatchGetSecretValue takes so many: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
_SECRETS_AT_ONCE = 20
_PAGE = 100
#: What AWS's own key for secrets is called.
DEFAULT_SECRETS_KEY = "alias/aws/secretsmanager"
#: The value of a secret that is there and is no account; no fingerprint looks so.
NOT_AN_ACCOUNT = "(not a user name and a token)"
UNREADABLE = "(can not be read)"


@dataclass(frozen=True, slots=True)
class Scanning:
    """The registry's scanning configuration, as AWS has it."""

    scan_type: str = "BASIC"
    rules: tuple[Mapping[str, Any], ...] = ()

    @property
    def entries(self) -> frozenset[str]:
        """Each filter as `SCAN_ON_PUSH docker-hub/*`."""
        return frozenset(
            f"{rule['scanFrequency']} {entry['filter']}" for rule in self.rules for entry in rule["repositoryFilters"]
        )


@dataclass(frozen=True, slots=True)
class Questions:
    """What to look at beside what the registry lists by itself."""

    #: Names of declared secrets.
    secrets: tuple[str, ...] = ()
    #: ARNs of secrets that are somebody else's, which rules use.
    given_secrets: tuple[str, ...] = ()
    #: Node roles and the name of the policy to look for in each.
    node_roles: tuple[str, ...] = ()
    node_policy_name: str = ""
    #: Template roles, and the name of their policy.
    roles: tuple[str, ...] = ()
    role_policy_name: str = "create-repositories"


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything the plan is made against."""

    target: Target
    existing: Mapping[Key, Existing]
    #: The registry's policy, to the byte; empty for none.
    registry_policy: str = ""
    scanning: Scanning = field(default_factory=Scanning)
    #: IAM roles that were looked for and are not there.
    absent_roles: frozenset[str] = frozenset()
    #: What was found of given secrets, by ARN: None for one that is not there.
    given_secrets: Mapping[str, Existing | None] = field(default_factory=dict)

    def of(self, kind: ResourceKind) -> dict[str, Existing]:
        """By name."""
        return {key.name: existing for key, existing in self.existing.items() if key.kind is kind}

    def get(self, kind: ResourceKind, name: str) -> Existing | None:
        return self.existing.get(Key(kind, name))


def observe(aws: Aws, target: Target, questions: Questions, fingerprints: Fingerprints) -> Observed:
    """Reads only. Raises what `Aws.call` raises."""
    with Readers(aws) as readers:
        rules = readers.start(read_rules, aws)
        templates = readers.start(read_templates, aws)
        policy = readers.start(read_registry_policy, aws)
        scanning = readers.start(read_scanning, aws)
        marked = readers.start(_list_marked_secrets, aws)
        names = questions.secrets
        values = [
            readers.start(_read_values, aws, names[start : start + _SECRETS_AT_ONCE])
            for start in range(0, len(names), _SECRETS_AT_ONCE)
        ]
        described = {name: readers.start(_describe_secret, aws, name) for name in names}
        given = {arn: readers.start(_describe_secret, aws, arn) for arn in questions.given_secrets}
        roles = {name: readers.start(read_role, aws, name, questions.role_policy_name) for name in questions.roles}
        nodes = {
            name: readers.start(read_node_access, aws, name, questions.node_policy_name)
            for name in questions.node_roles
        }
        return _collect(
            target, fingerprints, rules, templates, policy, scanning, marked, values, described, given, roles, nodes
        )


def _collect(
    target: Target,
    fingerprints: Fingerprints,
    rules: Future[Any],
    templates: Future[Any],
    policy: Future[Any],
    scanning: Future[Any],
    marked: Future[Any],
    values: Iterable[Future[Any]],
    described: Mapping[str, Future[Any]],
    given: Mapping[str, Future[Any]],
    roles: Mapping[str, Future[Any]],
    nodes: Mapping[str, Future[Any]],
) -> Observed:
    found: dict[Key, Existing] = {}
    for existing in (*rules.result(), *templates.result()):
        found[existing.key] = existing
    secrets: dict[str, str] = {}
    for batch in values:
        secrets |= batch.result()
    # Listed first, so that what was described, which is never late, takes its place.
    for description in marked.result():
        existing = _secret(description, None, fingerprints)
        found[existing.key] = existing
    for name, future in described.items():
        key = Key(ResourceKind.SECRET, name)
        if (description := future.result()) is None:
            found.pop(key, None)
        else:
            found[key] = _secret(description, secrets.get(name), fingerprints)
    absent = set()
    for name, future in {**roles, **nodes}.items():
        if (existing := future.result()) is None:
            continue
        if existing is ABSENT_ROLE:
            absent.add(name)
        else:
            found[existing.key] = existing
    return Observed(
        target,
        found,
        registry_policy=policy.result(),
        scanning=scanning.result(),
        absent_roles=frozenset(absent),
        given_secrets={
            arn: None if (description := future.result()) is None else _secret(description, None, fingerprints)
            for arn, future in given.items()
        },
    )


# Rules and templates


def read_rules(aws: Aws) -> list[Existing]:
    answers = aws.pages("ecr", "DescribePullThroughCacheRules", "pullThroughCacheRules", maxResults=_PAGE)
    return [_rule(answer) for answer in answers]


def _rule(answer: Mapping[str, Any]) -> Existing:
    return Existing(
        Key(ResourceKind.RULE, str(answer["ecrRepositoryPrefix"]).removesuffix("/")),
        {
            "upstreamRegistryUrl": upstream_host(str(answer.get("upstreamRegistryUrl", ""))),
            "upstreamRepositoryPrefix": str(answer.get("upstreamRepositoryPrefix") or ROOT).removesuffix("/"),
            "credentialArn": answer.get("credentialArn", ""),
            "customRoleArn": answer.get("customRoleArn", ""),
        },
        # Both AWS and an engine know when the API made a rule; an engine's file does not say.
        is_of_engine_file="createdAt" not in answer,
        created_at=_seconds(answer.get("createdAt")),
        changed_at=_seconds(answer.get("updatedAt")),
    )


def read_templates(aws: Aws) -> list[Existing]:
    answers = aws.pages("ecr", "DescribeRepositoryCreationTemplates", "repositoryCreationTemplates", maxResults=_PAGE)
    return [_template(answer) for answer in answers]


def _template(answer: Mapping[str, Any]) -> Existing:
    encryption = answer.get("encryptionConfiguration") or {}
    description = answer.get("description", "")
    return Existing(
        Key(ResourceKind.TEMPLATE, str(answer["prefix"]).removesuffix("/")),
        {
            "description": description,
            "appliedFor": sorted(answer.get("appliedFor", [])),
            "imageTagMutability": answer.get("imageTagMutability", "MUTABLE"),
            "imageTagMutabilityExclusionFilters": sorted(
                entry["filter"] for entry in answer.get("imageTagMutabilityExclusionFilters") or []
            ),
            "encryptionType": encryption.get("encryptionType", "AES256"),
            "kmsKey": encryption.get("kmsKey", ""),
            "lifecyclePolicy": parse_document(answer.get("lifecyclePolicy", "")),
            "repositoryPolicy": parse_document(answer.get("repositoryPolicy", "")),
            "resourceTags": tags_of(answer.get("resourceTags")),
            "customRoleArn": answer.get("customRoleArn", ""),
        },
        marked_by=marked_by(description),
        created_at=_seconds(answer.get("createdAt")),
        changed_at=_seconds(answer.get("updatedAt")),
    )


# Secrets


def _list_marked_secrets(aws: Aws) -> list[dict[str, Any]]:
    """Those of every declaration. AWS may be minutes late with it, so that it only serves to find what is left over."""
    return aws.pages(
        "secretsmanager",
        "ListSecrets",
        "SecretList",
        Filters=[{"Key": "tag-key", "Values": [MARKER_TAG]}],
        IncludePlannedDeletion=True,
        MaxResults=_PAGE,
    )


def _read_values(aws: Aws, names: Iterable[str]) -> dict[str, str]:
    """The texts of these secrets, by name; those that are not there, or are to be deleted, have none."""
    answer = aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=list(names))
    values = {}
    for entry in answer.get("SecretValues", []):
        values[entry["Name"]] = entry.get("SecretString", "")
        aws.secrets |= tokens_in(values[entry["Name"]])
    for error in answer.get("Errors", []):
        if error.get("ErrorCode") in ("AccessDeniedException", "DecryptionFailure", "InternalServiceError"):
            values[str(error.get("SecretId", ""))] = UNREADABLE
    return values


def _describe_secret(aws: Aws, secret_id: str) -> dict[str, Any] | None:
    try:
        return aws.call("secretsmanager", "DescribeSecret", SecretId=secret_id)
    except AwsRefused as error:
        if error.code == "ResourceNotFoundException":
            return None
        raise


def _secret(description: Mapping[str, Any], value: str | None, fingerprints: Fingerprints) -> Existing:
    """`value` is the secret's text; None where it was not read."""
    tags = tags_of(description.get("Tags"))
    key_id = description.get("KmsKeyId") or ""
    return Existing(
        Key(ResourceKind.SECRET, description["Name"]),
        {
            "description": description.get("Description", ""),
            **account_attributes(value, fingerprints),
            "kmsKeyId": "" if key_id.endswith(DEFAULT_SECRETS_KEY) else key_id,
            "tags": {name: text for name, text in tags.items() if not name.startswith("aws:")},
        },
        arn=description["ARN"],
        marked_by=str(tags.get(MARKER_TAG, "")),
        is_scheduled_for_deletion=description.get("DeletedDate") is not None,
        created_at=_seconds(description.get("CreatedDate")),
        changed_at=_seconds(description.get("LastChangedDate")),
        more={"currentVersion": _current_version(description)},
    )


def _current_version(description: Mapping[str, Any]) -> str:
    stages = description.get("VersionIdsToStages") or description.get("SecretVersionsToStages") or {}
    return next((version for version, names in stages.items() if "AWSCURRENT" in names), "")


def account_attributes(value: str | None, fingerprints: Fingerprints) -> dict[str, Json]:
    """`username` and the fingerprint of `accessToken` in a secret's text."""
    if not value or value == UNREADABLE:
        return {"username": "", "accessToken": value or ""}
    account = parse_account(value)
    if account is None:
        return {"username": "", "accessToken": NOT_AN_ACCOUNT}
    return {"username": account[0], "accessToken": fingerprints.of(account[1])}


def parse_account(text: str) -> tuple[str, str] | None:
    """User name and token of a secret as ECR wants it: a JSON object of exactly these two texts."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or set(document) != {"username", "accessToken"}:
        return None
    username, token = document["username"], document["accessToken"]
    return (username, token) if isinstance(username, str) and isinstance(token, str) else None


def tokens_in(text: str) -> set[str]:
    """What of a secret's text no message may hold."""
    account = parse_account(text)
    return {account[1]} if account else {text}


# IAM

#: Stands for a role that is not there.
ABSENT_ROLE = Existing(Key(ResourceKind.ROLE, ""), {})


def read_role(aws: Aws, name: str, policy_name: str) -> Existing | None:
    """None where there is no such role."""
    try:
        role = aws.call("iam", "GetRole", RoleName=name)["Role"]
    except AwsRefused as error:
        if error.code == "NoSuchEntity":
            return None
        raise
    policy = _read_role_policy(aws, name, policy_name)
    tags = tags_of(role.get("Tags"))
    return Existing(
        Key(ResourceKind.ROLE, name),
        {
            "description": role.get("Description", ""),
            "trustPolicy": parse_document(role.get("AssumeRolePolicyDocument")),
            "policyName": policy_name,
            "policy": policy if isinstance(policy, dict) else None,
            "tags": tags,
        },
        arn=role["Arn"],
        marked_by=str(tags.get(MARKER_TAG, "")),
        created_at=_seconds(role.get("CreateDate")),
    )


def read_node_access(aws: Aws, name: str, policy_name: str) -> Existing | None:
    """None where the role has no such policy, ABSENT_ROLE where there is no such role: one call tells."""
    policy = _read_role_policy(aws, name, policy_name)
    if policy is None:
        return None
    if policy is ABSENT_ROLE:
        return ABSENT_ROLE
    assert isinstance(policy, dict)
    return Existing(Key(ResourceKind.NODE_ACCESS, name), {"policyName": policy_name, "policy": policy})


def _read_role_policy(aws: Aws, name: str, policy_name: str) -> Attributes | Existing | None:
    try:
        answer = aws.call("iam", "GetRolePolicy", RoleName=name, PolicyName=policy_name)
    except AwsRefused as error:
        if error.code != "NoSuchEntity":
            raise
        # "The role with name X cannot be found." or "The role policy with name X cannot be found."
        return None if "policy" in error.message.partition(": ")[2].lower().partition("with name")[0] else ABSENT_ROLE
    document = parse_document(answer["PolicyDocument"])
    return document if isinstance(document, dict) else {}


# The registry's documents


def read_registry_policy(aws: Aws) -> str:
    """To the byte; empty for none."""
    try:
        return str(aws.call("ecr", "GetRegistryPolicy")["policyText"])
    except AwsRefused as error:
        if error.code == "RegistryPolicyNotFoundException":
            return ""
        raise


def read_scanning(aws: Aws) -> Scanning:
    configuration = aws.call("ecr", "GetRegistryScanningConfiguration").get("scanningConfiguration", {})
    return Scanning(configuration.get("scanType", "BASIC"), tuple(configuration.get("rules", [])))


# Shapes


def parse_document(text: object) -> Json:
    """A policy document as a value; None for none. IAM's come parsed; what is no JSON stays a text."""
    if not isinstance(text, str):
        return text or None  # type: ignore[return-value] # the SDK parses IAM's documents
    if not text:
        return None
    try:
        document: Json = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return document


def tags_of(tags: Iterable[Mapping[str, str]] | None) -> dict[str, Json]:
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def _seconds(when: object) -> float | None:
    return when.timestamp() if isinstance(when, datetime) else None
