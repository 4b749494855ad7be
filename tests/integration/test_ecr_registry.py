"""What is set for the registry as a whole: policy, account settings, scanning, replication, signing, exclusions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, REGION, answer, fails_with, small_image, unique
from tests.aws import push as push_image
from tests.integration.ecr import TRIES, Site

INVALID = "InvalidParameterException"
NO_IMAGE = {"imageDigest": "sha256:" + "0" * 64}
PROFILE = f"arn:aws:signer:{REGION}:{ACCOUNT_ID}:/signing-profiles/releases"
USER = f"arn:aws:iam::{ACCOUNT_ID}:user/scanner"


@pytest.fixture
def image(ecr: Any) -> tuple[str, dict[str, str]]:
    """A repository with one image: its name, and the image's id."""
    name = unique("app")
    pushed = small_image(name)
    ecr.create_repository(repositoryName=name)
    push_image(ecr, name, pushed, "v1")
    return name, {"imageDigest": pushed.digest, "imageTag": "v1"}


def policy(*actions: str, effect: str = "Allow", **more: object) -> str:
    statement = {"Sid": "one", "Effect": effect, "Principal": "*", "Action": list(actions), "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# The registry policy


@pytest.fixture
def registry(ecr: Any) -> Iterator[Any]:
    """Without policy and settings, before the test and after."""
    yield ecr
    ecr.put_account_setting(name="REGISTRY_POLICY_SCOPE", value="V2")
    try:
        ecr.delete_registry_policy()
    except ecr.exceptions.RegistryPolicyNotFoundException:
        pass  # the test put none, or deleted it


def test_terraforms_life_of_a_registry_policy(registry: Any) -> None:
    sentence = f"Registry policy does not exist in the registry with id '{ACCOUNT_ID}'"
    for call in (registry.get_registry_policy, registry.delete_registry_policy):
        with fails_with("RegistryPolicyNotFoundException", sentence):
            call()
    for text in (policy("ecr:BatchImportUpstreamImage"), policy("ecr:*")):
        put = answer(registry.put_registry_policy(policyText=text))
        assert put == {"registryId": ACCOUNT_ID, "policyText": text}
        assert answer(registry.get_registry_policy()) == put
    assert answer(registry.delete_registry_policy()) == put
    with fails_with("RegistryPolicyNotFoundException"):
        registry.get_registry_policy()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"Statement": [{"Effect": "Allow"}]}', policy("s3:GetObject")])
def test_what_is_no_registry_policy_is_refused_in_the_words_of_aws(registry: Any, text: str) -> None:
    with fails_with(
        INVALID, "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid registry policy provided'"
    ):
        registry.put_registry_policy(policyText=text)


def test_the_first_scope_knows_three_actions_and_the_second_all(registry: Any) -> None:
    registry.put_account_setting(name="REGISTRY_POLICY_SCOPE", value="V1")
    for text in (policy("ecr:BatchGetImage"), policy("ecr:CreateRepository", "ecr:*"), policy("*")):
        with fails_with(INVALID, "Invalid registry policy provided", "V1"):
            registry.put_registry_policy(policyText=text)
    registry.put_registry_policy(
        policyText=policy("ecr:ReplicateImage", "ecr:BatchImportUpstreamImage", "ecr:CreateRepository")
    )
    registry.put_account_setting(name="REGISTRY_POLICY_SCOPE", value="V2")
    registry.put_registry_policy(policyText=policy("ecr:BatchGetImage"))


def test_a_denying_policy_counts_at_once_in_every_worker(site: Site, registry: Any) -> None:
    name = unique("team") + "/app"
    site.add(name)
    assert site.pulls(f"quay/{name}") == {200}
    registry.put_registry_policy(policyText=policy("ecr:BatchGetImage", effect="Deny"))
    assert site.pulls(f"quay/{name}") == {403}
    registry.delete_registry_policy()
    assert site.pulls(f"quay/{name}") == {200}


# Account settings


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE", "CLAIR"),
        ("REGISTRY_POLICY_SCOPE", "V2", "V1"),
        ("BLOB_MOUNTING", "ENABLED", "DISABLED"),
    ],
)
def test_terraforms_life_of_an_account_setting(site: Site, ecr: Any, name: str, default: str, other: str) -> None:
    assert answer(ecr.get_account_setting(name=name)) == {"name": name, "value": default}
    assert answer(ecr.put_account_setting(name=name, value=other)) == {"name": name, "value": other}
    seen = {site.client().get_account_setting(name=name)["value"] for _ in range(TRIES)}
    assert seen == {other}
    with fails_with(INVALID, "value", default):
        ecr.put_account_setting(name=name, value="SOMETHING")
    ecr.put_account_setting(name=name, value=default)
    assert ecr.get_account_setting(name=name)["value"] == default


def test_an_unknown_account_setting_is_refused(ecr: Any) -> None:
    with fails_with(INVALID, "name", "BLOB_MOUNTING"):
        ecr.get_account_setting(name="SOMETHING")
    with fails_with(INVALID, "name"):
        ecr.put_account_setting(name="SOMETHING", value="V1")


# Replication


def replication(*destinations: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"rules": [{"destinations": list(destinations), **more}]}


ELSEWHERE = {"region": "eu-west-1", "registryId": ACCOUNT_ID}


def test_terraforms_life_of_a_replication_configuration(ecr: Any) -> None:
    empty = {"registryId": ACCOUNT_ID, "replicationConfiguration": {"rules": []}}
    assert answer(ecr.describe_registry()) == empty
    filters = [{"filter": "prod/", "filterType": "PREFIX_MATCH"}]
    for configuration in (replication(ELSEWHERE), replication(ELSEWHERE, repositoryFilters=filters)):
        put = answer(ecr.put_replication_configuration(replicationConfiguration=configuration))
        assert put == {"replicationConfiguration": configuration}
        assert answer(ecr.describe_registry()) == {"registryId": ACCOUNT_ID, **put}
    ecr.put_replication_configuration(replicationConfiguration={"rules": []})
    assert answer(ecr.describe_registry()) == empty


@pytest.mark.parametrize(
    "wrong",
    [
        replication({"region": REGION, "registryId": ACCOUNT_ID}),
        {"rules": replication(ELSEWHERE)["rules"] * 11},
        replication(*({"region": f"r{number}", "registryId": ACCOUNT_ID} for number in range(26))),
    ],
)
def test_a_replication_that_aws_does_not_take_is_refused(ecr: Any, wrong: dict[str, Any]) -> None:
    with fails_with(INVALID, "replicationConfiguration"):
        ecr.put_replication_configuration(replicationConfiguration=wrong)


def test_there_are_no_backfills(ecr: Any) -> None:
    with fails_with(INVALID, "StartReplicationBackfill", "replicates nothing"):
        ecr.start_replication_backfill(destination=ELSEWHERE)
    assert ecr.list_replication_backfills()["backfills"] == []
    absent = str(uuid.uuid4())
    for call in (ecr.describe_replication_backfill_results, ecr.stop_replication_backfill):
        with fails_with("ReplicationBackfillNotFoundException", absent):
            call(replicationBackfillId=absent)


def test_the_status_of_a_replica_says_that_there_is_none(ecr: Any, image: tuple[str, dict[str, str]]) -> None:
    name, image_id = image

    def statuses() -> list[dict[str, str]]:
        found = answer(ecr.describe_image_replication_status(repositoryName=name, imageId={"imageTag": "v1"}))
        assert (found["repositoryName"], found["imageId"]) == (name, image_id)
        listed: list[dict[str, str]] = found["replicationStatuses"]
        return listed

    assert statuses() == []
    filters = [{"filter": name[:5], "filterType": "PREFIX_MATCH"}]
    ecr.put_replication_configuration(replicationConfiguration=replication(ELSEWHERE, repositoryFilters=filters))
    assert statuses() == [ELSEWHERE | {"status": "FAILED", "failureCode": "ReplicationNotAvailable"}]
    filters[0]["filter"] = "another"
    ecr.put_replication_configuration(replicationConfiguration=replication(ELSEWHERE, repositoryFilters=filters))
    assert statuses() == []
    ecr.put_replication_configuration(replicationConfiguration={"rules": []})


# Signing


def signing(**more: Any) -> dict[str, Any]:
    return {"rules": [{"signingProfileArn": PROFILE, **more}]}


def test_terraforms_life_of_a_signing_configuration(ecr: Any) -> None:
    for call in (ecr.get_signing_configuration, ecr.delete_signing_configuration):
        with fails_with("SigningConfigurationNotFoundException"):
            call()
    filters = [{"filter": "prod/*", "filterType": "WILDCARD_MATCH"}]
    for configuration in (signing(), signing(repositoryFilters=filters)):
        put = answer(ecr.put_signing_configuration(signingConfiguration=configuration))
        assert put == {"signingConfiguration": configuration}
        assert answer(ecr.get_signing_configuration()) == {"registryId": ACCOUNT_ID, **put}
    assert answer(ecr.delete_signing_configuration()) == {"registryId": ACCOUNT_ID, **put}
    with fails_with("SigningConfigurationNotFoundException"):
        ecr.get_signing_configuration()


def test_the_status_of_a_signature_says_that_there_is_none(ecr: Any, image: tuple[str, dict[str, str]]) -> None:
    name, image_id = image

    def statuses() -> list[dict[str, str]]:
        found = answer(ecr.describe_image_signing_status(repositoryName=name, imageId=image_id))
        assert (found["repositoryName"], found["registryId"], found["imageId"]) == (name, ACCOUNT_ID, image_id)
        listed: list[dict[str, str]] = found["signingStatuses"]
        return listed

    assert statuses() == []
    ecr.put_signing_configuration(signingConfiguration=signing())
    (status,) = statuses()
    assert (status["signingProfileArn"], status["status"], status["failureCode"]) == (
        *(PROFILE, "FAILED"),
        "SigningNotAvailable",
    )
    assert "no signer" in status["failureReason"]
    filters = [{"filter": "another/*", "filterType": "WILDCARD_MATCH"}]
    ecr.put_signing_configuration(signingConfiguration=signing(repositoryFilters=filters))
    assert statuses() == []
    ecr.delete_signing_configuration()


# Scanning


def scan_rule(frequency: str = "SCAN_ON_PUSH", pattern: str = "*") -> dict[str, Any]:
    return {"scanFrequency": frequency, "repositoryFilters": [{"filter": pattern, "filterType": "WILDCARD"}]}


def test_terraforms_life_of_a_scanning_configuration(ecr: Any) -> None:
    default = {"scanType": "BASIC", "rules": []}
    assert answer(ecr.get_registry_scanning_configuration()) == {
        "registryId": ACCOUNT_ID,
        "scanningConfiguration": default,
    }
    for scan_type, rules in (
        ("BASIC", [scan_rule()]),
        ("ENHANCED", [scan_rule(pattern="prod*"), scan_rule("CONTINUOUS_SCAN", "dev")]),
    ):
        configuration = {"scanType": scan_type, "rules": rules}
        put = answer(ecr.put_registry_scanning_configuration(scanType=scan_type, rules=rules))
        assert put == {"registryScanningConfiguration": configuration}
        assert ecr.get_registry_scanning_configuration()["scanningConfiguration"] == configuration
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"] == default


def test_a_frequency_that_the_type_does_not_have_is_refused(ecr: Any) -> None:
    with fails_with(INVALID, "scanFrequency"):
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[scan_rule("CONTINUOUS_SCAN")])
    with fails_with(INVALID, "scanFrequency"):
        ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=[scan_rule("MANUAL")])


def test_what_is_scanned_of_a_repository_follows_from_both_configurations(ecr: Any) -> None:
    plain, pushed = unique("plain"), unique("pushed")
    ecr.create_repository(repositoryName=plain)
    ecr.create_repository(repositoryName=pushed, imageScanningConfiguration={"scanOnPush": True})

    def found() -> list[tuple[str, str, bool]]:
        answered = ecr.batch_get_repository_scanning_configuration(repositoryNames=[plain, "not-there", pushed])
        (failure,) = answered["failures"]
        assert (failure["repositoryName"], failure["failureCode"]) == ("not-there", "REPOSITORY_NOT_FOUND")
        return [
            (entry["repositoryName"], entry["scanFrequency"], entry["scanOnPush"])
            for entry in answered["scanningConfigurations"]
        ]

    assert found() == [(plain, "MANUAL", False), (pushed, "SCAN_ON_PUSH", True)]
    ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=[scan_rule("CONTINUOUS_SCAN", "plain*")])
    assert found() == [(plain, "CONTINUOUS_SCAN", True), (pushed, "SCAN_ON_PUSH", True)]
    continuous_first = [scan_rule("CONTINUOUS_SCAN", "plain*"), scan_rule("SCAN_ON_PUSH", "*")]
    ecr.put_registry_scanning_configuration(scanType="ENHANCED", rules=continuous_first)
    assert found() == [(plain, "CONTINUOUS_SCAN", True), (pushed, "SCAN_ON_PUSH", True)]
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("prod", {"prod", "repo-prod", "prod-repo", "repo-prod-repo", "prodrepo"}),
        ("*prod", {"prod", "repo-prod"}),
        ("prod*", {"prod", "prod-repo", "prodrepo"}),
        ("*prod*", {"prod", "repo-prod", "prod-repo", "repo-prod-repo", "prodrepo"}),
        ("prod*repo", {"prod-repo", "prodrepo"}),
    ],
)
def test_a_scanning_filter_fits_as_the_user_guides_table_says(ecr: Any, pattern: str, fits: set[str]) -> None:
    """https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-filters.html"""
    names = ["prod", "repo-prod", "prod-repo", "repo-prod-repo", "prodrepo"]
    for name in names:
        ecr.create_repository(repositoryName=name)
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[scan_rule(pattern=pattern)])
    try:
        found = ecr.batch_get_repository_scanning_configuration(repositoryNames=names)["scanningConfigurations"]
        assert {entry["repositoryName"] for entry in found if entry["scanOnPush"]} == fits
    finally:
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])
        for name in names:
            ecr.delete_repository(repositoryName=name)


def test_scans_and_findings_are_clearly_not_available(ecr: Any, image: tuple[str, dict[str, str]]) -> None:
    name, image_id = image
    with fails_with("ValidationException", "StartImageScan is not available", "no scanner"):
        ecr.start_image_scan(repositoryName=name, imageId=image_id)
    with fails_with("ScanNotFoundException", "Image scan does not exist for the image with", name, "no scanner"):
        ecr.describe_image_scan_findings(repositoryName=name, imageId=image_id)


def image_questions(ecr: Any) -> list[Callable[..., Any]]:
    return [
        ecr.start_image_scan,
        ecr.describe_image_scan_findings,
        ecr.describe_image_replication_status,
        ecr.describe_image_signing_status,
    ]


def test_questions_about_what_is_not_there_say_so(ecr: Any, image: tuple[str, dict[str, str]]) -> None:
    name, _ = image
    for ask in image_questions(ecr):
        with fails_with("RepositoryNotFoundException", "'not-there'"):
            ask(repositoryName="not-there", imageId=NO_IMAGE)
        with fails_with("ImageNotFoundException", NO_IMAGE["imageDigest"], "imageTag:'null'", name):
            ask(repositoryName=name, imageId=NO_IMAGE)
        with fails_with("ImageNotFoundException", "imageDigest:'null', imageTag:'v2'"):
            ask(repositoryName=name, imageId={"imageTag": "v2"})
        with fails_with(INVALID, "imageId"):
            ask(repositoryName=name, imageId={})
        with fails_with(INVALID):
            ask(repositoryName=name, imageId={"imageDigest": "sha256:nothing"})


# Pull-time exclusions


def test_terraforms_life_of_an_exclusion(ecr: Any) -> None:
    assert ecr.list_pull_time_update_exclusions()["pullTimeUpdateExclusions"] == []
    made = answer(ecr.register_pull_time_update_exclusion(principalArn=USER))
    assert isinstance(made.pop("createdAt"), datetime)
    assert made == {"principalArn": USER}
    with fails_with("ExclusionAlreadyExistsException"):
        ecr.register_pull_time_update_exclusion(principalArn=USER)
    assert ecr.list_pull_time_update_exclusions()["pullTimeUpdateExclusions"] == [USER]
    assert answer(ecr.deregister_pull_time_update_exclusion(principalArn=USER)) == {"principalArn": USER}
    with fails_with("ExclusionNotFoundException"):
        ecr.deregister_pull_time_update_exclusion(principalArn=USER)


def test_exclusions_come_in_pages_and_are_a_hundred_at_most(ecr: Any) -> None:
    arns = [f"{USER}-{number:03}" for number in range(100)]
    for arn in arns:
        ecr.register_pull_time_update_exclusion(principalArn=arn)
    with fails_with("LimitExceededException"):
        ecr.register_pull_time_update_exclusion(principalArn=USER)
    seen: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = ecr.list_pull_time_update_exclusions(maxResults=30, **more)
        seen += page["pullTimeUpdateExclusions"]
        if "nextToken" not in page:
            break
        more = {"nextToken": page["nextToken"]}
    assert seen == arns
    for arn in arns:
        ecr.deregister_pull_time_update_exclusion(principalArn=arn)


def test_what_is_no_principal_is_refused(site: Site) -> None:
    with fails_with(INVALID, "principalArn"):
        site.client(validate=False).register_pull_time_update_exclusion(principalArn="somebody")
