"""Lifecycle policies through the API, by command and on schedule. What policies mean is in tests/unit/engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pullthrough.demo import images as demo
from pullthrough.storage.files.locks import FileLocks
from tests.aws import ACCOUNT_ID, answer, fails_with, push, put, small_image, unique
from tests.e2e import images
from tests.e2e.processes import wait_for
from tests.integration.ecr import TRIES, Site, open_site

ARCHIVE = {"type": "transition", "targetStorageClass": "archive"}


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    # Policies are evaluated when a test says so.
    with open_site(tmp_path_factory.mktemp("lifecycle"), request.param, ecr='lifecycle_interval = "1d"') as opened:
        yield opened


def rule(priority: int = 1, action: dict[str, str] | None = None, **selection: Any) -> dict[str, Any]:
    return {
        "rulePriority": priority,
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1, **selection},
        "action": action or {"type": "expire"},
    }


def policy(*rules: dict[str, Any]) -> str:
    return json.dumps({"rules": rules or [rule()]})


def preview(ecr: Any, name: str, text: str | None = None, **more: Any) -> dict[str, Any]:
    """All pages of what the policy would do, when it is known."""
    given = {"lifecyclePolicyText": text} if text else {}
    started = answer(ecr.start_lifecycle_policy_preview(repositoryName=name, **given))
    assert (started["status"], started["registryId"]) == ("IN_PROGRESS", ACCOUNT_ID)
    ecr.get_waiter("lifecycle_policy_preview_complete").wait(
        repositoryName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    pages = list(ecr.get_paginator("get_lifecycle_policy_preview").paginate(repositoryName=name, **more))
    return {**answer(pages[0]), "previewResults": [entry for page in pages for entry in page["previewResults"]]}


def run(site: Site, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(site.engine.command("lifecycle", "--json", *arguments))["repositories"]
    return found


def digests(ecr: Any, name: str, status: str = "ACTIVE") -> set[str]:
    pages = ecr.get_paginator("describe_images").paginate(repositoryName=name, filter={"imageStatus": status})
    return {detail["imageDigest"] for page in pages for detail in page["imageDetails"]}


# The policy itself


def test_a_policy_is_kept_as_it_was_given(ecr: Any, own: str) -> None:
    text = json.dumps({"rules": [rule()]}, indent=2)
    given = {"registryId": ACCOUNT_ID, "repositoryName": own, "lifecyclePolicyText": text}
    assert answer(ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=text)) == given
    for _ in range(TRIES):
        assert answer(ecr.get_lifecycle_policy(repositoryName=own)) == given
    assert answer(ecr.delete_lifecycle_policy(repositoryName=own)) == given
    for call in (ecr.get_lifecycle_policy, ecr.delete_lifecycle_policy, ecr.start_lifecycle_policy_preview):
        with fails_with("LifecyclePolicyNotFoundException", "does not exist for the repository", own, ACCOUNT_ID):
            call(repositoryName=own)


def test_what_is_no_policy_is_refused_in_the_words_of_ecr(ecr: Any, own: str) -> None:
    for text, why in (
        ("nonsense" * 20, "Could not map policyString into LifecyclePolicy."),
        (json.dumps({"Rules": []}).ljust(100), 'object has missing required properties (["rules"])'),
        (policy(rule(countNumber=0)), "numeric instance is lower than the required minimum"),
        (policy(rule(1), rule(2)), "highest rulePriority"),
    ):
        for call in (ecr.put_lifecycle_policy, ecr.start_lifecycle_policy_preview):
            with fails_with(
                "InvalidParameterException",
                "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
                "'Lifecycle policy validation failure: ",
                why,
            ):
                call(repositoryName=own, lifecyclePolicyText=text)


def test_a_repository_that_is_not_there_is_not_found(ecr: Any) -> None:
    name = unique("own/absent")
    asked: list[tuple[Any, dict[str, str]]] = [
        (ecr.put_lifecycle_policy, {"lifecyclePolicyText": policy()}),
        (ecr.get_lifecycle_policy, {}),
        (ecr.delete_lifecycle_policy, {}),
        (ecr.start_lifecycle_policy_preview, {}),
        (ecr.start_lifecycle_policy_preview, {"lifecyclePolicyText": policy()}),
        (ecr.get_lifecycle_policy_preview, {}),
    ]
    for call, more in asked:
        with fails_with("RepositoryNotFoundException", name, ACCOUNT_ID):
            call(repositoryName=name, **more)


# Previews


def test_a_preview_says_what_would_happen_and_does_nothing(ecr: Any, own: str) -> None:
    pushed = [small_image(f"{own} {number}") for number in range(4)]
    for number, image in enumerate(pushed):
        push(ecr, own, image, f"v{number}")
    text = policy(rule(7, countNumber=1))
    found = preview(ecr, own, text, PaginationConfig={"PageSize": 2})
    assert found["lifecyclePolicyText"] == text
    assert found["status"] == "COMPLETE"
    assert found["summary"] == {"expiringImageTotalCount": 3}
    assert {entry["imageDigest"] for entry in found["previewResults"]} == {image.digest for image in pushed[:3]}
    first = next(entry for entry in found["previewResults"] if entry["imageDigest"] == pushed[0].digest)
    assert isinstance(first.pop("imagePushedAt"), datetime)
    assert first == {
        "imageDigest": pushed[0].digest,
        "imageTags": ["v0"],
        "action": {"type": "EXPIRE"},
        "appliedRulePriority": 7,
        "storageClass": "STANDARD",
    }
    assert digests(ecr, own) == {image.digest for image in pushed}


def test_a_preview_of_the_repositorys_own_policy_can_be_filtered(ecr: Any, own: str) -> None:
    tagged, bare, newest = (small_image(f"{own} {number}") for number in range(3))
    push(ecr, own, tagged, "v1")
    push(ecr, own, bare)
    push(ecr, own, newest, "v2")
    ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=policy(rule(action=ARCHIVE)))
    found = preview(ecr, own)
    assert found["summary"] == {
        "expiringImageTotalCount": 0,
        "transitioningImageTotalCounts": [{"targetStorageClass": "ARCHIVE", "imageTotalCount": 2}],
    }
    assert {entry["action"]["targetStorageClass"] for entry in found["previewResults"]} == {"ARCHIVE"}

    def asked(**more: Any) -> set[str]:
        page = ecr.get_lifecycle_policy_preview(repositoryName=own, **more)
        return {entry["imageDigest"] for entry in page["previewResults"]}

    assert asked(filter={"tagStatus": "TAGGED"}) == {tagged.digest}
    assert asked(filter={"tagStatus": "UNTAGGED"}) == {bare.digest}
    assert asked(imageIds=[{"imageTag": "v1"}, {"imageTag": "v2"}, {"imageTag": "none"}]) == {tagged.digest}
    assert asked(imageIds=[{"imageDigest": bare.digest}]) == {bare.digest}
    with fails_with("InvalidParameterException", "maxResults"):
        asked(imageIds=[{"imageTag": "v1"}], maxResults=1)


def test_there_is_no_preview_before_one_is_started(ecr: Any, own: str) -> None:
    with fails_with("LifecyclePolicyPreviewNotFoundException", own, ACCOUNT_ID):
        ecr.get_lifecycle_policy_preview(repositoryName=own)


def test_one_preview_at_a_time_over_all_workers(site: Site, ecr: Any, own: str) -> None:
    # As a worker that is at it holds it.
    lock = FileLocks(site.engine.data / "locks").try_lock(f"lifecycle-preview:{own}")
    assert lock is not None
    with lock:
        for _ in range(TRIES):
            with fails_with("LifecyclePolicyPreviewInProgressException", "has not completed"):
                site.client().start_lifecycle_policy_preview(repositoryName=own, lifecyclePolicyText=policy())
    assert preview(ecr, own, policy())["previewResults"] == []


# Runs


def test_a_run_deletes_for_all_workers_and_says_what(site: Site, ecr: Any, own: str) -> None:
    old, new = small_image(f"{own} old"), small_image(f"{own} new")
    push(ecr, own, old, "v1")
    put(ecr, own, old, "stable")
    push(ecr, own, new, "v2")
    ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=policy())
    assert "lastEvaluatedAt" not in ecr.get_lifecycle_policy(repositoryName=own)
    assert site.pulls(own, "v1") == {200}

    wanted = {"digest": old.digest, "tags": ["stable", "v1"], "rule": 1}
    planned = {"repository": own, "expired": [wanted], "archived": [], "skipped": 0, "error": ""}
    assert run(site, "--dry-run", own) == [planned]
    assert digests(ecr, own) == {old.digest, new.digest}
    assert "1 image would change, by 1 policy" in site.engine.command("lifecycle", "--dry-run", own)

    assert run(site, own) == [planned]
    assert site.pulls(own, "v1") == {404}
    assert site.pulls(own, "v2") == {200}
    assert isinstance(ecr.get_lifecycle_policy(repositoryName=own)["lastEvaluatedAt"], datetime)
    assert run(site, own) == [{**planned, "expired": []}]

    def deleted() -> set[str]:
        events = json.loads(site.engine.command("events", "--json"))["events"]
        mine = [e["detail"] for e in events if own in str(e["resources"])]
        return {detail["image-tag"] for detail in mine if detail["action-type"] == "DELETE"}

    wait_for(lambda: deleted() == {"stable", "v1"}, "the events")


def test_an_index_goes_with_its_platforms_and_its_signature(site: Site, ecr: Any, own: str) -> None:
    platforms = {f"linux/{name}": small_image(own, architecture=name) for name in ("amd64", "arm64")}
    index = images.index(platforms)
    push(ecr, own, index, "v1")
    push(ecr, own, images.artifact("application/signature", b"signed", subject=index.manifest))
    untagged = rule(1, tagStatus="untagged", countType="imageCountMoreThan", countNumber=1)
    ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=policy(untagged))
    assert run(site, own)[0]["expired"] == []
    newest = small_image(f"{own} newest")
    push(ecr, own, newest, "v2")
    ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=policy())
    assert len(run(site, own)[0]["expired"]) == 4
    assert digests(ecr, own) == {newest.digest}


def test_what_is_pinned_stays(site: Site, ecr: Any) -> None:
    name = unique("acme/app")
    site.add(name, f"{name} old", "old")
    site.open.add(name, demo.make_image(f"{name} new"), "new")
    repository = f"quay/{name}"
    assert [site.pull(repository, tag).status for tag in ("old", "new")] == [200, 200]
    site.engine.command("pin", f"{repository}:old")
    ecr.put_lifecycle_policy(repositoryName=repository, lifecyclePolicyText=policy())
    assert run(site, repository)[0]["expired"] == []
    site.engine.command("unpin", f"{repository}:old")
    assert [entry["tags"] for entry in run(site, repository)[0]["expired"]] == [["old"]]


def test_a_policy_of_a_template_holds_for_what_pulls_bring(site: Site, ecr: Any) -> None:
    prefix, name = unique("cached"), unique("acme/app")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl="quay.io")
    ecr.create_repository_creation_template(
        prefix=prefix, appliedFor=["PULL_THROUGH_CACHE"], lifecyclePolicy=policy(rule(action=ARCHIVE))
    )
    old, new = site.add(name, f"{name} old", "old"), demo.make_image(f"{name} new")
    site.open.add(name, new, "new")
    repository = f"{prefix}/{name}"
    assert [site.pull(repository, tag).status for tag in ("old", "new")] == [200, 200]
    assert [entry["tags"] for entry in run(site, repository)[0]["archived"]] == [["old"]]
    assert site.pulls(repository, "old") == {404}
    assert digests(ecr, repository, "ARCHIVED") == {old.digest}
    assert digests(ecr, repository) == {new.digest}


def test_all_policies_are_evaluated_where_no_repository_is_named(site: Site, ecr: Any, own: str) -> None:
    ecr.put_lifecycle_policy(repositoryName=own, lifecyclePolicyText=policy())
    assert own in [entry["repository"] for entry in run(site, "--dry-run")]
    ecr.delete_lifecycle_policy(repositoryName=own)
    assert run(site, own) == []


@pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])
def test_policies_are_evaluated_on_schedule_and_without_an_engine(
    tmp_path_factory: pytest.TempPathFactory, workers: int
) -> None:
    folder: Path = tmp_path_factory.mktemp("scheduled")
    with open_site(folder, workers, ecr='lifecycle_interval = "1s"') as site:
        ecr = site.client()
        ecr.create_repository(repositoryName="own/app")
        ecr.put_lifecycle_policy(repositoryName="own/app", lifecyclePolicyText=policy())
        for number in range(3):
            push(ecr, "own/app", small_image(str(number)), f"v{number}")
        wait_for(lambda: digests(ecr, "own/app") == {small_image("2").digest}, "the policy")
        ecr.delete_lifecycle_policy(repositoryName="own/app")
        push(ecr, "own/app", small_image("3"), "v3")
        ecr.put_lifecycle_policy(repositoryName="own/app", lifecyclePolicyText=policy(rule(countNumber=9)))
        wait_for(lambda: "lastEvaluatedAt" in ecr.get_lifecycle_policy(repositoryName="own/app"), "the evaluation")
        site.engine.stop()
        assert run(site, "own/app")[0]["expired"] == []
        site.engine.start()
        assert digests(ecr, "own/app") == {small_image("2").digest, small_image("3").digest}
