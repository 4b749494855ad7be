"""One declaration at one target: what every command of the module, and its Python API, is made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pullthrough.addressing.addresses import Address, addresses
from pullthrough.credentials import Credentials
from pullthrough.declaration import Declaration
from pullthrough.errors import ConfigurationError, InputMissing
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import AwsConnection
from pullthrough.provision.checks.report import Report
from pullthrough.provision.checks.verify import verify
from pullthrough.provision.execution.apply import Applied, Watch, apply_plan
from pullthrough.provision.execution.journal import Journal, journal_name, state_folder
from pullthrough.provision.execution.steps import Executor
from pullthrough.provision.fetching import fetch_by_http
from pullthrough.provision.inputs import Ask, read_accounts, warnings_of
from pullthrough.provision.model.accounts import Account, placeholder_accounts, secret_name_of
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.documents import template_role_name
from pullthrough.provision.model.observed import Observed, Repository
from pullthrough.provision.model.plan import Options, Plan
from pullthrough.provision.model.resources import Desired, ResourceKind
from pullthrough.provision.observation.coverage import covered_notes, deletion_steps
from pullthrough.provision.observation.logins import registry_host
from pullthrough.provision.observation.observe import observe
from pullthrough.provision.observation.repositories import read_repositories
from pullthrough.provision.planning.apply import plan_apply, questions_of
from pullthrough.provision.planning.destroy import plan_destroy
from pullthrough.provision.planning.draft import PlanBasis
from pullthrough.provision.planning.existing import existing_notes, existing_steps
from pullthrough.provision.planning.status import Status, status

_NO_OPTIONS = Options()


class Deployment:
    """Plans, applies, verifies and destroys. Not thread-safe; its calls of AWS go out several at once."""

    def __init__(
        self,
        declaration: Declaration,
        connection: AwsConnection,
        environ: Mapping[str, str],
        *,
        journal: Path | None = None,
        ask: Ask | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`environ` has the home folder, and the tokens that the declaration names variables for.

        `journal` None is the usual place. `ask` asks at a terminal for what is missing; None where nobody can be asked.
        Raises ConfigurationError where there is no place for the journal.
        """
        self.declaration = declaration
        self.aws = connection.aws
        self.target = connection.target
        self._credentials = Credentials(environ)
        self._ask = ask
        self._clock = clock
        folder = state_folder(environ)
        if journal is None and folder is None:
            raise ConfigurationError(
                "there is no place for the journal, because HOME is not set", hint="set HOME, or PULLTHROUGH_JOURNAL"
            )
        path = journal or (folder or Path()) / journal_name(declaration.name, self.target)
        self.journal = Journal(path, clock)
        self.fingerprints = Fingerprints(_made(folder or path.parent))
        self._accounts: dict[str, Account] | None = None
        #: What is allowed and does probably not work.
        self.warnings: tuple[str, ...] = ()

    # Plan and apply

    def plan(self, options: Options = _NO_OPTIONS) -> Plan:
        """What `apply` would do. Reads only.

        Raises InputMissing, PlanProblem for what the declaration cannot ask for here, and what `Aws.call` raises. What
        stands in the way of the account's own state is in the plan's `problems`.
        """
        basis = self._basis(self._read_accounts(), options)
        notes: list[str] = []
        if options.existing:
            others, repositories = basis.observed.of(ResourceKind.TEMPLATE).values(), self._read_repositories()
            steps = existing_steps(basis.desired, repositories, others)
            basis = replace(basis, repository_steps=tuple(steps))
            notes = existing_notes(basis.desired, repositories, others)
        return plan_apply(replace(basis, notes=(*notes, *self._covered_notes(basis))))

    def plan_destroy(self, options: Options = _NO_OPTIONS) -> Plan:
        """What `destroy` would do. Reads only; needs no credential for any upstream."""
        basis = self._basis(self._placeholders(), options)
        if options.delete_repositories:
            steps, notes = deletion_steps(self.aws, self._prefixes, is_engine=self.target.is_engine)
            basis = replace(basis, repository_steps=tuple(steps), notes=tuple(notes))
        return plan_destroy(basis)

    def apply(self, plan: Plan, watch: Watch = lambda step, progress: None) -> Applied:
        """Carry out a plan of this deployment. Raises PlanProblem, ApplyFailed, ConfigurationError."""
        if plan.is_empty and not plan.problems and not plan.gone:
            return Applied(())
        by_secret = {
            secret_name_of(rule): self._accounts[rule.prefix]
            for rule in self.declaration.rules
            if self._accounts and rule.prefix in self._accounts
        }
        executor = Executor(self.aws, self.target, self.declaration.name, by_secret, self.fingerprints)
        with self.journal.writing() as journal:
            return apply_plan(plan, executor.execute, journal, watch)

    # What is there

    def verify(self) -> Report:
        """Whether each rule works, end to end."""
        desired = self._desired(self._placeholders())
        return verify(self.aws, self.target, self.declaration, desired, fetch=fetch_by_http(self.target))

    def status(self) -> Status:
        """What is there, and how it differs. Where tokens are missing, credentials are not compared."""
        try:
            accounts, missing = self._read_accounts(), ""
        except InputMissing as error:
            accounts, missing = self._placeholders(), error.message
        basis = self._basis(accounts)
        return status(
            self.declaration,
            basis.desired,
            basis.observed,
            plan_apply(basis),
            self._read_repositories(),
            self._clock(),
            registry_host=registry_host(self.aws, self.target),
            credentials_missing=missing,
        )

    def addresses(self, *, cache_off: bool = False) -> list[Address]:
        """Where images are pulled from."""
        host = "" if cache_off else registry_host(self.aws, self.target)
        return addresses(self.declaration, host, cache_off=cache_off)

    def observe(self) -> Observed:
        """What is there, for exports and for importing it: the role for templates included."""
        desired = self._desired(self._placeholders())
        questions = questions_of(self.declaration, desired, self.journal.read())
        if self.target.has_iam:
            role = template_role_name(self.declaration.name)
            questions = replace(questions, roles=tuple(sorted({*questions.roles, role})))
        return observe(self.aws, self.target, questions, self.fingerprints)

    # Parts

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return tuple(rule.prefix for rule in self.declaration.rules)

    def _read_repositories(self) -> list[Repository]:
        # An engine's own repositories are under no rule; an account of AWS has some that ROOT covers by their names only.
        return read_repositories(self.aws, self._prefixes, root_is_cached=self.target.is_engine)

    def _covered_notes(self, basis: PlanBasis) -> list[str]:
        there = basis.observed.of(ResourceKind.RULE)
        made = [rule.key.name for rule in basis.desired.of(ResourceKind.RULE) if rule.key.name not in there]
        return covered_notes(self.aws, made, list(there), is_engine=self.target.is_engine)

    def _read_accounts(self) -> dict[str, Account]:
        if self._accounts is None:
            self._accounts = read_accounts(self.declaration, self.target, self._credentials, self._ask)
            self.aws.secrets |= {account.token for account in self._accounts.values()}
            self.warnings = warnings_of(self._accounts, self.declaration.rules)
        return self._accounts

    def _placeholders(self) -> dict[str, Account]:
        return placeholder_accounts(self.declaration, self.target)

    def _desired(self, accounts: Mapping[str, Account]) -> Desired:
        return build_desired(self.declaration, accounts, self.fingerprints, self.target)

    def _basis(self, accounts: Mapping[str, Account], options: Options = _NO_OPTIONS) -> PlanBasis:
        """Everything that a plan is made from; reads what is there."""
        desired = self._desired(accounts)
        owned = self.journal.read()
        observed = observe(self.aws, self.target, questions_of(self.declaration, desired, owned), self.fingerprints)
        return PlanBasis(
            self.declaration.name, desired, observed, owned, options, fingerprint_key=self.fingerprints.key_id
        )


def _made(folder: Path) -> Path:
    """Make the folder where that is possible. Where it is not, the fingerprint key is this run's only."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        pass
    return folder
