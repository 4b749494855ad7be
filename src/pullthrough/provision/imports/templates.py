"""From a repository creation template that is there to the table that declares it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pullthrough.declaration import KEEP_IMAGES, Encryption, TagMutability
from pullthrough.provision.model import documents
from pullthrough.provision.model.observed import Observed
from pullthrough.provision.model.resources import Existing, Json, ResourceKind
from pullthrough.settings.fields import settings_of
from pullthrough.settings.tables import TemplateSettings
from pullthrough.settings.values.base import PathBase

_ACCOUNT_ROOT = re.compile(r"arn:[a-z-]+:iam::([0-9]{12}):root")
#: ECR's limits, which `plan` holds the files against; spaces and line breaks count.
_MAX_CHARACTERS = {"lifecycle": 30_720, "policy": 10_240}


class Inexpressible(Exception):
    """The declaration cannot say something that is there; the message says what."""


@dataclass(frozen=True, slots=True)
class Grants:
    """Whom a policy lets pull."""

    accounts: tuple[str, ...] = ()
    organization: str = ""


@dataclass(slots=True)
class FileNames:
    """The files that the declaration names. Equal texts share one file."""

    contents: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, prefix: str, document: Mapping[str, Json]) -> str:
        """The path of a file with this document. `what` is `lifecycle` or `policy`."""
        text = json.dumps(document, indent=2) + "\n"
        if len(text) > _MAX_CHARACTERS[what]:
            text = json.dumps(document, separators=(",", ":"))
        for path, known in self.contents.items():
            if known == text and path.startswith(f"{what}-"):
                return path
        number, path = 1, f"{what}-{_file_part(prefix)}.json"
        while path in self.contents:
            number += 1
            path = f"{what}-{_file_part(prefix)}-{number}.json"
        self.contents[path] = text
        return path


def _file_part(prefix: str) -> str:
    """A prefix has slashes, and may be called like `.`-something."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", prefix)


def template_table(
    observed: Observed, name: str, prefix: str, existing: Existing, granted: Grants, files: FileNames
) -> dict[str, Any]:
    """The keys of [templates.<prefix>] that differ from the defaults. `granted` is what [access] says.

    Raises Inexpressible.
    """
    attributes = existing.attributes
    if list(cast("Sequence[str]", attributes["appliedFor"])) != ["PULL_THROUGH_CACHE"]:
        raise Inexpressible("it is for more than pulls through the cache")
    # Documents last: they may make a file, which is not to be there in vain.
    return {
        **_mutability(existing),
        **_encryption(existing),
        **_tags(existing),
        **_role(observed, name, existing),
        **_lifecycle(prefix, existing, files),
        **_policy(observed, prefix, existing, granted, files),
    }


def is_accepted(model: type, key: str, value: Any) -> bool:
    """Whether a table of the file can have this."""
    try:
        settings_of(model)[key].type.parse(value, PathBase(Path(), None))
    except ValueError:
        return False
    return True


def checked(model: type, key: str, value: Any) -> dict[str, Any]:
    """The one key of a table. Raises Inexpressible."""
    if not is_accepted(model, key, value):
        raise Inexpressible(f"its {key} would be {value!r}, which the file does not take")
    return {key: value}


def _checked(key: str, value: Any) -> dict[str, Any]:
    return checked(TemplateSettings, key, value)


def _mutability(existing: Existing) -> dict[str, Any]:
    table: dict[str, Any] = {}
    if str(existing.attributes["imageTagMutability"]).startswith("IMMUTABLE"):
        table["tag_mutability"] = TagMutability.IMMUTABLE.value
    if exclusions := list(cast("Sequence[str]", existing.attributes["imageTagMutabilityExclusionFilters"])):
        table |= _checked("tag_mutability_exclusions", exclusions)
    return table


def _encryption(existing: Existing) -> dict[str, Any]:
    kind, key = str(existing.attributes["encryptionType"]), str(existing.attributes["kmsKey"])
    table = {} if kind == Encryption.AES256 else _checked("encryption", kind)
    return table | (_checked("kms_key", key) if key else {})


def _tags(existing: Existing) -> dict[str, Any]:
    tags = dict(cast("Mapping[str, str]", existing.attributes["resourceTags"]))
    return _checked("resource_tags", tags) if tags else {}


def _role(observed: Observed, name: str, existing: Existing) -> dict[str, Any]:
    """The role's key; empty for the role that the declaration makes anyway."""
    target = observed.target
    arn = str(existing.attributes["customRoleArn"])
    needs_role = bool(existing.attributes["resourceTags"]) or existing.attributes["encryptionType"] != "AES256"
    if not arn:
        if needs_role and target.has_iam:
            raise Inexpressible(
                "it has tags or KMS and no role, so that ECR can not create repositories with it; with [templates.<prefix>] "
                "resource_tags or encryption instead, `pullthrough apply` would make the role"
            )
        return {}
    own = documents.template_role_name(name)
    role = observed.get(ResourceKind.ROLE, own)
    ours = f"arn:{target.partition}:iam::{target.account}:role/{own}"
    if arn == ours and needs_role and target.has_iam and role is not None and role.marked_by == name:
        return {}
    return _checked("role_arn", arn)


def _lifecycle(prefix: str, existing: Existing, files: FileNames) -> dict[str, Any]:
    policy = existing.attributes["lifecyclePolicy"]
    if policy is None:
        return {"keep_images": "never"}
    if not isinstance(policy, Mapping):
        raise Inexpressible("its lifecycle policy is not a JSON object")
    count = _kept(policy)
    if count is None or not is_accepted(TemplateSettings, "keep_images", count):
        return {"lifecycle_policy_file": files.add("lifecycle", prefix, policy)}
    return {} if count == KEEP_IMAGES else {"keep_images": count}


def _kept(policy: Mapping[str, Json]) -> int | None:
    """The count in a lifecycle policy of the form that `keep_images` makes; None for any other."""
    try:
        count = cast("Any", policy)["rules"][0]["selection"]["countNumber"]
    except (KeyError, IndexError, TypeError):
        return None
    return count if isinstance(count, int) and policy == documents.lifecycle_policy(count) else None


def _policy(observed: Observed, prefix: str, existing: Existing, granted: Grants, files: FileNames) -> dict[str, Any]:
    """Whom it lets pull beside those of [access]; or a file with the whole policy, where it says more."""
    policy = existing.attributes["repositoryPolicy"]
    if policy is not None and not isinstance(policy, Mapping):
        raise Inexpressible("its repository policy is not a JSON object")
    found = accounts_and_organization(_statements(policy))
    accounts = {*found.accounts, *granted.accounts}
    organization = found.organization or granted.organization
    if documents.repository_policy(observed.target, accounts, organization) != policy:
        if policy is None:
            raise Inexpressible("it lets nobody else pull, and the registry's policy lets others fill the cache")
        return {"repository_policy_file": files.add("policy", prefix, policy)}
    table: dict[str, Any] = {}
    if more := [account for account in found.accounts if account not in granted.accounts]:
        table["pull_accounts"] = more
    if found.organization and found.organization != granted.organization:
        table |= _checked("pull_organization", found.organization)
    return table


def _statements(policy: Mapping[str, Json] | None) -> Sequence[Any]:
    statements = policy.get("Statement") if policy else None
    return statements if isinstance(statements, list | tuple) else ()


def accounts_and_organization(statements: Iterable[Any]) -> Grants:
    """Whom statements of our own form name. For other statements the answer means nothing: compare what it would make."""
    accounts: set[str] = set()
    organization = ""
    for statement in statements:
        if not isinstance(statement, Mapping):
            continue
        principal, condition = statement.get("Principal"), statement.get("Condition")
        if isinstance(principal, Mapping):
            arns = principal.get("AWS", [])
            for arn in arns if isinstance(arns, list | tuple) else [arns]:
                if match := _ACCOUNT_ROOT.fullmatch(str(arn)):
                    accounts.add(match[1])
        if isinstance(condition, Mapping) and isinstance(condition.get("StringEquals"), Mapping):
            organization = str(condition["StringEquals"].get("aws:PrincipalOrgID", organization))
    return Grants(tuple(sorted(accounts)), organization)
