"""ECR repositories: made, found, changed, deleted."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, REGION, answer, fails_with, push, small_image, unique


def test_created_repository_is_described_as_it_was_created(ecr: Any) -> None:
    name = unique("team/app")
    created = ecr.create_repository(repositoryName=name)["repository"]
    assert created["repositoryName"] == name
    assert created["registryId"] == ACCOUNT_ID
    assert created["repositoryArn"] == f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{name}"
    assert created["repositoryUri"].endswith(f"/{name}")
    assert isinstance(created["createdAt"], datetime.datetime)
    assert created["imageTagMutability"] == "MUTABLE"
    assert created["imageScanningConfiguration"] == {"scanOnPush": False}
    assert created["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert ecr.describe_repositories(repositoryNames=[name])["repositories"] == [created]


def test_settings_given_at_creation_are_kept(ecr: Any) -> None:
    name = unique("own")
    created = ecr.create_repository(
        repositoryName=name,
        imageTagMutability="IMMUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
        tags=[{"Key": "team", "Value": "a"}],
    )["repository"]
    assert created["imageTagMutability"] == "IMMUTABLE"
    assert created["imageScanningConfiguration"] == {"scanOnPush": True}
    assert ecr.list_tags_for_resource(resourceArn=created["repositoryArn"])["tags"] == [{"Key": "team", "Value": "a"}]


def test_kms_key_is_recorded(ecr: Any) -> None:
    key = f"arn:aws:kms:{REGION}:{ACCOUNT_ID}:key/0d1f1b5e-5a0c-4f66-8f2e-1d0c1c7f3f2a"
    wanted = {"encryptionType": "KMS", "kmsKey": key}
    created = ecr.create_repository(repositoryName=unique("own"), encryptionConfiguration=wanted)["repository"]
    assert created["encryptionConfiguration"] == wanted


def test_second_repository_of_a_name_is_refused(ecr: Any, repository: str) -> None:
    said = f"The repository with name '{repository}' already exists in the registry with id '{ACCOUNT_ID}'"
    with fails_with("RepositoryAlreadyExistsException", said):
        ecr.create_repository(repositoryName=repository)


@pytest.mark.parametrize("name", ["Upper/case", "a//b", "/a", "a/", "-a", "a b"])
def test_bad_name_is_refused(ecr: Any, name: str) -> None:
    with fails_with("InvalidParameterException", "repositoryName"):
        ecr.create_repository(repositoryName=name)


def test_unknown_repository_is_not_found(ecr: Any) -> None:
    name = unique("absent")
    said = f"The repository with name '{name}' does not exist in the registry with id '{ACCOUNT_ID}'"
    calls: tuple[Callable[[], object], ...] = (
        lambda: ecr.describe_repositories(repositoryNames=[name]),
        lambda: ecr.delete_repository(repositoryName=name),
        lambda: ecr.list_images(repositoryName=name),
        lambda: ecr.describe_images(repositoryName=name),
        lambda: ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "1"}]),
        lambda: ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageTag": "1"}]),
        lambda: ecr.batch_check_layer_availability(repositoryName=name, layerDigests=["sha256:" + "0" * 64]),
        lambda: ecr.initiate_layer_upload(repositoryName=name),
        lambda: ecr.get_lifecycle_policy(repositoryName=name),
        lambda: ecr.get_repository_policy(repositoryName=name),
        lambda: ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE"),
        lambda: ecr.put_image_scanning_configuration(
            repositoryName=name, imageScanningConfiguration={"scanOnPush": True}
        ),
        lambda: ecr.list_tags_for_resource(resourceArn=f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{name}"),
    )
    for call in calls:
        with fails_with("RepositoryNotFoundException", said):
            call()


@pytest.mark.moto_trap("put-image-unknown-repository")
def test_image_for_an_unknown_repository_is_refused(ecr: Any) -> None:
    with fails_with("RepositoryNotFoundException"):
        ecr.put_image(repositoryName=unique("absent"), imageManifest=small_image().manifest.body.decode())


def test_deleted_repository_is_gone(ecr: Any, repository: str) -> None:
    deleted = ecr.delete_repository(repositoryName=repository)["repository"]
    assert deleted["repositoryName"] == repository
    with fails_with("RepositoryNotFoundException"):
        ecr.describe_repositories(repositoryNames=[repository])
    ecr.create_repository(repositoryName=repository)


def test_repository_with_images_is_deleted_only_by_force(ecr: Any, repository: str) -> None:
    push(ecr, repository, small_image(), "1")
    said = (
        f"The repository with name '{repository}' in registry with id '{ACCOUNT_ID}' "
        "cannot be deleted because it still contains images"
    )
    with fails_with("RepositoryNotEmptyException", said):
        ecr.delete_repository(repositoryName=repository)
    ecr.delete_repository(repositoryName=repository, force=True)
    with fails_with("RepositoryNotFoundException"):
        ecr.list_images(repositoryName=repository)


def test_all_repositories_are_listed(ecr: Any) -> None:
    names = {unique("listed") for _ in range(3)}
    for name in names:
        ecr.create_repository(repositoryName=name)
    pages = ecr.get_paginator("describe_repositories").paginate()
    assert names <= {found["repositoryName"] for page in pages for found in page["repositories"]}


@pytest.mark.moto_trap("paging")
def test_repositories_come_in_pages(ecr: Any) -> None:
    names = {unique("paged") for _ in range(3)}
    for name in names:
        ecr.create_repository(repositoryName=name)
    pages = list(ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2}))
    assert all(len(page["repositories"]) <= 2 for page in pages)
    found = [one["repositoryName"] for page in pages for one in page["repositories"]]
    assert len(found) == len(set(found))
    assert names <= set(found)


def test_names_and_the_registry_id_choose(ecr: Any, repository: str) -> None:
    other = unique("own")
    ecr.create_repository(repositoryName=other)
    found = ecr.describe_repositories(repositoryNames=[repository, other], registryId=ACCOUNT_ID)["repositories"]
    assert {one["repositoryName"] for one in found} == {repository, other}


def test_tag_mutability_is_changed(ecr: Any, repository: str) -> None:
    changed = answer(ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE"))
    assert changed["imageTagMutability"] == "IMMUTABLE"
    assert (changed["registryId"], changed["repositoryName"]) == (ACCOUNT_ID, repository)
    assert _described(ecr, repository)["imageTagMutability"] == "IMMUTABLE"


def test_tags_can_be_exempt_from_immutability(ecr: Any) -> None:
    name, filters = unique("own"), [{"filterType": "WILDCARD", "filter": "latest*"}]
    created = ecr.create_repository(
        repositoryName=name,
        imageTagMutability="IMMUTABLE_WITH_EXCLUSION",
        imageTagMutabilityExclusionFilters=filters,
    )["repository"]
    assert created["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    assert created["imageTagMutabilityExclusionFilters"] == filters
    assert _described(ecr, name)["imageTagMutabilityExclusionFilters"] == filters


@pytest.mark.parametrize(
    "wrong",
    [
        {"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"},
        {
            "imageTagMutability": "IMMUTABLE",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "latest*"}],
        },
    ],
    ids=["exclusion without filters", "filters without exclusion"],
)
def test_exclusion_filters_go_with_exclusion_only(ecr: Any, wrong: dict[str, Any]) -> None:
    with fails_with("InvalidParameterException", "xclusionFilters"):
        ecr.create_repository(repositoryName=unique("own"), **wrong)


def test_scan_on_push_is_changed(ecr: Any, repository: str) -> None:
    changed = ecr.put_image_scanning_configuration(
        repositoryName=repository, imageScanningConfiguration={"scanOnPush": True}
    )
    assert changed["imageScanningConfiguration"] == {"scanOnPush": True}
    assert _described(ecr, repository)["imageScanningConfiguration"] == {"scanOnPush": True}


def test_resource_tags_are_added_replaced_and_removed(ecr: Any, repository: str) -> None:
    arn = _described(ecr, repository)["repositoryArn"]
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == []
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "b", "Value": "3"}])
    assert _tags(ecr, arn) == {"a": "1", "b": "3"}
    ecr.untag_resource(resourceArn=arn, tagKeys=["a", "never there"])
    assert _tags(ecr, arn) == {"b": "3"}


def test_bad_arn_is_refused(ecr: Any) -> None:
    with fails_with("InvalidParameterException", "Invalid parameter at 'resourceArn'"):
        ecr.list_tags_for_resource(resourceArn="arn:aws:ecr:nowhere")


def test_registry_scanning_applies_to_repositories(ecr: Any, repository: str) -> None:
    try:
        wanted = [
            {
                "scanFrequency": "SCAN_ON_PUSH",
                "repositoryFilters": [{"filter": "own*", "filterType": "WILDCARD"}],
            }
        ]
        put = ecr.put_registry_scanning_configuration(scanType="BASIC", rules=wanted)
        assert put["registryScanningConfiguration"] == {"scanType": "BASIC", "rules": wanted}
        got = answer(ecr.get_registry_scanning_configuration())
        assert got["registryId"] == ACCOUNT_ID
        assert got["scanningConfiguration"] == {"scanType": "BASIC", "rules": wanted}
        absent = unique("absent")
        found = ecr.batch_get_repository_scanning_configuration(repositoryNames=[repository, absent])
        (one,) = found["scanningConfigurations"]
        assert one["repositoryName"] == repository
        assert one["scanFrequency"] == "SCAN_ON_PUSH"
        assert one["appliedScanFilters"] == wanted[0]["repositoryFilters"]
        (failure,) = found["failures"]
        assert (failure["repositoryName"], failure["failureCode"]) == (absent, "REPOSITORY_NOT_FOUND")
    finally:
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"] == {"scanType": "BASIC", "rules": []}


def test_replication_is_kept_and_emptied(ecr: Any) -> None:
    wanted = {"rules": [{"destinations": [{"region": "eu-west-1", "registryId": ACCOUNT_ID}]}]}
    try:
        put = ecr.put_replication_configuration(replicationConfiguration=wanted)
        assert put["replicationConfiguration"]["rules"][0]["destinations"] == wanted["rules"][0]["destinations"]
        found = ecr.describe_registry()
        assert found["registryId"] == ACCOUNT_ID
        assert found["replicationConfiguration"]["rules"][0]["destinations"] == wanted["rules"][0]["destinations"]
    finally:
        ecr.put_replication_configuration(replicationConfiguration={"rules": []})
    assert ecr.describe_registry()["replicationConfiguration"] == {"rules": []}


def test_replication_into_itself_is_refused(ecr: Any) -> None:
    rules = [{"destinations": [{"region": REGION, "registryId": ACCOUNT_ID}]}]
    with fails_with("InvalidParameterException", "Replication destination cannot be the same as the source registry"):
        ecr.put_replication_configuration(replicationConfiguration={"rules": rules})


@pytest.mark.moto_trap("one-replication-rule")
def test_replication_may_have_several_rules(ecr: Any) -> None:
    rules = [{"destinations": [{"region": region, "registryId": ACCOUNT_ID}]} for region in ("eu-west-1", "eu-west-2")]
    try:
        ecr.put_replication_configuration(replicationConfiguration={"rules": rules})
        assert len(ecr.describe_registry()["replicationConfiguration"]["rules"]) == 2
    finally:
        ecr.put_replication_configuration(replicationConfiguration={"rules": []})


def _described(ecr: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    return found


def _tags(ecr: Any, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in ecr.list_tags_for_resource(resourceArn=arn)["tags"]}
