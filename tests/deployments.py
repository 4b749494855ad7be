"""The module at work in tests: declarations, and plan, apply and destroy put together from their parts.

`pullthrough.provision.deployment` puts them together for users, with files and the environment; here the journal may be
in memory, and steps may go one after the other, so that the n-th call is the same one each time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pullthrough.declaration import (
    STANDARD_RULES,
    CredentialSource,
    Declaration,
    Encryption,
    NodeAccess,
    Rule,
    ScanFrequency,
    TagMutability,
    Template,
)
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws
from pullthrough.provision.execution.apply import Applied, Watch, apply_plan
from pullthrough.provision.execution.journal import Journal, entry_of, owned_of
from pullthrough.provision.execution.steps import Executor
from pullthrough.provision.model.accounts import Account, placeholder_accounts, secret_name_of, wants_account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.observed import Owned
from pullthrough.provision.model.plan import Options, Plan, Step
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.observe import observe
from pullthrough.provision.planning.apply import plan_apply, questions_of
from pullthrough.provision.planning.destroy import plan_destroy
from pullthrough.provision.planning.draft import PlanBasis
from tests.fakes.aws import ACCOUNT, REGION, FakeAws
from tests.waiting import no_sleep

USERNAME = "acme"
HUB, GITHUB, GITLAB = "registry-1.docker.io", "ghcr.io", "registry.gitlab.com"
#: No other text of a test has these in it.
TOKENS = {HUB: "dckr_pat_S3CR3T-of-the-hub", GITHUB: "ghp_S3CR3T-of-github", GITLAB: "gldt-S3CR3T-of-gitlab"}
HUB_SECRET, GITHUB_SECRET = "ecr-pullthroughcache/docker-hub", "ecr-pullthroughcache/github"
NODE_ROLE = "nodes"
OTHER_ACCOUNT = "210987654321"
KMS_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
ECR_HOST = f"{OTHER_ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
#: What the Terraform module makes, and no more than that and its templates.
DEFAULT = Declaration(rules=STANDARD_RULES, usernames={HUB: USERNAME, GITHUB: USERNAME})
#: One of everything.
FULL = Declaration(
    rules=(
        *STANDARD_RULES,
        Rule("gitlab", GITLAB, credential=CredentialSource(USERNAME, access_token_env="GITLAB_TOKEN")),
        Rule(
            "team",
            ECR_HOST,
            upstream_repository_prefix="shared/team",
            custom_role_arn=f"arn:aws:iam::{ACCOUNT}:role/reader",
        ),
    ),
    templates={
        "docker-hub": Template(
            tag_mutability=TagMutability.IMMUTABLE,
            tag_mutability_exclusions=("latest", "v*"),
            resource_tags={"cost-center": "42"},
            encryption=Encryption.KMS,
            kms_key=KMS_KEY,
        ),
        "github": Template(resource_tags={"cost-center": "43"}, keep_images=None),
        "quay": Template(pull_accounts=(OTHER_ACCOUNT,), keep_images=50),
        "kubernetes": Template(enabled=False),
    },
    access=NodeAccess(node_roles=(NODE_ROLE,), pull_accounts=(OTHER_ACCOUNT,), pull_organization="o-abcdefghij"),
    scan_frequency=ScanFrequency.ON_PUSH,
    tags={"team": "platform"},
    usernames=DEFAULT.usernames,
)


def fake_with_roles(**options: Any) -> FakeAws:
    """An account in which the node role of FULL is there, with rights of its own."""
    fake = FakeAws(**options)
    if not fake.is_engine:
        fake.add_role(NODE_ROLE, basic={"Version": "2012-10-17", "Statement": []})
    return fake


def secret_text(username: str, token: str) -> str:
    return json.dumps({"username": username, "accessToken": token})


class MemoryJournal:
    """A journal without a file."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def read(self) -> Owned:
        return owned_of(self.entries)

    @contextmanager
    def writing(self) -> Iterator[MemoryJournal]:
        yield self

    def begin(self, step: Step) -> None:
        self._write("begin", step)

    def done(self, step: Step) -> None:
        self._write("done", step)

    def failed(self, step: Step, *, is_certain: bool) -> None:
        self._write("failed" if is_certain else "unknown", step)

    def _write(self, event: str, step: Step) -> None:
        self.entries.append(json.loads(json.dumps(entry_of(event, step, 0.0))))


@dataclass
class World:
    """A target, and what the module remembers of it."""

    send: Any
    target: DeploymentTarget = field(default_factory=lambda: DeploymentTarget(ACCOUNT, REGION))
    journal: Journal | MemoryJournal = field(default_factory=MemoryJournal)
    #: By upstream.
    tokens: Mapping[str, str] = field(default_factory=lambda: TOKENS)
    fingerprints: Fingerprints = field(
        default_factory=lambda: Fingerprints(Path("/nowhere"), random_bytes=lambda count: b"k" * count)
    )
    at_once: int = 1

    def __post_init__(self) -> None:
        self.aws = Aws(self.send, sleep=no_sleep, jitter=lambda: 0.0)
        if isinstance(self.send, FakeAws) and self.send.is_engine:
            self.target = replace(self.target, endpoint="http://127.0.0.1:5000", is_engine=True, has_iam=False)

    def copy(self) -> World:
        """The same target and memory once more, apart from these."""
        assert isinstance(self.send, FakeAws)
        assert isinstance(self.journal, MemoryJournal)
        journal = MemoryJournal()
        journal.entries = list(self.journal.entries)
        return replace(self, send=self.send.copy(), journal=journal)

    def accounts(self, declaration: Declaration) -> dict[str, Account]:
        accounts = {}
        for rule in declaration.rules:
            if wants_account(rule, self.target):
                token = self.tokens.get(rule.upstream, f"S3CR3T-of-{rule.upstream}")
                accounts[rule.prefix] = Account(USERNAME, token)
                self.aws.secrets.add(token)
        return accounts

    def plan(self, declaration: Declaration, **options: Any) -> Plan:
        desired = build_desired(declaration, self.accounts(declaration), self.fingerprints, self.target)
        owned = self.journal.read()
        observed = observe(self.aws, self.target, questions_of(declaration, desired, owned), self.fingerprints)
        given = Options(**options)
        key = self.fingerprints.key_id
        return plan_apply(PlanBasis(declaration.name, desired, observed, owned, given, fingerprint_key=key))

    def plan_destroy(self, declaration: Declaration, **options: Any) -> Plan:
        accounts = placeholder_accounts(declaration, self.target)
        desired = build_desired(declaration, accounts, self.fingerprints, self.target)
        owned = self.journal.read()
        observed = observe(self.aws, self.target, questions_of(declaration, desired, owned), self.fingerprints)
        return plan_destroy(PlanBasis(declaration.name, desired, observed, owned, Options(**options)))

    def carry_out(self, plan: Plan, declaration: Declaration, watch: Watch = lambda step, progress: None) -> Applied:
        accounts = self.accounts(declaration)
        by_secret = {
            secret_name_of(rule): accounts[rule.prefix] for rule in declaration.rules if rule.prefix in accounts
        }
        executor = Executor(self.aws, self.target, declaration.name, by_secret, self.fingerprints)
        with self.journal.writing() as journal:
            return apply_plan(plan, executor.execute, journal, watch, at_once=self.at_once)

    def apply(self, declaration: Declaration, **options: Any) -> Plan:
        """The plan that was carried out."""
        plan = self.plan(declaration, **options)
        self.carry_out(plan, declaration)
        return plan

    def destroy(self, declaration: Declaration, **options: Any) -> Plan:
        plan = self.plan_destroy(declaration, **options)
        self.carry_out(plan, declaration)
        return plan


def ids(plan: Plan) -> list[str]:
    """The steps, as `+ rule:quay`."""
    return [f"{step.action.sign} {step.key}" for step in plan.steps]
