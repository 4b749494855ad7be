"""Where the module's contract runs: the fake, and the real ones that it stands for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pullthrough.errors import AwsRefused
from pullthrough.provision.aws import Aws, Send, connect
from pullthrough.provision.model.target import DeploymentTarget
from tests.aws import REGION, Account
from tests.deployments import NODE_ROLE, World
from tests.fakes.aws import Call, FakeAws
from tests.integration.ecr import open_site
from tests.integration.provision.deployments import moto

TRUST = (
    '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, '
    '"Action": "sts:AssumeRole"}]}'
)


class Recording:
    """`Send` that goes on to others, by service, and keeps what was called."""

    def __init__(self, sends: Mapping[str, Send]) -> None:
        self._sends = sends
        self._lock = threading.Lock()
        self.calls: list[Call] = []

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        with self._lock:
            self.calls.append(Call(service, operation, dict(params)))
        return self._sends[service](service, operation, params)

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if not call.is_read]


@dataclass
class Place:
    """A target of the contract, empty but for a role of nodes where it has IAM."""

    name: str
    send: Recording
    target: DeploymentTarget

    @property
    def aws(self) -> Aws:
        return Aws(self.send)

    def world(self) -> World:
        return World(self.send, target=self.target)

    def empty(self) -> None:
        """Take away what a test made."""
        aws = self.aws
        for rule in aws.call("ecr", "DescribePullThroughCacheRules")["pullThroughCacheRules"]:
            if "createdAt" in rule:
                aws.call("ecr", "DeletePullThroughCacheRule", ecrRepositoryPrefix=rule["ecrRepositoryPrefix"])
        templates = aws.call("ecr", "DescribeRepositoryCreationTemplates")["repositoryCreationTemplates"]
        for template in templates:
            aws.call("ecr", "DeleteRepositoryCreationTemplate", prefix=template["prefix"])
        with suppress(AwsRefused):
            aws.call("ecr", "DeleteRegistryPolicy")
        aws.call("ecr", "PutRegistryScanningConfiguration", scanType="BASIC", rules=[])
        for secret in aws.pages("secretsmanager", "ListSecrets", "SecretList", IncludePlannedDeletion=True):
            aws.call("secretsmanager", "DeleteSecret", SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)
        if self.target.has_iam:
            for role in ("pullthrough-pullthrough-template", NODE_ROLE):
                for policy in ("create-repositories", "pullthrough-pullthrough"):
                    with suppress(AwsRefused):
                        aws.call("iam", "DeleteRolePolicy", RoleName=role, PolicyName=policy)
                with suppress(AwsRefused):
                    aws.call("iam", "DeleteRole", RoleName=role)


@contextmanager
def _environment(account: Account, **more: str) -> Iterator[Mapping[str, str]]:
    """The SDK's environment: credentials, and where services are that have a place of their own."""
    environ = {**account.environ, **more}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        yield environ


@contextmanager
def _fake(folder: Path) -> Iterator[Place]:
    fake = FakeAws()
    sends = dict.fromkeys(("ecr", "secretsmanager", "iam", "sts"), fake)
    yield Place("fake", Recording(sends), DeploymentTarget(fake.account, fake.region))


@contextmanager
def _engine(folder: Path) -> Iterator[Place]:
    with open_site(folder, 1, top="standard_rules = false") as site, _environment(Account(site.engine.url)) as environ:
        connection = connect(environ)
        sends = dict.fromkeys(("ecr", "secretsmanager", "sts"), connection.aws.send)
        yield Place("engine", Recording(sends), connection.target)


@contextmanager
def _engine_with_moto(folder: Path) -> Iterator[Place]:
    """An engine beside an IAM of its own, which `AWS_ENDPOINT_URL_IAM` names."""
    with ExitStack() as stack:
        site = stack.enter_context(open_site(folder, 1, top="standard_rules = false"))
        iam = stack.enter_context(moto(folder))
        environ = stack.enter_context(_environment(Account(site.engine.url), AWS_ENDPOINT_URL_IAM=iam))
        connection = connect(environ)
        assert connection.target.is_engine
        assert connection.target.has_iam
        sends = dict.fromkeys(("ecr", "secretsmanager", "iam", "sts"), connection.aws.send)
        yield Place("engine with moto's IAM", Recording(sends), connection.target)


@contextmanager
def _moto(folder: Path) -> Iterator[Place]:
    """moto has no pull-through caches: those are the fake's."""
    with moto(folder) as url, _environment(Account(url)) as environ:
        connection = connect(environ)
        fake = FakeAws(region=REGION)
        fake.ecr.state_of_secret = lambda arn: "usable"
        sends = dict.fromkeys(("secretsmanager", "iam", "sts"), connection.aws.send)
        yield Place("moto", Recording({**sends, "ecr": fake}), DeploymentTarget(fake.account, REGION))


OPENERS: Mapping[str, Callable[[Path], Any]] = {
    "fake": _fake,
    "engine": _engine,
    "engine-with-iam": _engine_with_moto,
    "moto": _moto,
}


@pytest.fixture(scope="module", params=OPENERS)
def _opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with OPENERS[request.param](tmp_path_factory.mktemp(request.param)) as place:
        yield place


@pytest.fixture
def place(_opened: Place) -> Iterator[Place]:
    if _opened.target.has_iam:
        _opened.aws.call("iam", "CreateRole", RoleName=NODE_ROLE, AssumeRolePolicyDocument=TRUST)
    _opened.send.calls.clear()
    yield _opened
    _opened.empty()
