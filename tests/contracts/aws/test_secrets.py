"""Secrets Manager, as far as keepers of registry credentials use it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, REGION, answer, fails_with, unique

VALUE = json.dumps({"username": "u", "accessToken": "t"})
NOT_FOUND = "Secrets Manager can't find the specified secret."


@pytest.fixture
def name() -> str:
    return unique("ecr-pullthroughcache/hub")


@pytest.fixture
def secret(secrets: Any, name: str) -> dict[str, Any]:
    """A secret that is there: its ARN, name and version."""
    return answer(secrets.create_secret(Name=name, SecretString=VALUE))


def test_arn_ends_in_six_characters_of_its_own(secret: dict[str, Any], name: str) -> None:
    prefix = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT_ID}:secret:{name}-"
    assert re.fullmatch(re.escape(prefix) + "[a-zA-Z0-9]{6}", secret["ARN"])
    assert secret["Name"] == name
    assert secret["VersionId"]


def test_secret_is_got_by_name_and_by_arn(secrets: Any, secret: dict[str, Any]) -> None:
    for identifier in (secret["Name"], secret["ARN"]):
        got = answer(secrets.get_secret_value(SecretId=identifier))
        assert isinstance(got.pop("CreatedDate"), datetime.datetime)
        assert got == secret | {"SecretString": VALUE, "VersionStages": ["AWSCURRENT"]}


def test_binary_secret_is_bytes(secrets: Any, name: str) -> None:
    secrets.create_secret(Name=name, SecretBinary=b"\0\xff")
    got = secrets.get_secret_value(SecretId=name)
    assert got["SecretBinary"] == b"\0\xff"
    assert "SecretString" not in got


def test_second_secret_of_a_name_is_refused(secrets: Any, secret: dict[str, Any]) -> None:
    with fails_with("ResourceExistsException", "already exists"):
        secrets.create_secret(Name=secret["Name"], SecretString="other")


def test_creating_twice_with_one_token_is_one_secret(secrets: Any, name: str) -> None:
    token = unique("a-token-of-at-least-32-characters-")
    first = answer(secrets.create_secret(Name=name, SecretString=VALUE, ClientRequestToken=token))
    assert first["VersionId"] == token
    assert secrets.get_secret_value(SecretId=name)["VersionId"] == token


def test_repeated_creation_is_answered_like_the_first(secrets: Any, name: str) -> None:
    token = unique("a-token-of-at-least-32-characters-")
    first = answer(secrets.create_secret(Name=name, SecretString=VALUE, ClientRequestToken=token))
    assert answer(secrets.create_secret(Name=name, SecretString=VALUE, ClientRequestToken=token)) == first


def test_unknown_secret_is_not_found(secrets: Any, name: str) -> None:
    calls: tuple[Callable[[], object], ...] = (
        lambda: secrets.get_secret_value(SecretId=name),
        lambda: secrets.describe_secret(SecretId=name),
        lambda: secrets.put_secret_value(SecretId=name, SecretString="x"),
        lambda: secrets.update_secret(SecretId=name, SecretString="x"),
        lambda: secrets.delete_secret(SecretId=name),
        lambda: secrets.restore_secret(SecretId=name),
        lambda: secrets.tag_resource(SecretId=name, Tags=[]),
        lambda: secrets.untag_resource(SecretId=name, TagKeys=["a"]),
        lambda: secrets.get_resource_policy(SecretId=name),
    )
    for call in calls:
        with fails_with("ResourceNotFoundException", NOT_FOUND):
            call()


@pytest.mark.moto_trap("versions-of-an-unknown-secret")
def test_unknown_secret_has_no_versions(secrets: Any, name: str) -> None:
    with fails_with("ResourceNotFoundException", NOT_FOUND):
        secrets.list_secret_version_ids(SecretId=name)


@pytest.mark.moto_trap("secret-not-found-status")
def test_unknown_secret_has_status_400(secrets: Any, name: str) -> None:
    with pytest.raises(secrets.exceptions.ResourceNotFoundException) as caught:
        secrets.describe_secret(SecretId=name)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_secret_is_described(secrets: Any, name: str) -> None:
    made = secrets.create_secret(
        Name=name, SecretString=VALUE, Description="for the hub", Tags=[{"Key": "team", "Value": "a"}]
    )
    found = answer(secrets.describe_secret(SecretId=name))
    assert found["ARN"] == made["ARN"]
    assert found["Name"] == name
    assert found["Description"] == "for the hub"
    assert found["Tags"] == [{"Key": "team", "Value": "a"}]
    assert found["VersionIdsToStages"] == {made["VersionId"]: ["AWSCURRENT"]}
    assert isinstance(found["CreatedDate"], datetime.datetime)
    assert "DeletedDate" not in found
    assert "SecretString" not in found


def test_secret_may_have_no_value_yet(secrets: Any, name: str) -> None:
    made = answer(secrets.create_secret(Name=name))
    assert "VersionId" not in made
    with fails_with("ResourceNotFoundException", "AWSCURRENT"):
        secrets.get_secret_value(SecretId=name)
    secrets.put_secret_value(SecretId=name, SecretString=VALUE)
    assert secrets.get_secret_value(SecretId=name)["SecretString"] == VALUE


def test_new_value_becomes_current_and_the_old_one_previous(secrets: Any, secret: dict[str, Any]) -> None:
    put = answer(secrets.put_secret_value(SecretId=secret["Name"], SecretString="second"))
    assert put["VersionStages"] == ["AWSCURRENT"]
    current = secrets.get_secret_value(SecretId=secret["Name"])
    assert (current["SecretString"], current["VersionId"]) == ("second", put["VersionId"])
    previous = secrets.get_secret_value(SecretId=secret["Name"], VersionStage="AWSPREVIOUS")
    assert (previous["SecretString"], previous["VersionId"]) == (VALUE, secret["VersionId"])
    by_id = secrets.get_secret_value(SecretId=secret["Name"], VersionId=secret["VersionId"])
    assert by_id["SecretString"] == VALUE


def test_value_may_wait_under_a_stage_of_its_own(secrets: Any, secret: dict[str, Any]) -> None:
    secrets.put_secret_value(SecretId=secret["Name"], SecretString="next", VersionStages=["AWSPENDING"])
    assert secrets.get_secret_value(SecretId=secret["Name"])["SecretString"] == VALUE
    assert secrets.get_secret_value(SecretId=secret["Name"], VersionStage="AWSPENDING")["SecretString"] == "next"


@pytest.mark.moto_trap("stage-move")
def test_stage_is_moved_to_another_version(secrets: Any, secret: dict[str, Any]) -> None:
    put = secrets.put_secret_value(SecretId=secret["Name"], SecretString="next", VersionStages=["AWSPENDING"])
    secrets.update_secret_version_stage(
        SecretId=secret["Name"],
        VersionStage="AWSCURRENT",
        MoveToVersionId=put["VersionId"],
        RemoveFromVersionId=secret["VersionId"],
    )
    assert secrets.get_secret_value(SecretId=secret["Name"])["SecretString"] == "next"
    stages = secrets.describe_secret(SecretId=secret["Name"])["VersionIdsToStages"]
    assert "AWSPREVIOUS" in stages[secret["VersionId"]]


def test_put_with_one_token_and_value_is_one_version(secrets: Any, secret: dict[str, Any]) -> None:
    token = unique("a-token-of-at-least-32-characters-")
    for _ in range(2):
        put = secrets.put_secret_value(SecretId=secret["Name"], SecretString="second", ClientRequestToken=token)
        assert put["VersionId"] == token
    with fails_with("ResourceExistsException"):
        secrets.put_secret_value(SecretId=secret["Name"], SecretString="third", ClientRequestToken=token)


def test_versions_are_listed(secrets: Any, secret: dict[str, Any]) -> None:
    second = secrets.put_secret_value(SecretId=secret["Name"], SecretString="second")["VersionId"]
    listed = answer(secrets.list_secret_version_ids(SecretId=secret["Name"]))
    assert listed["Name"] == secret["Name"]
    assert {one["VersionId"]: one["VersionStages"] for one in listed["Versions"]} == {
        secret["VersionId"]: ["AWSPREVIOUS"],
        second: ["AWSCURRENT"],
    }


@pytest.mark.moto_trap("arn-of-versions")
def test_list_of_versions_has_the_arn(secrets: Any, secret: dict[str, Any]) -> None:
    assert secrets.list_secret_version_ids(SecretId=secret["Name"])["ARN"] == secret["ARN"]


def test_update_changes_value_and_description(secrets: Any, secret: dict[str, Any]) -> None:
    updated = answer(secrets.update_secret(SecretId=secret["Name"], SecretString="second", Description="new"))
    assert (updated["ARN"], updated["Name"]) == (secret["ARN"], secret["Name"])
    assert updated["VersionId"] != secret["VersionId"]
    assert secrets.get_secret_value(SecretId=secret["Name"])["SecretString"] == "second"
    assert secrets.describe_secret(SecretId=secret["Name"])["Description"] == "new"


def test_description_alone_makes_no_version(secrets: Any, secret: dict[str, Any]) -> None:
    updated = answer(secrets.update_secret(SecretId=secret["Name"], Description="new"))
    assert "VersionId" not in updated
    assert secrets.get_secret_value(SecretId=secret["Name"])["VersionId"] == secret["VersionId"]


def test_deleted_secret_waits_and_can_be_restored(secrets: Any, secret: dict[str, Any]) -> None:
    deleted = answer(secrets.delete_secret(SecretId=secret["Name"], RecoveryWindowInDays=7))
    assert (deleted["ARN"], deleted["Name"]) == (secret["ARN"], secret["Name"])
    left = deleted["DeletionDate"] - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=6) < left < datetime.timedelta(days=8)
    assert secrets.describe_secret(SecretId=secret["Name"])["DeletedDate"]
    with fails_with("InvalidRequestException"):
        secrets.get_secret_value(SecretId=secret["Name"])
    secrets.restore_secret(SecretId=secret["Name"])
    assert secrets.get_secret_value(SecretId=secret["Name"])["SecretString"] == VALUE
    assert "DeletedDate" not in secrets.describe_secret(SecretId=secret["Name"])


@pytest.mark.moto_trap("deleted-secret-words")
def test_deleted_secret_says_what_terraform_looks_for(secrets: Any, secret: dict[str, Any]) -> None:
    secrets.delete_secret(SecretId=secret["Name"])
    with fails_with("InvalidRequestException", "scheduled for deletion"):
        secrets.create_secret(Name=secret["Name"], SecretString="x")
    with fails_with("InvalidRequestException", "marked for deletion"):
        secrets.get_secret_value(SecretId=secret["Name"])


def test_forced_deletion_frees_the_name_at_once(secrets: Any, secret: dict[str, Any]) -> None:
    secrets.delete_secret(SecretId=secret["Name"], ForceDeleteWithoutRecovery=True)
    with fails_with("ResourceNotFoundException", NOT_FOUND):
        secrets.describe_secret(SecretId=secret["Name"])
    again = secrets.create_secret(Name=secret["Name"], SecretString="again")
    assert again["ARN"] != secret["ARN"]


@pytest.mark.parametrize(
    "wrong",
    [{"RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": True}, {"RecoveryWindowInDays": 6}],
    ids=["window and force", "window too short"],
)
def test_bad_recovery_window_is_refused(secrets: Any, secret: dict[str, Any], wrong: dict[str, Any]) -> None:
    with fails_with("InvalidParameterException"):
        secrets.delete_secret(SecretId=secret["Name"], **wrong)


def test_secrets_are_listed_and_filtered(secrets: Any, secret: dict[str, Any]) -> None:
    pages = secrets.get_paginator("list_secrets").paginate(Filters=[{"Key": "name", "Values": [secret["Name"]]}])
    (found,) = [one for page in pages for one in page["SecretList"]]
    assert (found["Name"], found["ARN"]) == (secret["Name"], secret["ARN"])
    assert "SecretString" not in found


def test_secrets_come_in_pages(secrets: Any) -> None:
    prefix = unique("paged")
    names = [f"{prefix}/{number}" for number in range(3)]
    for name in names:
        secrets.create_secret(Name=name, SecretString=VALUE)
    pages = list(
        secrets.get_paginator("list_secrets").paginate(
            Filters=[{"Key": "name", "Values": [prefix]}], PaginationConfig={"PageSize": 2}
        )
    )
    assert [len(page["SecretList"]) for page in pages] == [2, 1]
    assert sorted(one["Name"] for page in pages for one in page["SecretList"]) == names


def test_deleted_secrets_are_listed_only_when_asked_for(secrets: Any, secret: dict[str, Any]) -> None:
    secrets.delete_secret(SecretId=secret["Name"])
    filters = [{"Key": "name", "Values": [secret["Name"]]}]
    assert secrets.list_secrets(Filters=filters)["SecretList"] == []
    (found,) = secrets.list_secrets(Filters=filters, IncludePlannedDeletion=True)["SecretList"]
    assert found["DeletedDate"]


def test_many_values_are_got_at_once(secrets: Any, secret: dict[str, Any]) -> None:
    got = secrets.batch_get_secret_value(SecretIdList=[secret["Name"]])
    (value,) = got["SecretValues"]
    assert (value["Name"], value["SecretString"]) == (secret["Name"], VALUE)


def test_tags_are_added_replaced_and_removed(secrets: Any, secret: dict[str, Any]) -> None:
    identifier = secret["Name"]
    secrets.tag_resource(SecretId=identifier, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    secrets.tag_resource(SecretId=identifier, Tags=[{"Key": "b", "Value": "3"}])
    assert _tags(secrets, identifier) == {"a": "1", "b": "3"}
    secrets.untag_resource(SecretId=identifier, TagKeys=["a"])
    assert _tags(secrets, identifier) == {"b": "3"}


def test_resource_policy_is_put_got_and_deleted(secrets: Any, secret: dict[str, Any]) -> None:
    identifier = secret["Name"]
    assert not secrets.get_resource_policy(SecretId=identifier).get("ResourcePolicy")
    text = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"},
                    "Action": "secretsmanager:GetSecretValue",
                    "Resource": "*",
                }
            ],
        }
    )
    put = answer(secrets.put_resource_policy(SecretId=identifier, ResourcePolicy=text))
    assert (put["ARN"], put["Name"]) == (secret["ARN"], secret["Name"])
    assert json.loads(secrets.get_resource_policy(SecretId=identifier)["ResourcePolicy"]) == json.loads(text)
    secrets.delete_resource_policy(SecretId=identifier)
    assert not secrets.get_resource_policy(SecretId=identifier).get("ResourcePolicy")


def test_random_password_is_as_long_as_asked(secrets: Any) -> None:
    assert len(secrets.get_random_password(PasswordLength=40)["RandomPassword"]) == 40


def _tags(secrets: Any, identifier: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in secrets.describe_secret(SecretId=identifier).get("Tags", [])}
