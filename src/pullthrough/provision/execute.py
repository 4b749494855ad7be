"""One step of a plan, carried out. Each may be carried out again after a half-done one, and then ends in the same state.

A call that was lost may have taken effect. What makes something and hears that it is there already looks at it, and is
content where it is as it was to be.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any, assert_never, cast

from pullthrough.errors import AwsRefused
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision import documents
from pullthrough.provision.aws import Aws
from pullthrough.provision.existing import apply_repository, delete_repository
from pullthrough.provision.inputs import Account
from pullthrough.provision.merging import merge_filters, merge_statements
from pullthrough.provision.observe import (
    DEFAULT_SECRETS_KEY,
    account_attributes,
    read_registry_policy,
    read_role,
    read_rules,
    read_scanning,
    read_templates,
)
from pullthrough.provision.plan import Action, Step
from pullthrough.provision.resources import MARKER_TAG, Attributes, ResourceKind, secret_reference
from pullthrough.provision.target import Target

#: AWS's races: a secret or a role that was made a moment ago is not known everywhere yet.
_SECRET_RACES = ("SecretNotFoundException", "UnableToAccessSecretException")


class Executor:
    """Carries out the steps of one plan. Thread-safe."""

    def __init__(
        self,
        aws: Aws,
        target: Target,
        name: str,
        accounts: Mapping[str, Account],
        fingerprints: Fingerprints,
        new_token: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`accounts` by the name of their secret."""
        self._aws = aws
        self._target = target
        self._name = name
        self._accounts = accounts
        self._fingerprints = fingerprints
        self._new_token = new_token
        self._arns: dict[str, str] = {}
        self._lock = threading.Lock()

    def execute(self, step: Step) -> None:
        """Raises what `Aws.call` raises."""
        match step.key.kind:
            case ResourceKind.SECRET:
                self._secret(step)
            case ResourceKind.ROLE:
                self._role(step)
            case ResourceKind.RULE:
                self._rule(step)
            case ResourceKind.TEMPLATE:
                self._template(step)
            case ResourceKind.NODE_ACCESS:
                self._node_access(step)
            case ResourceKind.REGISTRY_POLICY:
                self._registry_policy(step)
            case ResourceKind.SCANNING:
                self._scanning(step)
            case ResourceKind.REPOSITORY if step.action is Action.DELETE:
                delete_repository(self._aws, step.key.name)
            case ResourceKind.REPOSITORY:
                apply_repository(self._aws, self._target, step)
            case _ as never:
                assert_never(never)

    # Secrets

    def _secret(self, step: Step) -> None:
        name = step.key.name
        if step.after is None:
            self._delete_secret(step.arn, step.details["recoveryDays"])
            return
        if step.action is Action.CREATE:
            self._create_secret(name, step.after)
            return
        before = dict(step.before or {})
        if step.action is Action.RESTORE:
            self._aws.call("secretsmanager", "RestoreSecret", SecretId=step.arn)
            # Only now it tells what it holds; the same account makes no new version.
            before |= account_attributes(self._read_value(name), self._fingerprints)
        self._update_secret(name, step.arn, before, step.after)

    def _delete_secret(self, arn: str, days: object) -> None:
        try:
            self._aws.call("secretsmanager", "DeleteSecret", SecretId=arn, RecoveryWindowInDays=days)
        except AwsRefused as error:
            if error.code == "ResourceNotFoundException":
                return
            # What a call that was lost has done is refused a second time.
            if error.code != "InvalidRequestException":
                raise
            if self._aws.call("secretsmanager", "DescribeSecret", SecretId=arn).get("DeletedDate") is None:
                raise

    def _create_secret(self, name: str, after: Attributes) -> None:
        try:
            made = self._aws.call(
                "secretsmanager",
                "CreateSecret",
                Name=name,
                Description=after["description"],
                SecretString=self._secret_text(name),
                Tags=_tag_list(after["tags"]),
                # The same call again is the same secret: a lost answer makes no second one, and no error.
                ClientRequestToken=self._new_token(),
            )
        except AwsRefused as error:
            if error.code != "ResourceExistsException":
                raise
            made = self._aws.call("secretsmanager", "DescribeSecret", SecretId=name)
            tags = {tag["Key"]: tag["Value"] for tag in made.get("Tags", [])}
            now = account_attributes(self._read_value(name), self._fingerprints)
            wanted = {key: after[key] for key in now}
            if tags.get(MARKER_TAG) != self._name or now != wanted:
                raise
        with self._lock:
            self._arns[name] = made["ARN"]

    def _update_secret(self, name: str, arn: str, before: Attributes, after: Attributes) -> None:
        if any(before.get(key) != after[key] for key in ("username", "accessToken")):
            self._aws.call(
                "secretsmanager",
                "PutSecretValue",
                retry=("InvalidRequestException",) if before.get("accessToken") in ("", None) else (),
                SecretId=arn,
                SecretString=self._secret_text(name),
                ClientRequestToken=self._new_token(),
            )
        changed: dict[str, Any] = {}
        if before.get("description") != after["description"]:
            changed["Description"] = after["description"]
        if before.get("kmsKeyId") != after["kmsKeyId"]:
            changed["KmsKeyId"] = DEFAULT_SECRETS_KEY
        if changed:
            self._aws.call("secretsmanager", "UpdateSecret", SecretId=arn, **changed)
        missing, surplus = _tag_changes(before.get("tags"), after["tags"])
        if surplus:
            self._aws.call("secretsmanager", "UntagResource", SecretId=arn, TagKeys=surplus)
        if missing:
            self._aws.call("secretsmanager", "TagResource", SecretId=arn, Tags=_tag_list(missing))

    def _read_value(self, name: str) -> str:
        answer = self._aws.call("secretsmanager", "BatchGetSecretValue", SecretIdList=[name])
        return next((str(entry.get("SecretString", "")) for entry in answer.get("SecretValues", [])), "")

    def _secret_text(self, name: str) -> str:
        account = self._accounts[name]
        text = json.dumps({"username": account.username, "accessToken": account.token})
        self._aws.secrets |= {account.token, text}
        return text

    # Rules

    def _rule(self, step: Step) -> None:
        prefix = step.key.name
        if step.after is None or step.action is Action.REPLACE:
            _unless(
                ("PullThroughCacheRuleNotFoundException",),
                lambda: self._aws.call("ecr", "DeletePullThroughCacheRule", ecrRepositoryPrefix=prefix),
            )
        if step.after is None:
            return
        wanted = self._with_arn(step.after)
        credential = {"credentialArn": wanted["credentialArn"]} if wanted["credentialArn"] else {}
        role = {"customRoleArn": wanted["customRoleArn"]} if wanted["customRoleArn"] else {}
        with self._lock:
            # Of a secret that was there before, what AWS says is so.
            races = _SECRET_RACES if wanted["credentialArn"] in self._arns.values() else ()
        if step.action is Action.UPDATE:
            self._aws.call(
                "ecr",
                "UpdatePullThroughCacheRule",
                retry=races,
                ecrRepositoryPrefix=prefix,
                **credential,
                **role,
            )
            return
        upstream_prefix = wanted["upstreamRepositoryPrefix"]
        try:
            self._aws.call(
                "ecr",
                "CreatePullThroughCacheRule",
                retry=races,
                ecrRepositoryPrefix=prefix,
                upstreamRegistryUrl=wanted["upstreamRegistryUrl"],
                # Terraform would replace a rule that has a prefix which nobody gave it.
                **({} if upstream_prefix == "ROOT" else {"upstreamRepositoryPrefix": upstream_prefix}),
                **credential,
                **role,
            )
        except AwsRefused as error:
            if error.code != "PullThroughCacheRuleAlreadyExistsException":
                raise
            there = {rule.key.name: rule.attributes for rule in read_rules(self._aws)}
            if there.get(prefix) != wanted:
                raise

    def _with_arn(self, attributes: Attributes) -> dict[str, Any]:
        resolved = dict(attributes)
        with self._lock:
            for name, arn in self._arns.items():
                if resolved["credentialArn"] == secret_reference(name):
                    resolved["credentialArn"] = arn
        return resolved

    # Templates

    def _template(self, step: Step) -> None:
        prefix = step.key.name
        if step.after is None:
            _unless(
                ("TemplateNotFoundException",),
                lambda: self._aws.call("ecr", "DeleteRepositoryCreationTemplate", prefix=prefix),
            )
            return
        if step.action is Action.UPDATE:
            changed = {name for name, _, _ in step.changes}
            self._aws.call(
                "ecr", "UpdateRepositoryCreationTemplate", prefix=prefix, **_template_parameters(step.after, changed)
            )
            return
        given = {name for name, value in step.after.items() if value not in ("", None, [], {})}
        try:
            self._aws.call(
                "ecr", "CreateRepositoryCreationTemplate", prefix=prefix, **_template_parameters(step.after, given)
            )
        except AwsRefused as error:
            if error.code != "TemplateAlreadyExistsException":
                raise
            there = {template.key.name: template.attributes for template in read_templates(self._aws)}
            if there.get(prefix) != step.after:
                raise

    # IAM

    def _role(self, step: Step) -> None:
        name = step.key.name
        attributes = step.after or step.before or {}
        policy = {"RoleName": name, "PolicyName": str(attributes["policyName"])}
        if step.after is None:
            _unless(("NoSuchEntity",), lambda: self._aws.call("iam", "DeleteRolePolicy", **policy))
            _unless(("NoSuchEntity",), lambda: self._aws.call("iam", "DeleteRole", RoleName=name))
            return
        before: Attributes = step.before or {}
        if step.action is Action.CREATE:
            before = self._create_role(name, step.after)
        if before.get("description") != step.after["description"]:
            self._aws.call("iam", "UpdateRole", RoleName=name, Description=step.after["description"])
        if before.get("trustPolicy") != step.after["trustPolicy"]:
            trust = json.dumps(step.after["trustPolicy"])
            self._aws.call("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=trust)
        missing, surplus = _tag_changes(before.get("tags"), step.after["tags"])
        if surplus:
            self._aws.call("iam", "UntagRole", RoleName=name, TagKeys=surplus)
        if missing:
            self._aws.call("iam", "TagRole", RoleName=name, Tags=_tag_list(missing))
        if before.get("policy") != step.after["policy"]:
            document = json.dumps(step.after["policy"])
            self._aws.call("iam", "PutRolePolicy", retry=("NoSuchEntity",), **policy, PolicyDocument=document)

    def _create_role(self, name: str, after: Attributes) -> Attributes:
        """What the role has now: all but its policy; of one that a lost call made, what it has."""
        try:
            self._aws.call(
                "iam",
                "CreateRole",
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(after["trustPolicy"]),
                Description=after["description"],
                Tags=_tag_list(after["tags"]),
            )
        except AwsRefused as error:
            if error.code != "EntityAlreadyExists":
                raise
            there = read_role(self._aws, name, str(after["policyName"]))
            if there is None or there.marked_by != self._name:
                raise
            return there.attributes
        return {**after, "policy": None}

    def _node_access(self, step: Step) -> None:
        attributes = step.after or step.before or {}
        policy = {"RoleName": step.key.name, "PolicyName": str(attributes["policyName"])}
        if step.after is None:
            _unless(("NoSuchEntity",), lambda: self._aws.call("iam", "DeleteRolePolicy", **policy))
        else:
            self._aws.call("iam", "PutRolePolicy", **policy, PolicyDocument=json.dumps(step.after["policy"]))

    # The registry's documents, read again right before they are written

    def _registry_policy(self, step: Step) -> None:
        wanted = cast("list[Mapping[str, Any]]", (step.after or {}).get("statements", []))
        before = read_registry_policy(self._aws)
        after = merge_statements(before, lambda sid: documents.is_our_sid(sid, self._name), wanted)
        if after and after != before:
            self._aws.call("ecr", "PutRegistryPolicy", policyText=after)
        elif before and not after:
            _unless(("RegistryPolicyNotFoundException",), lambda: self._aws.call("ecr", "DeleteRegistryPolicy"))

    def _scanning(self, step: Step) -> None:
        scanning = read_scanning(self._aws)
        add, remove, own = (cast("list[str]", step.details[name]) for name in ("add", "remove", "own"))
        rules = merge_filters(scanning.rules, add=add, remove=remove, own=own)
        if rules != list(scanning.rules):
            self._aws.call("ecr", "PutRegistryScanningConfiguration", scanType=scanning.scan_type, rules=rules)


def _unless(codes: tuple[str, ...], call: Callable[[], object]) -> None:
    """Makes the call; an answer with one of these codes says that there is nothing to do."""
    try:
        call()
    except AwsRefused as error:
        if error.code not in codes:
            raise


def _template_parameters(attributes: Attributes, names: set[str]) -> dict[str, Any]:
    """Parameters of Create and Update: those of `names`. An empty text or list takes away what was there."""
    parameters: dict[str, Any] = {}
    for name in names & {"description", "appliedFor", "customRoleArn"}:
        parameters[name] = attributes[name]
    for name in names & {"lifecyclePolicy", "repositoryPolicy"}:
        parameters[name] = "" if attributes[name] is None else json.dumps(attributes[name])
    if "resourceTags" in names:
        parameters["resourceTags"] = _tag_list(attributes["resourceTags"])
    if names & {"imageTagMutability", "imageTagMutabilityExclusionFilters"}:
        parameters["imageTagMutability"] = attributes["imageTagMutability"]
        filters = cast("list[str]", attributes["imageTagMutabilityExclusionFilters"])
        if filters:
            parameters["imageTagMutabilityExclusionFilters"] = [
                {"filterType": "WILDCARD", "filter": text} for text in filters
            ]
    if names & {"encryptionType", "kmsKey"}:
        key = {"kmsKey": attributes["kmsKey"]} if attributes["kmsKey"] else {}
        parameters["encryptionConfiguration"] = {"encryptionType": attributes["encryptionType"], **key}
    return parameters


def _tag_list(tags: object) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(cast("Mapping[str, str]", tags).items())]


def _tag_changes(before: object, after: object) -> tuple[dict[str, str], list[str]]:
    """Tags to set, and keys of tags to take away."""
    was, wanted = cast("Mapping[str, str]", before or {}), cast("Mapping[str, str]", after)
    return {key: value for key, value in wanted.items() if was.get(key) != value}, sorted(set(was) - set(wanted))
