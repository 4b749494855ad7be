"""Secrets Manager over HTTP: what each operation does and refuses, who may, where values are not, and what pulls use.

Left out here: what moto agrees on (tests/contracts/aws/test_secrets.py), and Terraform's sequences
(test_terraform_calls.py).
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pullthrough.demo.images import make_image
from pullthrough.demo.requests import RequestKind
from pullthrough.faces.ecr.wire.models import service_model
from tests.aws import ACCOUNT_ID, REGION, Account, answer, fails_with, key_settings, unique
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import ScriptedUpstream

NOT_FOUND, INVALID, REQUEST = "ResourceNotFoundException", "InvalidParameterException", "InvalidRequestException"
MARKED = "You can't perform this operation on the secret because it was marked for deletion."
GUEST = Account("", access_key_id="AKIDGUEST", secret_access_key="the-guest-keys-secret-half")
TRIES = 8


def configuration(folder: Path, workers: int, more: str = "") -> str:
    return (
        f'standard_rules = false\n[serve]\nworkers = {workers}\n[ecr]\naccount = "{ACCOUNT_ID}"\nregion = "{REGION}"\n'
        f"{key_settings(folder, Account(''))}{key_settings(folder, GUEST, name='guest', role='pull')}{more}"
    )


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("secrets")
    engine = Engine(folder / "engine", configuration(folder, request.param))
    try:
        engine.start()
        yield engine
    finally:
        engine.end()


@pytest.fixture
def secrets(engine: Engine) -> Any:
    return Account(engine.url).client("secretsmanager")


@pytest.fixture
def guest(engine: Engine) -> Any:
    """Of the role pull, which no secrets are for."""
    account = Account(engine.url, GUEST.access_key_id, GUEST.secret_access_key)
    return account.client("secretsmanager")


@pytest.fixture
def name() -> str:
    return unique("secret")


@pytest.fixture
def arn(secrets: Any, name: str) -> str:
    made: str = secrets.create_secret(Name=name, SecretString="one")["ARN"]
    return made


def token() -> str:
    return str(uuid.uuid4())


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"Name": "with space"}, "ValidationException", "Invalid name. Must be a valid name containing alphanumeric"),
        ({"Name": "ü"}, "ValidationException", "Invalid name"),
        ({"SecretString": "a", "SecretBinary": b"a"}, INVALID, "both a binary secret value and a string secret value"),
        ({"SecretString": "ä" * 40_000}, INVALID, "65536 bytes"),
        ({"AddReplicaRegions": [{"Region": "eu-west-1"}]}, REQUEST, "not offered by this engine"),
        ({"Type": "Partner"}, REQUEST, "not offered by this engine"),
        ({"Tags": [{"Key": "aws:a", "Value": ""}]}, INVALID, "aws:"),
        ({"Tags": [{"Value": "a"}]}, INVALID, "Key"),
        ({"Tags": [{"Key": "a"}, {"Key": "a"}]}, INVALID, "more than once"),
        ({"Tags": [{"Key": f"a{number}"} for number in range(51)]}, INVALID, "50 tags"),
    ],
)
def test_a_secret_that_cannot_be_is_not_made(
    secrets: Any, name: str, wrong: dict[str, Any], code: str, words: str
) -> None:
    with fails_with(code, words):
        secrets.create_secret(**{"Name": name} | wrong)
    with fails_with(NOT_FOUND):
        secrets.describe_secret(SecretId=name)


@pytest.mark.parametrize(
    "operation",
    [
        "RotateSecret",
        "CancelRotateSecret",
        "ReplicateSecretToRegions",
        "RemoveRegionsFromReplication",
        "StopReplicationToReplica",
    ],
)
def test_what_needs_more_of_aws_is_refused_by_name(secrets: Any, arn: str, operation: str) -> None:
    method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
    more: dict[str, Any] = {
        "ReplicateSecretToRegions": {"AddReplicaRegions": [{"Region": "eu-west-1"}]},
        "RemoveRegionsFromReplication": {"RemoveReplicaRegions": ["eu-west-1"]},
    }
    with fails_with(REQUEST, operation, "not offered by this engine"):
        getattr(secrets, method)(SecretId=arn, **more.get(operation, {}))


def test_a_marked_secret_refuses_everything_but_being_looked_at(secrets: Any, name: str, arn: str) -> None:
    version = secrets.get_secret_value(SecretId=arn)["VersionId"]
    due = secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=7)["DeletionDate"]
    uses: tuple[Callable[[], object], ...] = (
        lambda: secrets.get_secret_value(SecretId=arn),
        lambda: secrets.put_secret_value(SecretId=arn, SecretString="x"),
        lambda: secrets.update_secret(SecretId=arn, Description="x"),
        lambda: secrets.update_secret_version_stage(SecretId=arn, VersionStage="a", MoveToVersionId=version),
        lambda: secrets.tag_resource(SecretId=arn, Tags=[{"Key": "a", "Value": ""}]),
        lambda: secrets.untag_resource(SecretId=arn, TagKeys=["a"]),
        lambda: secrets.get_resource_policy(SecretId=arn),
        lambda: secrets.put_resource_policy(SecretId=arn, ResourcePolicy=policy("Deny", "*")),
        lambda: secrets.delete_resource_policy(SecretId=arn),
    )
    for use in uses:
        with fails_with(REQUEST, MARKED):
            use()
    with fails_with(REQUEST, "already scheduled for deletion"):
        secrets.delete_secret(SecretId=arn)
    with fails_with(REQUEST, "a secret with this name is already scheduled for deletion"):
        secrets.create_secret(Name=name)
    (error,) = secrets.batch_get_secret_value(SecretIdList=[arn])["Errors"]
    assert error == {"SecretId": arn, "ErrorCode": REQUEST, "Message": MARKED}
    assert secrets.describe_secret(SecretId=arn)["DeletedDate"] == due
    assert secrets.list_secret_version_ids(SecretId=arn)["Versions"][0]["VersionId"] == version
    secrets.restore_secret(SecretId=arn)
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "one"


def test_what_is_wrong_with_a_deletion_is_said(secrets: Any, name: str, arn: str) -> None:
    for days in (6, 31, 0, -1):
        with fails_with(INVALID, "between 7 and 30 days (inclusive)"):
            secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=days)
    with fails_with(INVALID, "ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays"):
        secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=7, ForceDeleteWithoutRecovery=True)
    for _ in range(2):
        gone = answer(secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True))
        assert gone["ARN"] == arn
        assert gone["DeletionDate"]
    assert secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)["Name"] == name
    with fails_with(NOT_FOUND, "Secrets Manager can't find the specified secret."):
        secrets.delete_secret(SecretId=arn)


def test_a_value_that_is_not_there_is_named(secrets: Any, arn: str) -> None:
    with fails_with(NOT_FOUND, "can't find the specified secret value for staging label: green"):
        secrets.get_secret_value(SecretId=arn, VersionStage="green")
    version = token()
    with fails_with(NOT_FOUND, f"can't find the specified secret value for VersionId: {version}"):
        secrets.get_secret_value(SecretId=arn, VersionId=version)
    with fails_with(NOT_FOUND, "Secrets Manager can't find the specified secret version."):
        secrets.update_secret_version_stage(SecretId=arn, VersionStage="blue", MoveToVersionId=version)
    with fails_with(INVALID, "RemoveFromVersionId"):
        secrets.update_secret_version_stage(SecretId=arn, VersionStage="blue")
    with fails_with(INVALID, "SecretString or SecretBinary"):
        secrets.put_secret_value(SecretId=arn)


def test_another_value_under_a_used_token_is_refused(secrets: Any, arn: str) -> None:
    used = token()
    secrets.put_secret_value(SecretId=arn, SecretString="two", ClientRequestToken=used)
    for call in (secrets.put_secret_value, secrets.update_secret):
        with fails_with("ResourceExistsException", f"You can't use ClientRequestToken {used} because"):
            call(SecretId=arn, SecretString="three", ClientRequestToken=used)


def test_there_are_so_many_staging_labels(secrets: Any, arn: str) -> None:
    stages = [f"s{number}" for number in range(20)]
    with fails_with("LimitExceededException", "20 staging labels"):
        secrets.put_secret_value(SecretId=arn, SecretString="two", VersionStages=stages)


def test_a_secret_is_named_in_three_ways(secrets: Any, name: str, arn: str) -> None:
    for secret_id in (name, arn, arn[:-7]):
        assert secrets.get_secret_value(SecretId=secret_id)["ARN"] == arn
    for secret_id in (arn[:-1], arn.replace(REGION, "eu-west-3"), arn.replace(ACCOUNT_ID, "9" * 12), f"{name}-"):
        with fails_with(NOT_FOUND):
            secrets.get_secret_value(SecretId=secret_id)


# --- lists -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def family(secrets: Any) -> tuple[str, list[str]]:
    """A prefix, and the names of secrets under it in the order in which they were made."""
    prefix = unique("list")
    names = [f"{prefix}/{part}" for part in ("c", "a", "e", "b", "d")]
    for number, name in enumerate(names):
        tags = [{"Key": f"{prefix}-key", "Value": f"{prefix}-{number}"}]
        secrets.create_secret(Name=name, Description=f"{prefix} Number {number}", Tags=tags, SecretString=name)
    return prefix, names


def listed(secrets: Any, prefix: str, *filters: tuple[str, list[str]], **more: Any) -> list[str]:
    given = [{"Key": key, "Values": values} for key, values in (("name", [prefix]), *filters)]
    pages = secrets.get_paginator("list_secrets").paginate(Filters=given, PaginationConfig={"PageSize": 2}, **more)
    return [entry["Name"] for page in pages for entry in page["SecretList"]]


def paged(call: Callable[..., Any], **asked: Any) -> Iterator[Any]:
    """The pages of an operation that the SDK has no paginator for."""
    following: dict[str, str] = {}
    while True:
        page = call(**asked, **following)
        yield page
        if "NextToken" not in page:
            return
        following = {"NextToken": page["NextToken"]}


@pytest.mark.parametrize("sort", ["created-date", "last-changed-date", "name", "last-accessed-date", None])
def test_lists_are_sorted_and_come_in_pages(secrets: Any, family: tuple[str, list[str]], sort: str | None) -> None:
    prefix, names = family
    wanted = sorted(names) if sort in ("name", "last-accessed-date") else names
    more = {"SortBy": sort} if sort else {}
    assert listed(secrets, prefix, **more) == wanted
    assert listed(secrets, prefix, SortOrder="desc", **more) == wanted[::-1]


def test_lists_are_filtered(secrets: Any, family: tuple[str, list[str]]) -> None:
    prefix, names = family
    c, a, e, b, d = names
    assert listed(secrets, prefix, ("name", [a, b])) == [a, b]
    assert listed(secrets, prefix, ("name", [f"!{a}"])) == [c, e, b, d]
    assert listed(secrets, prefix, ("name", [f"{prefix}/", f"!{a}"])) == [c, e, b, d]
    assert listed(secrets, prefix.upper()) == []
    assert listed(secrets, prefix, ("description", [f"{prefix} number 1".upper()])) == [a]
    assert listed(secrets, prefix, ("tag-key", [f"{prefix}-k"])) == names
    assert listed(secrets, prefix, ("tag-value", [f"{prefix}-3"])) == [b]
    assert listed(secrets, prefix, ("all", [f"NUMBER {prefix}-4"])) == [d]
    assert listed(secrets, prefix, ("primary-region", [REGION[:4]])) == names
    assert listed(secrets, prefix, ("owning-service", ["rds"])) == []
    with fails_with(INVALID, "Key and Values"):
        secrets.list_secrets(Filters=[{"Key": "name"}])


def test_a_token_is_good_for_its_own_list(secrets: Any, arn: str, family: tuple[str, list[str]]) -> None:
    following = secrets.list_secrets(MaxResults=1)["NextToken"]
    uses: tuple[Callable[[], object], ...] = (
        lambda: secrets.list_secrets(MaxResults=1, NextToken=following, SortBy="name"),
        lambda: secrets.list_secrets(MaxResults=1, NextToken=following, SortOrder="desc"),
        lambda: secrets.list_secrets(NextToken="forged"),
        lambda: secrets.list_secret_version_ids(SecretId=arn, NextToken=following),
        lambda: secrets.batch_get_secret_value(Filters=[], NextToken=following),
    )
    for use in uses:
        with fails_with("InvalidNextTokenException"):
            use()


def test_versions_come_in_pages(secrets: Any, arn: str) -> None:
    for number in range(4):
        secrets.put_secret_value(SecretId=arn, SecretString=str(number))

    def versions(**more: Any) -> list[Any]:
        pages = paged(secrets.list_secret_version_ids, SecretId=arn, MaxResults=2, **more)
        return [version.get("VersionStages") for page in pages for version in page["Versions"]]

    assert versions() == [["AWSPREVIOUS"], ["AWSCURRENT"]]
    assert versions(IncludeDeprecated=True) == [None, None, None, ["AWSPREVIOUS"], ["AWSCURRENT"]]


def test_a_batch_has_what_there_is_and_says_what_there_is_not(secrets: Any, family: tuple[str, list[str]]) -> None:
    prefix, names = family
    missing = unique("missing")
    batch = secrets.batch_get_secret_value(SecretIdList=[names[0], missing, names[1]])
    assert [value["SecretString"] for value in batch["SecretValues"]] == names[:2]
    assert batch["Errors"] == [
        {"SecretId": missing, "ErrorCode": NOT_FOUND, "Message": "Secrets Manager can't find the specified secret."}
    ]
    pages = paged(secrets.batch_get_secret_value, Filters=[{"Key": "name", "Values": [prefix]}], MaxResults=2)
    assert [value["SecretString"] for page in pages for value in page["SecretValues"]] == names
    with fails_with(INVALID, "but not both"):
        secrets.batch_get_secret_value()
    with fails_with(INVALID, "but not both"):
        secrets.batch_get_secret_value(SecretIdList=[prefix], Filters=[])


# --- random passwords ------------------------------------------------------------------------------------------------


def test_random_passwords_are_of_what_is_asked_for(secrets: Any) -> None:
    def password(**asked: Any) -> str:
        made: str = secrets.get_random_password(**asked)["RandomPassword"]
        return made

    assert len(password()) == 32
    assert password(PasswordLength=4096) != password(PasswordLength=4096)
    every = password(PasswordLength=4)
    assert all(re.search(kind, every) for kind in (r"[a-z]", r"[A-Z]", r"[0-9]", r"[^A-Za-z0-9 ]"))
    assert re.fullmatch(
        r"[02-9]{100}",
        password(
            PasswordLength=100,
            ExcludeUppercase=True,
            ExcludeLowercase=True,
            ExcludePunctuation=True,
            ExcludeCharacters="1",
        ),
    )
    assert " " in password(PasswordLength=5, IncludeSpace=True)
    with fails_with(INVALID, "too short"):
        password(PasswordLength=3)
    assert len(password(PasswordLength=3, RequireEachIncludedType=False)) == 3
    with fails_with(INVALID, "every character is excluded"):
        password(ExcludeUppercase=True, ExcludeLowercase=True, ExcludePunctuation=True, ExcludeNumbers=True)


# --- who may ---------------------------------------------------------------------------------------------------------


def policy(effect: str, principal: str, *actions: str) -> str:
    statement = {
        "Effect": effect,
        "Principal": {"AWS": principal},
        "Action": actions or "secretsmanager:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


GUEST_ARN = f"arn:aws:iam::{ACCOUNT_ID}:user/guest"


def test_nothing_is_for_who_has_no_right_to_it(guest: Any, arn: str) -> None:
    """Each operation of the model, by an identity that may pull images only."""
    service = service_model("secretsmanager")
    given: Mapping[str, Any] = {
        "SecretId": arn,
        "Name": unique("secret"),
        "SecretString": "x",
        "VersionStage": "x",
        "MoveToVersionId": token(),
        "ResourcePolicy": policy("Allow", GUEST_ARN),
        "Tags": [],
        "TagKeys": ["a"],
        "AddReplicaRegions": [{"Region": "eu-west-1"}],
        "RemoveReplicaRegions": ["eu-west-1"],
        "SecretIdList": [arn],
        "CrossAccountReplicaARN": arn,
    }
    for operation in sorted(service.operation_names):
        members = service.operation(operation).input.members
        method = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        asked = {key: value for key, value in given.items() if key in members and key != "AddReplicaRegions"}
        if operation == "ReplicateSecretToRegions":
            asked["AddReplicaRegions"] = given["AddReplicaRegions"]
        with fails_with("AccessDeniedException", f"is not authorized to perform: secretsmanager:{operation}"):
            getattr(guest, method)(**asked)


def test_who_may_not_use_a_secret_does_not_learn_whether_it_exists(guest: Any, arn: str) -> None:
    for secret_id in (arn, unique("missing")):
        with fails_with("AccessDeniedException"):
            guest.describe_secret(SecretId=secret_id)
        with fails_with("AccessDeniedException"):
            guest.delete_secret(SecretId=secret_id, ForceDeleteWithoutRecovery=True)


def test_a_secrets_policy_is_obeyed_by_every_worker_at_once(secrets: Any, guest: Any, arn: str) -> None:
    secrets.put_resource_policy(
        SecretId=arn, ResourcePolicy=policy("Allow", GUEST_ARN, "secretsmanager:GetSecretValue")
    )
    for _ in range(TRIES):
        assert guest.get_secret_value(SecretId=arn)["SecretString"] == "one"
    with fails_with("AccessDeniedException"):
        guest.put_secret_value(SecretId=arn, SecretString="two")
    secrets.put_resource_policy(SecretId=arn, ResourcePolicy=policy("Deny", "*"))
    with fails_with("AccessDeniedException", "explicit deny in a resource-based policy"):
        secrets.get_secret_value(SecretId=arn)
    secrets.delete_resource_policy(SecretId=arn)
    assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "one"
    with fails_with("AccessDeniedException"):
        guest.get_secret_value(SecretId=arn)


def test_policies_are_kept_and_checked(secrets: Any, arn: str) -> None:
    assert "ResourcePolicy" not in secrets.get_resource_policy(SecretId=arn)
    assert secrets.list_resource_policies(SecretId=arn)["ResourcePolicies"] == []
    for wrong in ("{}", "no json", policy("Allow", "*", "ecr:PutImage"), '{"Statement": []'):
        for call in (secrets.put_resource_policy, secrets.validate_resource_policy):
            with fails_with("MalformedPolicyDocumentException"):
                call(SecretId=arn, ResourcePolicy=wrong)
    public = policy("Allow", "*")
    with fails_with("PublicPolicyException"):
        secrets.put_resource_policy(SecretId=arn, ResourcePolicy=public, BlockPublicPolicy=True)
    assert secrets.validate_resource_policy(ResourcePolicy=public)["PolicyValidationPassed"] is False
    secrets.put_resource_policy(SecretId=arn, ResourcePolicy=public)
    assert secrets.get_resource_policy(SecretId=arn)["ResourcePolicy"] == public
    assert secrets.list_resource_policies(SecretId=arn)["ResourcePolicies"] == [{"PolicyName": "default"}]
    with fails_with(INVALID, "default"):
        secrets.put_resource_policy(SecretId=arn, ResourcePolicy=public, PolicyName="other")
    with fails_with(NOT_FOUND):
        secrets.get_resource_policy(SecretId=arn, PolicyName="other")


# --- several workers -------------------------------------------------------------------------------------------------


def test_a_change_is_seen_by_every_worker_at_once(engine: Engine, name: str) -> None:
    def client() -> Any:
        return Account(engine.url).client("secretsmanager")

    client().create_secret(Name=name, SecretString="0")
    for number in range(TRIES):
        assert client().get_secret_value(SecretId=name)["SecretString"] == str(number)
        client().put_secret_value(SecretId=name, SecretString=str(number + 1))
    client().delete_secret(SecretId=name)
    for _ in range(TRIES):
        with fails_with(REQUEST, MARKED):
            client().get_secret_value(SecretId=name)


# --- the encryption key ----------------------------------------------------------------------------------------------


VALUES = ("the-first-value-of-a-secret", "the-second-value-of-a-secret", "the-bytes-of-a-secret")


def test_values_are_nowhere_to_be_found(tmp_path: Path, workers: int) -> None:
    engine = Engine(tmp_path / "engine", configuration(tmp_path, workers))
    said: list[str] = []
    try:
        engine.start()
        secrets = Account(engine.url).client("secretsmanager", validate=False)
        name, used = "hidden", token()
        secrets.create_secret(Name=name, SecretString=VALUES[0], ClientRequestToken=used)
        secrets.put_secret_value(SecretId=name, SecretString=VALUES[1])
        secrets.update_secret(SecretId=name, SecretBinary=VALUES[2].encode())
        wrong: tuple[dict[str, Any], ...] = (
            {"SecretString": VALUES[1], "ClientRequestToken": used},
            {"SecretString": VALUES[0] * 4000},
            {"SecretString": VALUES[0], "SecretBinary": VALUES[2].encode()},
            {"SecretString": VALUES[0], "ClientRequestToken": "short"},
            {"SecretString": [VALUES[0]]},
            {"SecretString": VALUES[0], "ClientRequestToken": [VALUES[1]]},
            {"SecretBinary": VALUES[2].encode() * 4000},
        )
        for given in wrong:
            for call in (secrets.put_secret_value, secrets.update_secret):
                try:
                    call(**{"SecretId": name} | given)
                except secrets.exceptions.ClientError as error:
                    said.append(str(error.response))
        with fails_with("ResourceExistsException"):
            secrets.create_secret(Name=name, SecretString=VALUES[1], ClientRequestToken=token())
        said += [str(answer(secrets.describe_secret(SecretId=name))), str(answer(secrets.list_secrets()))]
        said += [engine.metrics(), engine.command("keys", "list"), engine.command("events", "--json")]
        made = json.loads(engine.command("keys", "create", "bob", "--json"))["secret_access_key"]
        # While the write-ahead log is there, and after it is gone.
        found = contents(engine.folder)
    finally:
        engine.end()
    found |= contents(engine.folder)
    assert any(path.name.endswith("-wal") for path in found)
    hidden = [value.encode() for value in (*VALUES, made)]
    assert [path for path, content in found.items() if any(value in content for value in hidden)] == []
    assert len(said) > 10
    assert not any(value.decode() in text for value in hidden for text in said)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_its_key_the_engine_serves_and_secrets_say_why(
    tmp_path: Path, workers: int, upstream: ScriptedUpstream
) -> None:
    image = make_image("app")
    upstream.add("team/app", image, "1")
    more = f'[rules.quay]\nupstream = "quay.io"\n[upstreams."quay.io"]\nendpoint = "{upstream.url}"\n'
    engine = Engine(tmp_path / "engine", configuration(tmp_path, workers, more))
    try:
        engine.start()
        secrets = Account(engine.url).client("secretsmanager")
        secrets.create_secret(Name="db", SecretString="one")
        assert engine.get("/v2/quay/team/app/manifests/1").status == 200
        engine.stop()
        key = engine.folder / "data.key"
        assert key.stat().st_mode & 0o777 == 0o600
        away = key.rename(tmp_path / "away")
        engine.start()
        assert engine.get("/v2/quay/team/app/manifests/1").status == 200
        with fails_with("DecryptionFailure", "is missing", str(key)):
            secrets.get_secret_value(SecretId="db")
        for call in (secrets.put_secret_value, secrets.update_secret):
            with fails_with("EncryptionFailure", "is missing"):
                call(SecretId="db", SecretString="two")
        with fails_with("EncryptionFailure", "is missing"):
            secrets.create_secret(Name="other", SecretString="two")
        assert secrets.describe_secret(SecretId="db")["Name"] == "db"
        assert not key.exists()
        wait_for(lambda: "API keys that were made here cannot be used" in engine.log.read_text(), "the log to say so")
        secrets.create_secret(Name="empty")
        away.rename(key)
        assert {secrets.get_secret_value(SecretId="db")["SecretString"] for _ in range(TRIES)} == {"one"}
    finally:
        engine.end()


def test_the_encryption_key_is_rotated_under_a_running_engine_and_without_one(tmp_path: Path, workers: int) -> None:
    engine = Engine(tmp_path / "engine", configuration(tmp_path, workers))
    key = engine.folder / "data.key"
    seen = set()
    try:
        engine.start()
        secrets = Account(engine.url).client("secretsmanager")
        secrets.create_secret(Name="db", SecretString="one")
        made = json.loads(engine.command("keys", "create", "bob", "--role", "admin", "--json"))
        bob = Account(engine.url, made["access_key_id"], made["secret_access_key"])
        for running in (True, True, False):
            seen.add(key.read_text())
            if not running:
                engine.stop()
            assert json.loads(engine.command("keys", "rotate", "--json")) == {"values": 2, "key": str(key)}
            assert len(key.read_text().split()) == 1
            if not running:
                engine.start()
            for _ in range(TRIES):
                assert bob.client("secretsmanager").get_secret_value(SecretId="db")["SecretString"] == "one"
        assert key.read_text() not in seen
        assert len(seen) == 3
        assert "2 values" in engine.command("keys", "rotate")
    finally:
        engine.end()


# --- credentials of rules --------------------------------------------------------------------------------------------


def test_pulls_use_the_secret_as_it_is_now(tmp_path: Path, workers: int) -> None:
    with ScriptedUpstream(authentication="bearer", users={"old": "token-of-old", "new": "token-of-new"}) as closed:
        for number in range(4):
            closed.add(f"team/app{number}", make_image(f"app{number}"), "1")
        more = f'[upstreams."registry-1.docker.io"]\nendpoint = "{closed.url}"\nretries = 0\n'
        engine = Engine(tmp_path / "engine", configuration(tmp_path, workers, more))

        def pull(name: str) -> set[str]:
            """As whom the upstream was asked for manifests of this pull."""
            closed.requests.clear()
            assert engine.get(f"/v2/hub/{name}/manifests/1").status == 200
            return {record.user for record in closed.requests.select(kind=RequestKind.MANIFEST)}

        try:
            engine.start()
            account = Account(engine.url)
            secrets, ecr = account.client("secretsmanager"), account.client("ecr")
            text = '{"username": "old", "accessToken": "token-of-old"}'
            arn = secrets.create_secret(Name="ecr-pullthroughcache/hub", SecretString=text)["ARN"]
            ecr.create_pull_through_cache_rule(
                ecrRepositoryPrefix="hub", upstreamRegistryUrl="registry-1.docker.io", credentialArn=arn
            )
            assert "old" in pull("team/app0")
            secrets.put_secret_value(SecretId=arn, SecretString=text.replace("old", "new"))
            for _ in range(TRIES):
                assert "old" not in pull("team/app0")
            assert "old" not in (asked := pull("team/app1"))
            assert "new" in asked
            secrets.put_secret_value(SecretId=arn, SecretString='{"username": "new", "token": "token-of-new"}')
            assert pull("team/app2") <= {""}
            secrets.delete_secret(SecretId=arn)
            assert pull("team/app3") <= {""}
            assert pull("team/app0") <= {""}
            log = engine.log.read_text()
            assert "not a JSON object with `username` and `accessToken`" in log
            assert "token-of" not in log
        finally:
            engine.end()
