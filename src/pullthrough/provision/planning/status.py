"""What is there, and how it differs from what is declared. Pure: everything was read before.

No secret is in it: of credentials it knows the secret's name and when it was changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pullthrough.addressing.addresses import Address, addresses
from pullthrough.declaration import Declaration, Rule
from pullthrough.provision.model.observed import Observed, Repository
from pullthrough.provision.model.plan import LeftAlone, Plan, Step
from pullthrough.provision.model.resources import Desired, Existing, Json, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.planning.existing import existing_notes, existing_steps
from pullthrough.units import format_time


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """Where a rule's account is."""

    #: The secret's name; of one that is not there the name it has in the rule's ARN.
    secret: str
    #: None where it was not looked at.
    is_there: bool | None
    #: Seconds since 1970, as Secrets Manager tells it: also of a change of its tags. None where that is not told.
    changed_at: float | None = None
    age_seconds: float | None = None
    is_scheduled_for_deletion: bool = False

    def as_json(self) -> dict[str, Json]:
        return {
            "secret": self.secret,
            "there": self.is_there,
            "changed_at": format_time(self.changed_at),
            "age_seconds": None if self.age_seconds is None else int(self.age_seconds),
            "scheduled_for_deletion": self.is_scheduled_for_deletion,
        }


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule that is declared, or there, or both."""

    prefix: str
    #: As it is; as declared where it is not there.
    upstream: str
    #: What image names begin with; empty for a rule that is not declared, and where the registry's host is not known.
    address: str
    is_declared: bool
    is_there: bool
    #: Whether the engine's own file has it, which the API does not change.
    is_of_engine_file: bool
    credential: CredentialStatus | None
    #: Seconds since 1970; None where that is not told.
    created_at: float | None
    changed_at: float | None
    #: Cached repositories under it; None where they were not read.
    repositories: int | None

    def as_json(self) -> dict[str, Json]:
        return {
            "prefix": self.prefix,
            "upstream": self.upstream,
            "address": self.address,
            "declared": self.is_declared,
            "there": self.is_there,
            "in_engine_file": self.is_of_engine_file,
            "credential": self.credential.as_json() if self.credential else None,
            "created_at": format_time(self.created_at),
            "changed_at": format_time(self.changed_at),
            "repositories": self.repositories,
        }


@dataclass(frozen=True, slots=True)
class TemplateStatus:
    """A repository creation template that is declared, or there, or both."""

    prefix: str
    is_declared: bool
    is_there: bool
    #: The declaration whose mark it bears; empty for none.
    marked_by: str
    created_at: float | None
    changed_at: float | None

    def as_json(self) -> dict[str, Json]:
        return {
            "prefix": self.prefix,
            "declared": self.is_declared,
            "there": self.is_there,
            "marked_by": self.marked_by,
            "created_at": format_time(self.created_at),
            "changed_at": format_time(self.changed_at),
        }


@dataclass(frozen=True, slots=True)
class Status:
    target: DeploymentTarget
    #: The declaration's name.
    name: str
    rules: tuple[RuleStatus, ...]
    templates: tuple[TemplateStatus, ...]
    #: What `apply` would do.
    drift: tuple[Step, ...]
    #: What keeps it from being done.
    problems: tuple[str, ...]
    #: What is there and stays as it is, such as rules that are not declared.
    left_alone: tuple[LeftAlone, ...]
    #: Repositories that differ from their template: what `apply --existing` would do.
    differing_repositories: tuple[Step, ...]
    #: All that are cached under the rules; None where they were not read.
    repositories: int | None
    not_applicable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    #: Why credentials were not compared; empty where they were.
    credentials_missing: str = ""

    @property
    def is_in_line(self) -> bool:
        """Whether everything is as declared. Repositories that are there already do not count."""
        return not self.drift and not self.problems

    def as_json(self) -> dict[str, Any]:
        return {
            "declaration": self.name,
            "target": self.target.as_json(),
            "in_line": self.is_in_line,
            "rules": [rule.as_json() for rule in self.rules],
            "templates": [template.as_json() for template in self.templates],
            "drift": [_difference(step) for step in self.drift],
            "problems": list(self.problems),
            "left_alone": [left.as_json() for left in self.left_alone],
            "repositories": self.repositories,
            "differing_repositories": [_difference(step) for step in self.differing_repositories],
            "not_applicable": list(self.not_applicable),
            "notes": list(self.notes),
            "credentials_missing": self.credentials_missing,
        }


def status(
    declaration: Declaration,
    desired: Desired,
    observed: Observed,
    plan: Plan,
    repositories: Iterable[Repository] | None,
    now: float,
    *,
    registry_host: str = "",
    credentials_missing: str = "",
) -> Status:
    """`now` is in seconds since 1970. `repositories` None: they were not read.

    An empty `registry_host` means AWS's own name on AWS, and an unknown one elsewhere. `credentials_missing` says why the
    tokens in `desired` are not the real ones; steps that only come of that are left out.
    """
    target = observed.target
    host = registry_host or (target.registry_host if target.is_aws else "")
    read = None if repositories is None else list(repositories)
    others = list(observed.of(ResourceKind.TEMPLATE).values())
    at = {address.prefix: address for address in addresses(declaration, host)} if host else {}
    # Rules that are switched off and not there have nothing to show.
    prefixes = [rule.prefix for rule in declaration.rules]
    prefixes += sorted(set(observed.of(ResourceKind.RULE)) - set(prefixes))
    templates = [resource.key.name for resource in desired.of(ResourceKind.TEMPLATE)]
    templates += sorted(set(observed.of(ResourceKind.TEMPLATE)) - set(templates))
    notes = list(plan.notes)
    if read is not None:
        notes += existing_notes(desired, read, others)
    return Status(
        target=target,
        name=declaration.name,
        rules=tuple(_rule(declaration, desired, observed, prefix, at.get(prefix), read, now) for prefix in prefixes),
        templates=tuple(_template(desired, observed, prefix) for prefix in templates),
        drift=tuple(step for step in plan.steps if not (credentials_missing and _is_only_a_token(step))),
        problems=plan.problems,
        left_alone=plan.left_alone,
        differing_repositories=tuple(existing_steps(desired, read or (), others)),
        repositories=None if read is None else len(read),
        not_applicable=plan.not_applicable,
        notes=tuple(notes),
        credentials_missing=credentials_missing,
    )


def _rule(
    declaration: Declaration,
    desired: Desired,
    observed: Observed,
    prefix: str,
    address: Address | None,
    repositories: Iterable[Repository] | None,
    now: float,
) -> RuleStatus:
    declared, there = declaration.rule(prefix), observed.get(ResourceKind.RULE, prefix)
    return RuleStatus(
        prefix=prefix,
        upstream=_upstream(declared, there),
        address=address.address if address is not None and declared is not None else "",
        is_declared=declared is not None,
        is_there=there is not None,
        is_of_engine_file=there is not None and there.is_of_engine_file,
        credential=_credential(desired, observed, prefix, there, now),
        created_at=there.created_at if there else None,
        changed_at=there.changed_at if there else None,
        repositories=None if repositories is None else sum(repository.prefix == prefix for repository in repositories),
    )


def _upstream(declared: Rule | None, there: Existing | None) -> str:
    if there is not None:
        return str(there.attributes["upstreamRegistryUrl"])
    return declared.upstream if declared else ""


def _credential(
    desired: Desired, observed: Observed, prefix: str, there: Existing | None, now: float
) -> CredentialStatus | None:
    """The secret of the rule, or the one that it is to have where there is no rule yet."""
    if there is not None:
        arn = str(there.attributes["credentialArn"])
        if not arn:
            return None
        secret = next((entry for entry in observed.of(ResourceKind.SECRET).values() if entry.arn == arn), None)
        secret = secret or observed.given_secrets.get(arn)
        if secret is None:
            looked = arn in observed.given_secrets
            return CredentialStatus(secret_name_in(arn), is_there=False if looked else None)
        return _credential_of(secret, now)
    wanted = desired.get(Key(ResourceKind.RULE, prefix))
    secrets = [key.name for key in wanted.needs if key.kind is ResourceKind.SECRET] if wanted else []
    if not secrets:
        return None
    secret = observed.get(ResourceKind.SECRET, secrets[0])
    return CredentialStatus(secrets[0], is_there=False) if secret is None else _credential_of(secret, now)


def _credential_of(secret: Existing, now: float) -> CredentialStatus:
    changed = secret.changed_at if secret.changed_at is not None else secret.created_at
    return CredentialStatus(
        secret.key.name,
        is_there=True,
        changed_at=changed,
        age_seconds=None if changed is None else max(0.0, now - changed),
        is_scheduled_for_deletion=secret.is_scheduled_for_deletion,
    )


def secret_name_in(arn: str) -> str:
    """A secret's name without the six characters that Secrets Manager puts behind it."""
    name = arn.partition(":secret:")[2]
    head, dash, tail = name.rpartition("-")
    return head if dash and len(tail) == 6 else name


def _template(desired: Desired, observed: Observed, prefix: str) -> TemplateStatus:
    there = observed.get(ResourceKind.TEMPLATE, prefix)
    return TemplateStatus(
        prefix=prefix,
        is_declared=desired.get(Key(ResourceKind.TEMPLATE, prefix)) is not None,
        is_there=there is not None,
        marked_by=there.marked_by if there else "",
        created_at=there.created_at if there else None,
        changed_at=there.changed_at if there else None,
    )


def _is_only_a_token(step: Step) -> bool:
    """Whether nothing but a secret's account differs."""
    if step.key.kind is not ResourceKind.SECRET or step.before is None or step.after is None:
        return False
    return {name for name, _, _ in step.changes} <= {"username", "accessToken"}


def _difference(step: Step) -> dict[str, Json]:
    """A step without its values: which attributes, not what is in them."""
    return {
        "kind": step.key.kind.value,
        "name": step.key.name,
        "action": step.action.value,
        "reason": step.reason,
        "attributes": [name for name, _, _ in step.changes],
    }
