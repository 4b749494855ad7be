"""Carries out one step of a plan. A step may be repeated after it was half done, and ends in the same state.

A call that was lost may have taken effect. So a call that makes something, and is told that it exists, compares what is
there with what is wanted: where the two are equal, the step is done.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any, assert_never, cast

from pullthrough.errors import AwsRefused
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws
from pullthrough.provision.execution.repositories import apply_repository, delete_repository
from pullthrough.provision.execution.secrets import SecretSteps
from pullthrough.provision.execution.tags import tag_changes, tag_list
from pullthrough.provision.model import documents
from pullthrough.provision.model.accounts import Account
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.resources import Attributes, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.registry import read_registry_policy, read_scanning
from pullthrough.provision.observation.roles import read_role
from pullthrough.provision.observation.rules import read_rules, read_templates
from pullthrough.provision.planning.merging import merge_filters, merge_statements

#: AWS's races: a secret or a role that was made a moment ago is not known everywhere yet.
_SECRET_RACES = ("SecretNotFoundException", "UnableToAccessSecretException")


class Executor:
    """Carries out the steps of one plan. Thread-safe."""

    def __init__(
        self,
        aws: Aws,
        target: DeploymentTarget,
        name: str,
        accounts: Mapping[str, Account],
        fingerprints: Fingerprints,
        new_token: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`accounts` by the name of their secret."""
        self._aws = aws
        self._target = target
        self._name = name
        self._secrets = SecretSteps(aws, name, accounts, fingerprints, new_token)

    def execute(self, step: Step) -> None:
        """Raises what `Aws.call` raises."""
        match step.key.kind:
            case ResourceKind.SECRET:
                self._secrets.execute(step)
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
            case ResourceKind.REPOSITORY if step.action is StepAction.DELETE:
                delete_repository(self._aws, step.key.name)
            case ResourceKind.REPOSITORY:
                apply_repository(self._aws, self._target, step)
            case _ as never:
                assert_never(never)

    # Rules

    def _rule(self, step: Step) -> None:
        prefix = step.key.name
        if step.after is None or step.action is StepAction.REPLACE:
            _unless(
                ("PullThroughCacheRuleNotFoundException",),
                lambda: self._aws.call("ecr", "DeletePullThroughCacheRule", ecrRepositoryPrefix=prefix),
            )
        if step.after is None:
            return
        wanted = self._secrets.with_arn(step.after)
        credential = {"credentialArn": wanted["credentialArn"]} if wanted["credentialArn"] else {}
        role = {"customRoleArn": wanted["customRoleArn"]} if wanted["customRoleArn"] else {}
        # Of a secret that was there before, what AWS says is so.
        races = _SECRET_RACES if self._secrets.has_made(wanted["credentialArn"]) else ()
        if step.action is StepAction.UPDATE:
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

    # Templates

    def _template(self, step: Step) -> None:
        prefix = step.key.name
        if step.after is None:
            _unless(
                ("TemplateNotFoundException",),
                lambda: self._aws.call("ecr", "DeleteRepositoryCreationTemplate", prefix=prefix),
            )
            return
        if step.action is StepAction.UPDATE:
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
        if step.action is StepAction.CREATE:
            before = self._create_role(name, step.after)
        if before.get("description") != step.after["description"]:
            self._aws.call("iam", "UpdateRole", RoleName=name, Description=step.after["description"])
        if before.get("trustPolicy") != step.after["trustPolicy"]:
            trust = json.dumps(step.after["trustPolicy"])
            self._aws.call("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=trust)
        missing, surplus = tag_changes(before.get("tags"), step.after["tags"])
        if surplus:
            self._aws.call("iam", "UntagRole", RoleName=name, TagKeys=surplus)
        if missing:
            self._aws.call("iam", "TagRole", RoleName=name, Tags=tag_list(missing))
        if before.get("policy") != step.after["policy"]:
            document = json.dumps(step.after["policy"])
            self._aws.call("iam", "PutRolePolicy", retry=("NoSuchEntity",), **policy, PolicyDocument=document)

    def _create_role(self, name: str, after: Attributes) -> Attributes:
        """What the role has now: everything but its policy. A role that a lost call made is read."""
        try:
            self._aws.call(
                "iam",
                "CreateRole",
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(after["trustPolicy"]),
                Description=after["description"],
                Tags=tag_list(after["tags"]),
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
    """Make the call; a refusal with one of these codes means that there is nothing to do."""
    try:
        call()
    except AwsRefused as error:
        if error.code not in codes:
            raise


def _template_parameters(attributes: Attributes, names: set[str]) -> dict[str, Any]:
    """The parameters of Create and Update for these attributes. An empty text or list removes what was there."""
    parameters: dict[str, Any] = {}
    for name in names & {"description", "appliedFor", "customRoleArn"}:
        parameters[name] = attributes[name]
    for name in names & {"lifecyclePolicy", "repositoryPolicy"}:
        parameters[name] = "" if attributes[name] is None else json.dumps(attributes[name])
    if "resourceTags" in names:
        parameters["resourceTags"] = tag_list(attributes["resourceTags"])
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
