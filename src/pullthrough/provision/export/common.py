"""What both exports share: desired resources of an account that is not known yet, and who gives which account.

Account, region and partition stand in the documents as marks, which each export replaces by its own words for them.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from pullthrough.addressing.addresses import cached_address, labelled, original_address
from pullthrough.addressing.labels import Style, labels
from pullthrough.declaration import CredentialSource, Declaration, Rule
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.ecr_upstreams import kind_of
from pullthrough.provision.model.accounts import INPUTS, WHERE_TOKENS_ARE, Account, wants_account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.resources import Desired, Json, Resource, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget

#: Characters that no text has: https://www.unicode.org/faq/private_use.html#noncharacters
_BEGIN, _END = "\ufdd0", "\ufdd1"
_MARK = re.compile(f"{_BEGIN}([a-z]+){_END}")
ACCOUNT, REGION, PARTITION, SUFFIX = (f"{_BEGIN}{what}{_END}" for what in ("account", "region", "partition", "suffix"))


@dataclass(frozen=True, slots=True)
class _AnyAccount(DeploymentTarget):
    """AWS, in whatever account and region the export is applied."""

    @property
    def partition(self) -> str:
        return PARTITION

    @property
    def registry_host(self) -> str:
        return f"{ACCOUNT}.dkr.ecr.{REGION}.{SUFFIX}"


TARGET: DeploymentTarget = _AnyAccount(ACCOUNT, REGION)


class _NoFingerprints(Fingerprints):
    """Exports compare no secrets, and tell nothing of them."""

    def __init__(self) -> None:
        self.stored = False

    def of(self, secret: str) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Variables:
    """The two inputs of one account: the beginning of their names, and the upstream they are for."""

    stem: str
    upstream: str

    @property
    def username(self) -> str:
        return f"The account that {self.upstream} is asked as."

    @property
    def token(self) -> str:
        where = WHERE_TOKENS_ARE.get(kind_of(self.upstream) or "", "")
        return f"Its access token{f': {where}' if where else ''}."


def desired_anywhere(declaration: Declaration) -> Desired:
    """Everything that the declaration wants on AWS, with marks and without accounts. Raises PlanProblem."""
    accounts = {rule.prefix: Account("", "") for rule in declaration.rules if wants_account(rule, TARGET)}
    return build_desired(declaration, accounts, _NoFingerprints(), TARGET)


def variables_of(declaration: Declaration, style: Style, separator: str) -> dict[str, Variables]:
    """By prefix, the inputs of each rule that has an account.

    Those of Docker Hub and GitHub have the names of the Terraform module's inputs. A rule with an account of its own has
    its prefix's.
    """
    stems = {host: style(name.replace("_", "-"))[0] for host, name in INPUTS.items()}
    wanting = [rule for rule in declaration.rules if wants_account(rule, TARGET)]
    common: dict[str, CredentialSource] = {}
    for rule in wanting:
        credential, username = rule.credential, declaration.usernames.get(rule.upstream)
        if isinstance(credential, CredentialSource) and username in (None, credential.username):
            common.setdefault(rule.upstream, credential)
    own = labels(
        (rule.prefix for rule in wanting if not _has_common_account(rule, common)),
        style,
        separator=separator,
        reserved=stems.values(),
    )
    return {rule.prefix: Variables(own.get(rule.prefix) or stems[rule.upstream], rule.upstream) for rule in wanting}


def _has_common_account(rule: Rule, common: Mapping[str, CredentialSource]) -> bool:
    return rule.upstream in INPUTS and (rule.credential is None or rule.credential == common.get(rule.upstream))


def addresses(declaration: Declaration, style: Style, separator: str) -> dict[str, str]:
    """What image names begin with, by the label of the output: those of `pullthrough addresses`."""
    return {
        label: cached_address(rule, TARGET.registry_host) if is_on else original_address(rule)
        for label, rule, is_on in labelled(declaration, style, separator)
    }


class Writer(ABC):
    """Writes each resource in the other tool's words, by its kind."""

    def write(self, resource: Resource) -> None:
        match resource.key.kind:
            case ResourceKind.SECRET:
                self._secret(resource)
            case ResourceKind.RULE:
                self._rule(resource)
            case ResourceKind.ROLE:
                self._role(resource)
            case ResourceKind.TEMPLATE:
                self._template(resource)
            case ResourceKind.NODE_ACCESS:
                self._node_access(resource)
            case ResourceKind.REGISTRY_POLICY:
                self._registry_policy(resource)
            case ResourceKind.SCANNING:
                self._scanning(resource)
            case ResourceKind.REPOSITORY:
                # Pulls make repositories; a declaration has none.
                pass
            case _ as never:
                assert_never(never)

    @abstractmethod
    def _secret(self, resource: Resource) -> None: ...

    @abstractmethod
    def _rule(self, resource: Resource) -> None: ...

    @abstractmethod
    def _role(self, resource: Resource) -> None: ...

    @abstractmethod
    def _template(self, resource: Resource) -> None: ...

    @abstractmethod
    def _node_access(self, resource: Resource) -> None: ...

    @abstractmethod
    def _registry_policy(self, resource: Resource) -> None: ...

    @abstractmethod
    def _scanning(self, resource: Resource) -> None: ...


def filters_by_frequency(scanning: Resource) -> dict[str, list[str]]:
    """The filters of the scanning configuration, which stand as `SCAN_ON_PUSH docker-hub/*` in its attributes."""
    filters: dict[str, list[str]] = {}
    for entry in texts(scanning.attributes["filters"]):
        frequency, _, filter = entry.partition(" ")
        filters.setdefault(frequency, []).append(filter)
    return filters


def texts(value: Json) -> list[str]:
    """A list of texts among a resource's attributes."""
    assert isinstance(value, list)
    return [str(entry) for entry in value]


def needed(resource: Resource, kind: ResourceKind) -> str:
    """The name of the resource of this kind that it needs; empty for none."""
    return next((key.name for key in resource.needs if key.kind is kind), "")


def unmark(text: str, words: Mapping[str, str], escape: Callable[[str], str]) -> str:
    """The text with each mark replaced by its word, and everything between them escaped."""
    parts = _MARK.split(text)
    return "".join(words[part] if index % 2 else escape(part) for index, part in enumerate(parts))


def is_marked(text: str) -> bool:
    return _MARK.search(text) is not None


def render(value: Json, text: Callable[[str], Any]) -> Any:
    """The value with `text` applied to every text in it, the keys of tables excepted."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: render(entry, text) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [render(entry, text) for entry in value]
    return value
