"""Repositories through the API. What moto has too is in tests/contracts/aws; here is what it has not, and pulls."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws import ACCOUNT_ID, REGION, answer, fails_with, unique
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Gate, Hang
from tests.integration.ecr import TRIES, Site

NOT_FOUND = "RepositoryNotFoundException"
INVALID = "InvalidParameterException"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": {"AWS": ACCOUNT_ID}, "Action": ["ecr:BatchGetImage"]}],
    }
)


@pytest.fixture
def name() -> str:
    return f"{unique('team')}/app"


def repository(ecr: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    return found


def pulled(site: Site, name: str) -> str:
    """The repository that a pull has made of this one of the upstream, when all of it is in the catalog."""
    image = site.add(name, name)
    repository = f"quay/{name}"
    site.cache(repository, image)
    return repository


# Made by somebody, made by a pull


def test_names_and_arns_are_those_of_this_registry(site: Site, ecr: Any, name: str) -> None:
    made = answer(ecr.create_repository(repositoryName=name))["repository"]
    assert made == {
        "repositoryArn": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{name}",
        "registryId": ACCOUNT_ID,
        "repositoryName": name,
        "repositoryUri": f"{site.engine.address}/{name}",
        "createdAt": made["createdAt"],
        "imageTagMutability": "MUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
        "encryptionConfiguration": {"encryptionType": "AES256"},
    }
    assert repository(ecr, name) == made


def test_the_uri_of_a_repository_that_a_pull_made_can_be_pulled(site: Site, ecr: Any, name: str) -> None:
    found = repository(ecr, pulled(site, name))
    host, _, path = found["repositoryUri"].partition("/")
    assert host == site.engine.address
    assert site.pull(path).status == 200
    assert site.pull(path).outcome == "hit"


def test_a_repository_that_a_pull_made_is_there_already(site: Site, ecr: Any, name: str) -> None:
    with fails_with("RepositoryAlreadyExistsException", f"'quay/{name}' already exists"):
        ecr.create_repository(repositoryName=pulled(site, name))


def test_of_many_who_create_the_same_repository_at_once_one_wins(site: Site, name: str) -> None:
    def attempt(_: int) -> str:
        try:
            site.client().create_repository(repositoryName=name)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(TRIES) as threads:
        results = sorted(threads.map(attempt, range(TRIES)))
    assert results == ["RepositoryAlreadyExistsException"] * (TRIES - 1) + ["created"]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"tags": [{"Key": "a", "Value": ""}] * 2}, "InvalidTagParameterException"),
        ({"tags": [{"Key": "aws:a", "Value": ""}]}, "InvalidTagParameterException"),
        ({"tags": [{"Key": "a" * 129, "Value": ""}]}, "InvalidTagParameterException"),
        ({"tags": [{"Key": "a", "Value": "b" * 257}]}, "InvalidTagParameterException"),
        ({"tags": [{"Key": f"k{number}", "Value": ""} for number in range(51)]}, "TooManyTagsException"),
        ({"encryptionConfiguration": {"encryptionType": "AES256", "kmsKey": "alias/mine"}}, INVALID),
        ({"imageTagMutability": "IMMUTABLE_WITH_EXCLUSION"}, INVALID),
        ({"registryId": "999999999999"}, INVALID),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_made(ecr: Any, name: str, wrong: dict[str, Any], code: str) -> None:
    with fails_with(code):
        ecr.create_repository(repositoryName=name, **wrong)
    with fails_with(NOT_FOUND):
        repository(ecr, name)


def test_a_name_that_only_aws_allows_is_refused(ecr: Any) -> None:
    with fails_with(INVALID, "255"):
        ecr.create_repository(repositoryName="a" * 256)


# Deleted


def test_a_deleted_repository_is_gone_in_every_worker_and_filled_anew_by_a_pull(
    site: Site, ecr: Any, name: str
) -> None:
    found = pulled(site, name)
    assert site.pulls(found) == {200}
    with fails_with("RepositoryNotEmptyException", "cannot be deleted because it still contains images"):
        ecr.delete_repository(repositoryName=found)
    deleted = ecr.delete_repository(repositoryName=found, force=True)["repository"]
    assert deleted["repositoryName"] == found
    with fails_with(NOT_FOUND, f"The repository with name '{found}' does not exist in the registry with id"):
        ecr.delete_repository(repositoryName=found, force=True)
    for _ in range(TRIES):
        with fails_with(NOT_FOUND):
            repository(site.client(), found)
    assert site.pull(found).outcome == "miss"
    assert site.pulls(found) == {200}


def test_the_blobs_of_a_deleted_repository_are_no_longer_its_own(site: Site, ecr: Any, name: str) -> None:
    image = site.add(name, name)
    found = pulled(site, name)
    ecr.delete_repository(repositoryName=found, force=True)
    site.open.requests.clear()
    for blob in image.blobs:
        assert site.engine.get(f"/v2/{found}/blobs/{blob.digest}").status == 200
    # Its upstream was asked for each: nobody reads by what the repository of before had.
    assert {site.open.requests.count(kind="blob", reference=str(blob.digest)) for blob in image.blobs} == {1}


def test_a_repository_deleted_during_a_fill_stays_deleted(site: Site, ecr: Any, name: str) -> None:
    """Or `terraform destroy`, right after a pull, would wait for it to go in vain."""
    image, gate = site.add(name, name), Gate()
    layer = image.blobs[-1]
    site.open.script(Hang(gate, after_bytes=10), kind="blob", reference=str(layer.digest))
    found = f"quay/{name}"
    assert site.pull(found).status == 200
    with ThreadPoolExecutor(1) as threads:
        pull = threads.submit(site.engine.get, f"/v2/{found}/blobs/{layer.digest}")
        gate.wait_reached()
        ecr.delete_repository(repositoryName=found, force=True)
        site.open.clear_scripts()
        gate.open()
        assert pull.result().body == layer.body
    stored = site.engine.data / "blobs" / "sha256" / layer.digest.hex[:2] / layer.digest.hex
    wait_for(stored.exists, "the fill to end")
    for _ in range(TRIES):
        with fails_with(NOT_FOUND):
            repository(ecr, found)


def test_another_repository_keeps_what_it_shares_with_a_deleted_one(site: Site, ecr: Any, name: str) -> None:
    image = site.add(name, name)
    site.open.add(f"{name}-2", image, "latest")
    one, other = pulled(site, name), f"quay/{name}-2"
    assert site.pull(other).status == 200
    for blob in image.blobs:
        assert site.engine.get(f"/v2/{other}/blobs/{blob.digest}").status == 200
    ecr.delete_repository(repositoryName=one, force=True)
    site.open.requests.clear()
    assert site.pulls(other) == {200}
    for blob in image.blobs:
        assert site.engine.get(f"/v2/{other}/blobs/{blob.digest}").body == blob.body
    assert site.open.requests.count() == 0


def test_deleting_leaves_nothing_behind_in_the_catalog(site: Site, ecr: Any, name: str) -> None:
    found = pulled(site, name)
    ecr.tag_resource(resourceArn=site.arn(found), tags=[{"Key": "a", "Value": "b"}])
    ecr.set_repository_policy(repositoryName=found, policyText=POLICY)
    ecr.delete_repository(repositoryName=found, force=True)
    assert _mentions(site, found) == []


def _mentions(site: Site, name: str) -> list[str]:
    """Tables with a row that names the repository."""
    tables = {"repositories": "name", "listings": "repository", "negatives": "repository", "resource_tags": "resource"}
    with closing(sqlite3.connect(f"file:{site.engine.data}/catalog.sqlite?mode=ro", uri=True)) as catalog:
        return [
            table
            for table, column in tables.items()
            if catalog.execute(f"SELECT 1 FROM {table} WHERE {column} LIKE ?", [f"%{name}%"]).fetchone()
        ]


# Tags


def test_a_repository_has_fifty_tags_at_most(site: Site, ecr: Any, name: str) -> None:
    full = [{"Key": f"key {number:02}", "Value": "x" * 256} for number in range(50)]
    ecr.create_repository(repositoryName=name, tags=full)
    with fails_with("TooManyTagsException", "50"):
        ecr.tag_resource(resourceArn=site.arn(name), tags=[{"Key": "one more", "Value": ""}])
    ecr.tag_resource(resourceArn=site.arn(name), tags=[{"Key": "key 00", "Value": "changed"}])
    tags = ecr.list_tags_for_resource(resourceArn=site.arn(name))["tags"]
    assert tags == [{"Key": "key 00", "Value": "changed"}, *full[1:]]
    ecr.untag_resource(resourceArn=site.arn(name), tagKeys=[tag["Key"] for tag in full[1:]] + ["never"])
    assert len(ecr.list_tags_for_resource(resourceArn=site.arn(name))["tags"]) == 1


@pytest.mark.parametrize(
    ("arn", "code"),
    [
        (f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/not-there", NOT_FOUND),
        (f"arn:aws:ecr:eu-west-1:{ACCOUNT_ID}:repository/not-there", INVALID),
        (f"arn:aws:ecr:{REGION}:999999999999:repository/not-there", INVALID),
        (f"arn:aws:s3:{REGION}:{ACCOUNT_ID}:repository/not-there", INVALID),
        (f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/NOT", INVALID),
    ],
)
def test_tags_of_what_is_no_repository_here_are_refused(ecr: Any, arn: str, code: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: ecr.list_tags_for_resource(resourceArn=arn),
        lambda: ecr.tag_resource(resourceArn=arn, tags=[{"Key": "a", "Value": "b"}]),
        lambda: ecr.untag_resource(resourceArn=arn, tagKeys=["a"]),
    ]
    for call in calls:
        with fails_with(code):
            call()


def test_a_tag_that_cannot_be_is_not_added(site: Site, ecr: Any, name: str) -> None:
    ecr.create_repository(repositoryName=name)
    for key, value in (("aws:a", ""), ("a" * 129, ""), ("a", "b" * 257), ("a!", "")):
        with fails_with("InvalidTagParameterException"):
            ecr.tag_resource(resourceArn=site.arn(name), tags=[{"Key": key, "Value": value}])
    assert ecr.list_tags_for_resource(resourceArn=site.arn(name))["tags"] == []


# Policies


def test_a_policy_that_locks_everybody_out_wants_force(ecr: Any, name: str) -> None:
    ecr.create_repository(repositoryName=name)
    text = json.dumps({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "ecr:SetRepositoryPolicy"}]})
    with fails_with(INVALID, "Invalid repository policy provided", "force"):
        ecr.set_repository_policy(repositoryName=name, policyText=text)
    ecr.set_repository_policy(repositoryName=name, policyText=text, force=True)
    assert ecr.get_repository_policy(repositoryName=name)["policyText"] == text
    ecr.delete_repository(repositoryName=name)


def test_policies_of_no_repository_are_not_found(ecr: Any, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: ecr.set_repository_policy(repositoryName=name, policyText=POLICY),
        lambda: ecr.get_repository_policy(repositoryName=name),
        lambda: ecr.delete_repository_policy(repositoryName=name),
    ]
    for call in calls:
        with fails_with(NOT_FOUND):
            call()


def test_a_denying_policy_counts_at_once_in_every_worker(site: Site, ecr: Any, name: str) -> None:
    found = pulled(site, name)
    denying = json.dumps({"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage"}]})
    ecr.set_repository_policy(repositoryName=found, policyText=denying)
    assert site.pulls(found) == {403}
    ecr.delete_repository_policy(repositoryName=found)
    assert site.pulls(found) == {200}


# What Terraform does


def test_terraforms_life_of_a_repository(site: Site, ecr: Any, name: str) -> None:
    arn = site.arn(name)
    created = ecr.create_repository(
        repositoryName=name,
        imageTagMutability="MUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
        encryptionConfiguration={"encryptionType": "AES256"},
        tags=[{"Key": "team", "Value": "a"}],
    )["repository"]
    assert repository(ecr, name) == repository(ecr, name) == created
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "a"}]
    ecr.put_image_tag_mutability(repositoryName=name, registryId=ACCOUNT_ID, imageTagMutability="IMMUTABLE")
    ecr.put_image_scanning_configuration(
        repositoryName=name, registryId=ACCOUNT_ID, imageScanningConfiguration={"scanOnPush": False}
    )
    ecr.untag_resource(resourceArn=arn, tagKeys=["team"])
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "owner", "Value": "b"}])
    changed = repository(ecr, name)
    assert changed == created | {
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": False},
    }
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "owner", "Value": "b"}]
    ecr.delete_repository(repositoryName=name, registryId=ACCOUNT_ID, force=False)
    with fails_with(NOT_FOUND):
        repository(ecr, name)


def test_terraforms_life_of_a_repository_policy(ecr: Any, name: str) -> None:
    ecr.create_repository(repositoryName=name)
    with fails_with("RepositoryPolicyNotFoundException"):
        ecr.get_repository_policy(repositoryName=name)
    with fails_with(INVALID, "Invalid repository policy provided"):
        ecr.set_repository_policy(repositoryName=name, policyText='{"Statement": []')
    ecr.set_repository_policy(repositoryName=name, policyText=POLICY)
    found = answer(ecr.get_repository_policy(repositoryName=name))
    assert found == {"registryId": ACCOUNT_ID, "repositoryName": name, "policyText": POLICY}
    assert answer(ecr.delete_repository_policy(repositoryName=name, registryId=ACCOUNT_ID)) == found
    for call in (ecr.get_repository_policy, ecr.delete_repository_policy):
        with fails_with("RepositoryPolicyNotFoundException"):
            call(repositoryName=name)


def test_what_was_set_outlives_the_engine(site: Site, name: str) -> None:
    site.client().create_repository(repositoryName=name, tags=[{"Key": "a", "Value": "b"}])
    site.client().set_repository_policy(repositoryName=name, policyText=POLICY)
    before = repository(site.client(), name)
    site.engine.restart()
    assert repository(site.client(), name) == before
    assert site.client().get_repository_policy(repositoryName=name)["policyText"] == POLICY
    assert site.client().list_tags_for_resource(resourceArn=site.arn(name))["tags"] == [{"Key": "a", "Value": "b"}]
