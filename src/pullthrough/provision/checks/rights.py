"""What roles may do, by IAM's own simulation: SimulatePrincipalPolicy.

AWS answers "not found" where a puller lacks the rights to fill the cache, so that nothing but this tells why.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullthrough.declaration import Template
from pullthrough.errors import AwsRefused, AwsUnreachable, ProvisionError
from pullthrough.provision.aws import Aws
from pullthrough.provision.checks.report import CheckKind, CheckRow, Trouble, failed, passed, skipped
from pullthrough.provision.model import documents
from pullthrough.provision.model.resources import Desired, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget

_ASSUMED_ROLE = re.compile(r"arn:[a-z-]+:sts::[0-9]{12}:assumed-role/([^/]+)/.+")
_USER = re.compile(r"arn:[a-z-]+:iam::[0-9]{12}:user/.+")


@dataclass(frozen=True, slots=True)
class Missing:
    """An action that is not allowed."""

    action: str
    resource: str
    #: Who or what keeps it from being allowed, for people.
    why: str


def check_node_role(aws: Aws, target: DeploymentTarget, desired: Desired, role: str) -> list[CheckRow]:
    """One row. Raises what `Aws.call` raises."""
    subject = f"role {role}"
    if not target.has_iam:
        return [skipped(subject, CheckKind.NODE_RIGHTS, "an engine has no IAM; its keys have roles of their own")]
    if not desired.of(ResourceKind.RULE):
        return [skipped(subject, CheckKind.NODE_RIGHTS, "there are no rules to pull through")]
    arn = _arn_of_role(aws, role)
    if arn is None:
        trouble = Trouble(
            f"there is no role {role} in account {target.account}",
            "make it, or correct [access] node_roles",
        )
        return [failed(subject, CheckKind.NODE_RIGHTS, trouble)]
    try:
        missing = simulate_pulls(aws, target, desired, arn)
    except (AwsRefused, AwsUnreachable) as error:
        if target.is_aws:
            raise
        return [skipped(subject, CheckKind.NODE_RIGHTS, f"IAM at {target.endpoint} does not simulate: {error.message}")]
    if not missing:
        return [passed(subject, CheckKind.NODE_RIGHTS)]
    actions = sorted({entry.action for entry in missing})
    trouble = Trouble(
        f"the role lacks {_sentence(missing)}; without ecr:CreateRepository and ecr:BatchImportUpstreamImage AWS answers "
        "'not found' to pulls of what is not cached",
        _rights_fix(missing),
    )
    return [failed(subject, CheckKind.NODE_RIGHTS, trouble, missing=actions)]


class CallerRights:
    """The rights for pulls that the caller lacks. Asked once, and only after a pull was answered 'not found'."""

    def __init__(self, aws: Aws, target: DeploymentTarget, desired: Desired) -> None:
        self._aws = aws
        self._target = target
        self._desired = desired
        self._lock = threading.Lock()
        self._asked = False
        self._missing: list[Missing] | None = None

    def missing(self) -> list[Missing] | None:
        """None where it can not be told: no IAM, the account's root, or a caller that may not ask."""
        with self._lock:
            if not self._asked:
                self._asked = True
                self._missing = self._ask()
            return self._missing

    def _ask(self) -> list[Missing] | None:
        if not self._target.has_iam:
            return None
        try:
            arn = self._principal()
            return None if arn is None else simulate_pulls(self._aws, self._target, self._desired, arn)
        except ProvisionError:
            return None

    def _principal(self) -> str | None:
        caller = self._target.caller
        if _USER.fullmatch(caller):
            return caller
        match = _ASSUMED_ROLE.fullmatch(caller)
        return _arn_of_role(self._aws, match[1]) if match else None


def simulate_pulls(aws: Aws, target: DeploymentTarget, desired: Desired, principal: str) -> list[Missing]:
    """What a node's policy allows and this principal lacks. Two calls a page.

    Logging in is asked for by itself: it has no resource, and the simulation holds every other one for denied.
    """
    prefixes = [rule.key.name for rule in desired.of(ResourceKind.RULE)]
    tagged = any(template.attributes["resourceTags"] for template in desired.of(ResourceKind.TEMPLATE))
    policy = documents.node_policy(target, prefixes, [Template(resource_tags={"any": "tag"})] if tagged else [])
    missing: list[Missing] = []
    for statement in policy["Statement"]:
        actions, resources = statement["Action"], statement["Resource"]
        missing += _simulate(
            aws,
            principal,
            [actions] if isinstance(actions, str) else list(actions),
            [] if resources == "*" else list(resources),
        )
    return missing


def _simulate(aws: Aws, principal: str, actions: Sequence[str], resources: Sequence[str]) -> list[Missing]:
    params: dict[str, Any] = {"PolicySourceArn": principal, "ActionNames": actions}
    if resources:
        params["ResourceArns"] = resources
    missing: list[Missing] = []
    while True:
        answer = aws.call("iam", "SimulatePrincipalPolicy", **params)
        for result in answer.get("EvaluationResults", []):
            missing += _missing_of(result)
        if not answer.get("IsTruncated"):
            return missing
        params["Marker"] = answer["Marker"]


def _missing_of(result: Mapping[str, Any]) -> Iterable[Missing]:
    action = str(result["EvalActionName"])
    specific = result.get("ResourceSpecificResults") or []
    for entry in specific:
        if entry["EvalResourceDecision"] != "allowed":
            yield Missing(action, str(entry["EvalResourceName"]), _why(result, entry["EvalResourceDecision"]))
    if not specific and result["EvalDecision"] != "allowed":
        yield Missing(action, str(result.get("EvalResourceName", "*")), _why(result, result["EvalDecision"]))


def _why(result: Mapping[str, Any], decision: str) -> str:
    if result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
        return "a policy of the organisation"
    if result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary") is False:
        return "its permissions boundary"
    return "a policy that denies it" if decision == "explicitDeny" else ""


def _arn_of_role(aws: Aws, name: str) -> str | None:
    """The ARN of a role, which has its path; None where there is no such role."""
    try:
        return str(aws.call("iam", "GetRole", RoleName=name)["Role"]["Arn"])
    except AwsRefused as error:
        if error.code == "NoSuchEntity":
            return None
        raise


def _sentence(missing: Iterable[Missing]) -> str:
    """`ecr:CreateRepository for docker-hub/* and quay/*, ...`."""
    by_action: dict[str, list[str]] = {}
    for entry in missing:
        by_action.setdefault(entry.action, []).append(entry.resource.rpartition(":repository/")[2])
    return ", ".join(
        action if where == ["*"] else f"{action} for {' and '.join(where)}" for action, where in by_action.items()
    )


def _rights_fix(missing: Iterable[Missing]) -> str:
    if denied := sorted({entry.why for entry in missing if entry.why}):
        return f"no policy of the role can allow that: {' and '.join(denied)} stands against it; change that first"
    return "`pullthrough apply` gives the role its policy; `pullthrough policy node` prints it"
