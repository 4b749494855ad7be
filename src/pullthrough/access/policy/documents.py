"""IAM policy documents, parsed; and the policies of roles.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any

from pullthrough.access.policy.conditions import (
    check_variables,
    parse_conditions,
)
from pullthrough.access.policy.statements import Policy, PrincipalNames, Statement
from pullthrough.errors import RequestError
from pullthrough.settings import Role

_log = logging.getLogger(__name__)

_VERSIONS = ("2012-10-17", "2008-10-17")
_ACTION = re.compile(r"\*|[a-z0-9-]+:[a-z0-9*?]+", re.ASCII)
_ARN = re.compile(r"arn:[^:]*:[^:]*:[^:]*:[^:]*:.+", re.DOTALL)
#: There is one registry here, however its partition is spelled; its own ARNs are of this one.
_OTHER_PARTITION = re.compile(r"\Aarn:aws-[a-z-]+:")
_PARTITION = "arn:aws:"
#: Without wildcards and variables, which a principal cannot have: a Deny that has one would never apply.
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
_AWS_PRINCIPAL = re.compile(
    r"\*|[0-9]{12}|arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:(?:(?!\$\{)[^\s*?])+|[A-Z0-9]{16,128}", re.ASCII
)
_PRINCIPAL_TYPES = ("AWS", "Service", "Federated", "CanonicalUser")


class PolicyInvalid(RequestError):
    """The text is not a policy that can be obeyed. The message says why, and is fit for the API's answer."""


class PolicyKind(StrEnum):
    """What a policy is attached to."""

    IDENTITY = "identity"
    REPOSITORY = "repository"
    REGISTRY = "registry"
    SECRET = "secret"


_OF_ECR = (PolicyKind.REPOSITORY, PolicyKind.REGISTRY)


@lru_cache(maxsize=4096)
def parse_policy(text: str, kind: PolicyKind) -> Policy:
    """Raises PolicyInvalid, also where an element is not known here and to ignore it would permit more than AWS does.

    Results are remembered, so that every request may ask, and what is not known is logged once.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise PolicyInvalid("it is nested too deeply") from error
    except ValueError as error:
        raise PolicyInvalid(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise PolicyInvalid("it is not a JSON object")
    _known(document, ("Version", "Id", "Statement"), "the policy")
    version = document.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise PolicyInvalid(f"its Version is not {' or '.join(_VERSIONS)}")
    if not isinstance(document.get("Id", ""), str):
        raise PolicyInvalid("its Id is not a text")
    if "Statement" not in document:
        raise PolicyInvalid("it has no Statement")
    entries = document["Statement"]
    entries = entries if isinstance(entries, list) else [entries]
    statements: list[Statement] = []
    unknown: list[str] = []
    sids: set[str] = set()
    for number, entry in enumerate(entries, 1):
        where = f"statement {number}"
        if not isinstance(entry, dict):
            raise PolicyInvalid(f"{where} is not a JSON object")
        sid = entry.get("Sid", "")
        if not isinstance(sid, str):
            raise PolicyInvalid(f"the Sid of {where} is not a text")
        if sid and sid in sids:
            raise PolicyInvalid(f"the Sid {sid[:80]!r} is there twice")
        sids.add(sid)
        statements.append(_statement(entry, kind, where, unknown, has_variables=version == _VERSIONS[0]))
    for sentence in unknown:
        _log.warning("%s policy: %s", kind, sentence)
    return Policy(tuple(statements), any(statement.asks_for_resource_tags for statement in statements))


def _statement(
    entry: dict[str, Any], kind: PolicyKind, where: str, unknown: list[str], *, has_variables: bool
) -> Statement:
    """`unknown` gets a sentence for each element that is not known here and does no harm."""
    _known(
        entry,
        (
            *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
            *("Resource", "NotResource", "Condition"),
        ),
        where,
    )
    effect = entry.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise PolicyInvalid(f"the Effect of {where} is not Allow or Deny")
    denies = effect == "Deny"
    actions, not_actions = _one_of(entry, "Action", "NotAction", where, required=True)
    for action in actions:
        if _ACTION.fullmatch(action.lower()) is None:
            raise PolicyInvalid(f"{where} has the action {action[:80]!r}, which is not of the form ecr:BatchGetImage")
        if kind is PolicyKind.SECRET and not action.lower().startswith(("secretsmanager:", "*")):
            raise PolicyInvalid(f"{where} has the action {action[:80]!r}, which is not one of Secrets Manager's")
        if kind in _OF_ECR and not action.lower().startswith(("ecr:", "*")):
            raise PolicyInvalid(f"{where} has the action {action[:80]!r}, which is not one of ECR's")
    resources, not_resources = _one_of(
        entry, "Resource", "NotResource", where, required=kind is not PolicyKind.REPOSITORY
    )
    for resource in resources:
        if resource != "*" and _ARN.fullmatch(resource) is None:
            raise PolicyInvalid(f"{where} has the resource {resource[:200]!r}, which is neither an ARN nor *")
        if has_variables:
            try:
                sentences = check_variables(resource, without=not_resources, denies=denies)
            except ValueError as error:
                raise PolicyInvalid(f"{where} {error}") from None
            unknown += (f"{where} {sentence}" for sentence in sentences)
    principals: PrincipalNames | None = None
    if kind is PolicyKind.IDENTITY:
        if "Principal" in entry or "NotPrincipal" in entry:
            raise PolicyInvalid(f"{where} has a principal; a policy of an identity has none")
    else:
        if ("Principal" in entry) == ("NotPrincipal" in entry):
            raise PolicyInvalid(f"{where} needs either Principal or NotPrincipal")
        is_not = "NotPrincipal" in entry
        principals = PrincipalNames(_principal_names(entry["NotPrincipal" if is_not else "Principal"], where), is_not)
    try:
        conditions, sentences = parse_conditions(entry.get("Condition", {}), denies=denies, variables=has_variables)
    except ValueError as error:
        raise PolicyInvalid(f"the Condition of {where} {error}") from None
    unknown += (f"the Condition of {where} {sentence}" for sentence in sentences)
    return Statement(
        denies=denies,
        actions=tuple(action.lower() for action in actions),
        not_actions=not_actions,
        resources=tuple(_OTHER_PARTITION.sub(_PARTITION, resource) for resource in resources),
        not_resources=not_resources,
        principals=principals,
        conditions=conditions,
        has_variables=has_variables,
    )


def _one_of(
    entry: Mapping[str, Any], key: str, not_key: str, where: str, *, required: bool
) -> tuple[tuple[str, ...], bool]:
    """The texts of one of two elements that exclude each other, and whether it is the second."""
    if key in entry and not_key in entry:
        raise PolicyInvalid(f"{where} has both {key} and {not_key}")
    if key not in entry and not_key not in entry:
        if required:
            raise PolicyInvalid(f"{where} has no {key}")
        return (), False
    is_not = not_key in entry
    return _texts(entry[not_key if is_not else key], f"the {not_key if is_not else key} of {where}"), is_not


def _principal_names(value: object, where: str) -> tuple[str, ...]:
    """The names that can be somebody here. Services and federated users never are."""
    if value == "*":
        return ("*",)
    if not isinstance(value, dict) or not value:
        raise PolicyInvalid(f'the principal of {where} is neither "*" nor an object such as {{"AWS": "..."}}')
    _known(value, _PRINCIPAL_TYPES, f"the principal of {where}")
    names: tuple[str, ...] = ()
    for kind, entries in value.items():
        texts = _texts(entries, f"the {kind} principal of {where}")
        if kind != "AWS":
            continue
        for text in texts:
            if _AWS_PRINCIPAL.fullmatch(text) is None:
                raise PolicyInvalid(
                    f"{where} has the principal {text[:200]!r}, which is not *, an account, an ARN of IAM or an id"
                )
        names += tuple(_OTHER_PARTITION.sub(_PARTITION, text) for text in texts)
    return names


def _texts(value: object, what: str) -> tuple[str, ...]:
    entries: Sequence[object] = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry for entry in entries):
        raise PolicyInvalid(f"{what} is not a text or a list of texts")
    return tuple(str(entry) for entry in entries)


def _known(entry: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in entry:
        if name not in names:
            raise PolicyInvalid(f"{where} has the element {name[:80]!r}, which does not exist")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that is there twice would be read in two ways by two readers."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise PolicyInvalid(f"the key {key[:80]!r} is there twice")
        found[key] = value
    return found


#: For everybody, and wherever it stands: in the place of a policy that cannot be obeyed.
DENY_ALL = parse_policy('{"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}', PolicyKind.IDENTITY)


def _role_policy(*actions: str) -> Policy:
    return parse_policy(
        json.dumps({"Statement": {"Effect": "Allow", "Action": list(actions), "Resource": "*"}}), PolicyKind.IDENTITY
    )


#: What the roles of API keys are made of. `pull` is AWS's AmazonEC2ContainerRegistryReadOnly, and what makes a pull fill
#: the cache.
ROLE_POLICIES: Mapping[Role, Policy] = {
    Role.ADMIN: _role_policy("*"),
    Role.PULL: _role_policy(
        "ecr:GetAuthorizationToken",
        "ecr:BatchCheckLayerAvailability",
        "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:DescribeRepositories",
        "ecr:DescribeImages",
        "ecr:ListImages",
        "ecr:ListImageReferrers",
        "ecr:ListTagsForResource",
        "ecr:GetRepositoryPolicy",
        "ecr:GetLifecyclePolicy",
        "ecr:GetLifecyclePolicyPreview",
        "ecr:DescribeImageScanFindings",
        "sts:GetCallerIdentity",
    ),
}
