"""Whether the cache really works, end to end: each rule, a pull through it, what nodes may do, how a VPC gets there.

    verify
      ├── templates         ECR can create repositories by them             roles
      ├── the rules         ValidatePullThroughCacheRule, their secrets     rules
      ├── pulls             a manifest through the registry endpoint        pulls
      ├── node roles        IAM's own simulation                            rights
      └── a VPC's endpoints                                                 endpoints

Changes nothing but what a pull changes: it fills the cache. Everything goes out together, and nothing that fails keeps
the rest from being looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future

from pullthrough.declaration import Declaration, Rule
from pullthrough.errors import PullthroughError
from pullthrough.provision.aws import Aws, ReadingPool
from pullthrough.provision.checks.endpoints import check_endpoints
from pullthrough.provision.checks.pulls import FetchManifest, Puller
from pullthrough.provision.checks.report import CheckKind, CheckRow, Report, refused, skipped
from pullthrough.provision.checks.rights import CallerRights, check_node_role
from pullthrough.provision.checks.roles import Templates, check_template, check_upstream_role, read_templates_of
from pullthrough.provision.checks.rules import check_rule
from pullthrough.provision.model.resources import Desired
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.logins import RegistryLogin, log_in

#: Is told of each row as soon as it is there, in the caller's thread.
RowWatch = Callable[[CheckRow], None]


def verify(
    aws: Aws,
    target: DeploymentTarget,
    declaration: Declaration,
    desired: Desired,
    *,
    fetch: FetchManifest,
    only: Collection[str] | None = None,
    progress: RowWatch | None = None,
) -> Report:
    """Rows in the declaration's order, whatever came first.

    `desired` is what the declaration wants of this target; the values of secrets do not count in it. `only` names the
    prefixes of the rules to look at, and leaves the rest out; None is everything. Never raises a PullthroughError: what was
    refused is a row.
    """
    rules = [rule for rule in declaration.rules if only is None or rule.prefix in only]
    run = _Checks(aws, target, declaration, desired, fetch, progress or (lambda row: None))
    return Report(target, tuple(run.rows(rules, everything=only is None)))


class _Checks:
    def __init__(
        self,
        aws: Aws,
        target: DeploymentTarget,
        declaration: Declaration,
        desired: Desired,
        fetch: FetchManifest,
        progress: RowWatch,
    ) -> None:
        self._aws = aws
        self._target = target
        self._declaration = declaration
        self._desired = desired
        self._fetch = fetch
        self._progress = progress
        self._caller = CallerRights(aws, target, desired)

    def rows(self, rules: list[Rule], *, everything: bool) -> list[CheckRow]:
        aws, target, declaration = self._aws, self._target, self._declaration
        rows: list[CheckRow] = []
        with ReadingPool(aws) as readers:
            # First those that others wait for: the pool starts them in this order, so that none waits for ever.
            login = readers.start(self._log_in)
            templates = readers.start(self._read_templates)
            parts: list[Future[list[CheckRow]]] = [
                readers.start(self._check_rule, rule, login, templates) for rule in rules
            ]
            if everything:
                parts += [
                    readers.start(
                        guarded,
                        f"role {role}",
                        CheckKind.NODE_RIGHTS,
                        check_node_role,
                        aws,
                        target,
                        self._desired,
                        role,
                    )
                    for role in declaration.access.node_roles
                ]
                if vpc := declaration.access.vpc:
                    parts.append(readers.start(guarded, vpc, CheckKind.ENDPOINT, check_endpoints, aws, target, vpc))
            opened = login.result()
            if isinstance(opened, CheckRow) and rules:
                rows.append(opened)
                self._progress(opened)
            for part in parts:
                for row in part.result():
                    rows.append(row)
                    self._progress(row)
        return rows

    def _log_in(self) -> RegistryLogin | CheckRow:
        try:
            return log_in(self._aws)
        except PullthroughError as error:
            return refused("registry", CheckKind.LOGIN, error)

    def _read_templates(self) -> Templates | PullthroughError:
        try:
            return read_templates_of(self._aws, self._target)
        except PullthroughError as error:
            return error

    def _check_rule(
        self,
        rule: Rule,
        login: Future[RegistryLogin | CheckRow],
        templates: Future[Templates | PullthroughError],
    ) -> list[CheckRow]:
        """What belongs to one rule: each later check knows what the earlier ones found."""
        aws, target = self._aws, self._target
        rows = guarded(rule.prefix, CheckKind.RULE, check_rule, aws, target, rule)
        rows += guarded(rule.prefix, CheckKind.UPSTREAM_ROLE, check_upstream_role, aws, target, rule)
        found = templates.result()
        if isinstance(found, Templates):
            rows += guarded(rule.prefix, CheckKind.TEMPLATE, check_template, aws, target, self._desired, rule, found)
        elif target.has_iam:
            rows.append(refused(rule.prefix, CheckKind.TEMPLATE, found))
        opened = login.result()
        if isinstance(opened, CheckRow):
            rows.append(skipped(rule.prefix, CheckKind.PULL, "there is no login for the registry"))
        else:
            puller = Puller(aws, target, opened, self._fetch, self._caller)
            rows += guarded(rule.prefix, CheckKind.PULL, puller.check, rule, tuple(rows))
        return rows


def guarded(subject: str, check: CheckKind, look: Callable[..., list[CheckRow]], *arguments: object) -> list[CheckRow]:
    """The rows that `look` finds; where it was refused, one row that says so."""
    try:
        return look(*arguments)
    except PullthroughError as error:
        return [refused(subject, check, error)]
