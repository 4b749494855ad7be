"""One call of AWS: repeated where that is safe, and its errors in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from pullthrough.errors import ActionDenied, AwsRefused, AwsUnreachable, ProvisionError, TargetUnusable
from pullthrough.provision.aws import Aws, Lost, ReadingPool, Refused, connected
from tests.fakes.aws import ACCOUNT, CALLER, FakeAws


class Script:
    """Answers as it is told, one after the other; the last again and again."""

    def __init__(self, *answers: Exception | dict[str, Any]) -> None:
        self._answers = list(answers)
        self.slept: list[float] = []
        self.params: list[Mapping[str, Any]] = []

    def __call__(self, service: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        self.params.append(dict(params))
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def aws(self) -> Aws:
        return Aws(self, sleep=self.slept.append, jitter=lambda: 1.0)


def refused(code: str, status: int = 400, message: str = "why") -> Refused:
    return Refused(code, message, status)


THROTTLED = refused("ThrottlingException")


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (THROTTLED, 8),
        (refused("SlowDown", 503), 4),
        (refused("Whatever", 429), 8),
        (refused("ServerException", 500), 4),
        (Lost("ReadTimeoutError"), 4),
        (refused("LimitExceededException"), 1),
        (refused("AccessDenied", 403), 1),
        (refused("ExpiredToken"), 1),
    ],
)
def test_a_call_is_repeated_where_that_may_help(failure: Exception, tries: int) -> None:
    script = Script(failure)
    with pytest.raises(ProvisionError):
        script.aws.call("ecr", "GetRegistryPolicy")
    assert len(script.params) == tries


def test_a_call_that_succeeds_at_last_is_an_answer() -> None:
    script = Script(THROTTLED, Lost("x"), refused("ServerException", 500), {"a": 1})
    assert script.aws.call("ecr", "GetRegistryPolicy", x=1) == {"a": 1}
    assert script.params == [{"x": 1}] * 4


def test_waits_grow_up_to_eight_seconds() -> None:
    script = Script(THROTTLED)
    with pytest.raises(AwsUnreachable, match="for too long"):
        script.aws.call("ecr", "GetRegistryPolicy")
    assert script.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_named_code_is_a_race_that_passes() -> None:
    script = Script(refused("SecretNotFoundException"), {})
    script.aws.call("ecr", "X", retry=("SecretNotFoundException",))
    with pytest.raises(AwsRefused):
        Script(refused("SecretNotFoundException")).aws.call("ecr", "X")


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (refused("AccessDeniedException"), ActionDenied, "does not let this caller do ecr:GetRegistryPolicy: why"),
        (refused("UnrecognizedClientException"), TargetUnusable, "credentials are not taken (UnrecognizedClient"),
        (refused("LimitExceededException"), AwsRefused, "ecr refuses GetRegistryPolicy (LimitExceededException): why"),
        (refused("ServerException", 500), AwsUnreachable, "refuses GetRegistryPolicy for too long (ServerException)"),
        (Lost("EndpointConnectionError at h"), AwsUnreachable, "no answer to GetRegistryPolicy: EndpointConn"),
    ],
)
def test_errors_are_ours(failure: Exception, kind: type[ProvisionError], words: str) -> None:
    with pytest.raises(kind) as caught:
        Script(failure).aws.call("ecr", "GetRegistryPolicy")
    assert words in caught.value.message
    assert caught.value.__context__ is None


def test_pages_are_read_to_the_last() -> None:
    script = Script({"list": [{"a": 1}], "nextToken": "t"}, {"list": [{"a": 2}]})
    assert script.aws.pages("ecr", "X", "list", maxResults=1) == [{"a": 1}, {"a": 2}]
    assert script.params == [{"maxResults": 1}, {"maxResults": 1, "nextToken": "t"}]
    script = Script({"NextToken": "t"}, {"list": []})
    assert script.aws.pages("secretsmanager", "X", "list") == []
    assert script.params[1] == {"NextToken": "t"}


def test_secrets_are_taken_out_of_messages_the_longest_first() -> None:
    script = Script(refused("Odd", message='a "tok-long\\"er" and a tok'))
    aws = script.aws
    aws.secrets |= {"tok", 'tok-long"er', ""}
    with pytest.raises(AwsRefused) as caught:
        aws.call("ecr", "X")
    assert caught.value.message.endswith('a "…" and a …')


def test_a_repr_shows_no_secret() -> None:
    aws = Script({}).aws
    aws.secrets.add("hunter2")
    assert "hunter2" not in repr(aws)


def test_reads_that_go_out_together_are_ended_with_their_block() -> None:
    with ReadingPool(Script({"a": 1}).aws) as readers:
        answers = [readers.start(lambda: {"a": 1}) for _ in range(20)]
    assert all(answer.done() for answer in answers)


@pytest.mark.parametrize(
    ("is_engine", "endpoint", "separate", "expected"),
    [
        (False, "", False, (False, True)),
        (True, "http://127.0.0.1:5000", False, (True, False)),
        (True, "http://127.0.0.1:5000", True, (True, True)),
        (False, "http://127.0.0.1:4566", False, (False, True)),
    ],
)
def test_what_stands_behind_an_endpoint_is_found_by_asking_who_we_are(
    is_engine: bool, endpoint: str, separate: bool, expected: tuple[bool, bool]
) -> None:
    fake = FakeAws(is_engine=is_engine)
    target = connected(Aws(fake), "eu-central-1", endpoint, separate_iam=separate).target
    assert (target.is_engine, target.has_iam) == expected
    assert (target.account, target.caller, target.is_aws) == (ACCOUNT, CALLER, not endpoint)
    assert [call.operation for call in fake.calls] == ["GetCallerIdentity"]


@pytest.mark.parametrize(("region", "name"), [("us-gov-west-1", "GovCloud"), ("cn-north-1", "China")])
def test_where_aws_has_no_caches_nothing_is_asked(region: str, name: str) -> None:
    fake = FakeAws()
    with pytest.raises(TargetUnusable, match=name):
        connected(Aws(fake), region, "")
    assert fake.calls == []
    assert connected(Aws(fake), region, "http://127.0.0.1:5000")
