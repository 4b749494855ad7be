"""An AWS account in memory, behind the one seam that the module calls AWS through (`Send`).

It records every call, holds it against botocore's model, answers with AWS's codes and messages, and can let the n-th
call fail in all the ways in which calls fail. A contract suite (tests/integration/provision) runs the same scenarios
against it, the real engine and moto.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from botocore import xform_name

from pullthrough.provision.aws import Lost, Refused
from tests.fakes.aws_ecr import FakeEcr
from tests.fakes.aws_iam import FakeIam
from tests.fakes.aws_model import check_answer, check_parameters
from tests.fakes.aws_secrets import FakeSecret, FakeSecretsManager

ACCOUNT = "123456789012"
REGION = "eu-central-1"
CALLER = f"arn:aws:iam::{ACCOUNT}:user/operator"
_READS = ("get_", "describe_", "list_", "batch_get_", "validate_", "simulate_")


class Mode(StrEnum):
    """How a call fails."""

    #: Refused for want of a permission; nothing happened.
    DENIED = "denied"
    #: An error of the server's; nothing happened.
    SERVER = "server"
    THROTTLED = "throttled"
    #: The connection broke before the request was read.
    LOST_BEFORE = "lost before"
    #: It took effect, and its answer was lost.
    LOST_AFTER = "lost after"
    #: Our process dies, before it or after its effect.
    DIES_BEFORE = "dies before"
    DIES_AFTER = "dies after"


class Died(BaseException):
    """Stands for the end of our process: nothing catches it."""


@dataclass(frozen=True)
class Call:
    service: str
    operation: str
    params: Mapping[str, Any] = field(hash=False)

    @property
    def is_read(self) -> bool:
        return bool(xform_name(self.operation).startswith(_READS))

    @property
    def about(self) -> str:
        """What it is about: the first name in its parameters."""
        names = ("ecrRepositoryPrefix", "prefix", "Name", "SecretId", "RoleName", "repositoryName")
        return next((str(self.params[name]) for name in names if name in self.params), "")

    def __str__(self) -> str:
        return f"{self.operation} {self.about}".strip()


@dataclass
class _Fault:
    at: int
    mode: Mode
    #: Whether every call from there on fails, and not that one alone; of those, only the first may take effect.
    lasts: bool


class FakeAws:
    """`Send`. Thread-safe."""

    def __init__(
        self,
        *,
        account: str = ACCOUNT,
        region: str = REGION,
        is_engine: bool = False,
        before_call: Callable[[Call], None] = lambda call: None,
    ) -> None:
        """`before_call` is told of each call outside the lock, and may block or raise."""
        self.account = account
        self.region = region
        self.is_engine = is_engine
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.ecr = FakeEcr(account, region, self._tick, is_engine=is_engine)
        self.secretsmanager = FakeSecretsManager(account, region, self._tick)
        self.iam = FakeIam(account, self._tick)
        self.ecr.state_of_secret = self.secretsmanager.state
        self.calls: list[Call] = []
        #: Operations such as `ecr:CreateRepository` that the caller may not do.
        self.denied: set[str] = set()
        #: What AWS says instead of an answer to an operation: the refusals to come, in order.
        self.refusals: dict[str, list[Refused]] = {}
        self._before_call = before_call
        self._fault: _Fault | None = None
        self._count = 0
        self._lock = threading.RLock()

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        check_parameters(service, operation, params)
        call = Call(service, operation, deepcopy(dict(params)))
        self._before_call(call)
        with self._lock:
            self.calls.append(call)
            self._count += 1
            mode = self._mode_of_this_call()
            if mode is None or mode in (Mode.LOST_AFTER, Mode.DIES_AFTER):
                answer = self._answer(call)
            if mode is not None:
                raise self._failure(call, mode)
            check_answer(service, operation, answer)
            headers = {"server": "pullthrough/0.0"} if self.is_engine else {}
            answer = _as_the_sdk_parses(deepcopy(answer))
            return {**answer, "ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": headers}}

    # What tests set up

    def copy(self) -> FakeAws:
        """Another account with the same things in it, and nothing called yet."""
        twin = FakeAws(account=self.account, region=self.region, is_engine=self.is_engine)
        twin.now = self.now
        for name in ("rules", "templates", "registry_policy", "scanning", "repositories"):
            setattr(twin.ecr, name, deepcopy(getattr(self.ecr, name)))
        twin.secretsmanager.secrets = deepcopy(self.secretsmanager.secrets)
        twin.iam.roles = deepcopy(self.iam.roles)
        return twin

    def fail(self, at: int, mode: Mode, *, lasts: bool = False) -> None:
        """Let the call `at` (from 1, counted from now) fail so; with `lasts`, and all after it."""
        self._fault, self._count = _Fault(at, mode, lasts), 0

    def heal(self) -> None:
        self._fault = None
        self.denied.clear()

    def forget_calls(self) -> None:
        self.calls.clear()

    def add_rule(self, prefix: str, url: str, *, in_file: bool = False, **more: str) -> None:
        """A rule that was there before; `in_file`: of the engine's own file, which tells no times."""
        times = {} if in_file else {"createdAt": self._tick(), "updatedAt": self._tick()}
        rule = {"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": url, "registryId": self.account}
        self.ecr.rules[prefix] = {**rule, **times, **more}

    def add_template(self, prefix: str, **more: Any) -> None:
        """A template that was there before, as the API takes it."""
        self.ecr.create_repository_creation_template({"prefix": prefix, "appliedFor": ["PULL_THROUGH_CACHE"], **more})

    def add_secret(self, name: str, text: str, *, tags: Mapping[str, str] | None = None, **more: str) -> FakeSecret:
        tag_list = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        token = f"there-before-{len(self.secretsmanager.secrets):032}"
        self.secretsmanager.create_secret(
            {"Name": name, "SecretString": text, "ClientRequestToken": token, "Tags": tag_list, **more}
        )
        return self.secretsmanager.secrets[name]

    def add_role(self, name: str, **policies: Any) -> None:
        """A role that was there before, with inline policies."""
        trust = '{"Version": "2012-10-17", "Statement": []}'
        self.iam.create_role({"RoleName": name, "AssumeRolePolicyDocument": trust})
        self.iam.roles[name]["policies"] |= policies

    # What tests look at

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if not call.is_read]

    @property
    def actions(self) -> set[str]:
        """The IAM actions that were asked for."""
        return {f"{call.service}:{call.operation}" for call in self.calls}

    def secret(self, name: str) -> FakeSecret:
        return self.secretsmanager.secrets[name]

    def state(self, *, deleted_secrets: bool = True) -> dict[str, Any]:
        """Everything that is there, without times and ids of versions."""
        secrets = {
            name: {
                "value": secret.value,
                "versions": len(secret.versions),
                "description": secret.description,
                "kms_key": secret.kms_key,
                "tags": dict(secret.tags),
                "deleted": secret.deleted_at is not None,
            }
            for name, secret in sorted(self.secretsmanager.secrets.items())
            if deleted_secrets or secret.deleted_at is None
        }
        state = {
            "rules": _timeless(self.ecr.rules),
            "templates": _timeless(self.ecr.templates),
            "registry_policy": self.ecr.registry_policy,
            "scanning": self.ecr.scanning,
            "repositories": {name: _timeless(entry) for name, entry in self.ecr.repositories.items()},
            "secrets": secrets,
            "roles": _timeless(self.iam.roles),
        }
        return deepcopy(state)

    # Parts

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now

    def _answer(self, call: Call) -> dict[str, Any]:
        action = f"{call.service}:{call.operation}"
        if action in self.denied:
            raise self._refusal(call, Mode.DENIED)
        if self.refusals.get(action):
            raise self.refusals[action].pop(0)
        if call.service == "sts":
            assert call.operation == "GetCallerIdentity"
            return {"UserId": "AIDAOPERATOR", "Account": self.account, "Arn": CALLER}
        if call.service == "iam" and self.is_engine:
            raise Refused("InvalidAction", "an engine has no IAM", 400)
        services: dict[str, object] = {
            "ecr": self.ecr,
            "secretsmanager": self.secretsmanager,
            "iam": self.iam,
        }
        answer: dict[str, Any] = getattr(services[call.service], xform_name(call.operation))(call.params)
        return answer

    def _mode_of_this_call(self) -> Mode | None:
        fault = self._fault
        if fault is None or self._count < fault.at or (self._count > fault.at and not fault.lasts):
            return None
        if self._count > fault.at:
            return {Mode.LOST_AFTER: Mode.LOST_BEFORE, Mode.DIES_AFTER: Mode.DIES_BEFORE}.get(fault.mode, fault.mode)
        return fault.mode

    def _failure(self, call: Call, mode: Mode) -> BaseException:
        if mode in (Mode.DIES_BEFORE, Mode.DIES_AFTER):
            return Died(str(call))
        if mode in (Mode.LOST_BEFORE, Mode.LOST_AFTER):
            return Lost("ReadTimeoutError at fake")
        return self._refusal(call, mode)

    def _refusal(self, call: Call, mode: Mode) -> Refused:
        """As the service words it."""
        is_iam = call.service in ("iam", "sts")
        action = f"{call.service}:{call.operation}"
        if mode is Mode.DENIED:
            code, status = ("AccessDenied", 403) if is_iam else ("AccessDeniedException", 400)
            because = "because no identity-based policy allows the action"
            return Refused(code, f"User: {CALLER} is not authorized to perform: {action} {because}", status)
        if mode is Mode.THROTTLED:
            return Refused("Throttling" if is_iam else "ThrottlingException", "Rate exceeded", 400)
        code = {"ecr": "ServerException", "secretsmanager": "InternalServiceError"}.get(call.service, "ServiceFailure")
        return Refused(code, "An unexpected error occurred.", 500)


def _as_the_sdk_parses(answer: dict[str, Any]) -> dict[str, Any]:
    """IAM's documents are texts on the wire, and values in the SDK's answers."""
    return {
        name: json.loads(value)
        if name in ("AssumeRolePolicyDocument", "PolicyDocument")
        else _as_the_sdk_parses(value)
        if isinstance(value, dict)
        else value
        for name, value in answer.items()
    }


def listing(calls: Iterable[Call]) -> list[str]:
    """The calls, each as `Operation name`, sorted: reads go out together, in no order."""
    return sorted(map(str, calls))


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(entry) for name, entry in value.items() if not isinstance(entry, datetime)}
    return value
