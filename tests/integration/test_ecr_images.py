"""Images through the API: described, listed, pulled, deleted, archived; what that costs upstream, counted exactly.

Layers and uploads are in test_ecr_layers, lifecycle policies in test_ecr_lifecycle. What moto has too is in
tests/contracts/aws.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from pullthrough.demo import images as demo
from pullthrough.oci import media_types
from tests.aws import (
    ACCOUNT_ID,
    Account,
    answer,
    fails_with,
    key_settings,
    push,
    put,
    small_image,
    unique,
    upload_blobs,
)
from tests.e2e import images
from tests.e2e.images import Image, Index
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Html, Status
from tests.integration.ecr import TRIES, Site, open_site

INDEX_TYPES = sorted(media_types.INDEXES)
IMAGE_TYPES = sorted(media_types.IMAGES)


@pytest.fixture
def upstream_name(site: Site) -> str:
    """A name at quay.io that no other test uses; here it is under `quay/`."""
    return unique("acme/app")


def two_platforms(mark: str) -> Index:
    return images.index({"linux/arm64": small_image(mark, architecture="arm64"), "linux/amd64": small_image(mark)})


def described(ecr: Any, name: str, **more: Any) -> dict[str, dict[str, Any]]:
    """All pages, by digest."""
    pages = ecr.get_paginator("describe_images").paginate(repositoryName=name, **more)
    return {detail["imageDigest"]: detail for page in pages for detail in page["imageDetails"]}


def listed(ecr: Any, name: str, **more: Any) -> list[tuple[str, str | None]]:
    pages = ecr.get_paginator("list_images").paginate(repositoryName=name, **more)
    return [(entry["imageDigest"], entry.get("imageTag")) for page in pages for entry in page["imageIds"]]


def got(ecr: Any, name: str, *ids: Mapping[str, str], accept: list[str] | None = None) -> dict[str, Any]:
    more = {"acceptedMediaTypes": accept} if accept else {}
    found: dict[str, Any] = answer(ecr.batch_get_image(repositoryName=name, imageIds=list(ids), **more))
    return found


def attach(ecr: Any, name: str, artifact: Image) -> None:
    """Push an artifact, whose empty config the repository may have."""
    digests = [blob.digest for blob in artifact.blobs]
    found = ecr.batch_check_layer_availability(repositoryName=name, layerDigests=digests)["layers"]
    there = {layer["layerDigest"] for layer in found if layer["layerAvailability"] == "AVAILABLE"}
    push(ecr, name, Image(artifact.manifest, tuple(blob for blob in artifact.blobs if blob.digest not in there)))


def codes(response: Mapping[str, Any]) -> list[str]:
    return [failure["failureCode"] for failure in response["failures"]]


# DescribeImages and ListImages


def test_an_image_is_described_in_full(ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    put(ecr, own, image, "latest")
    signature = images.artifact("application/vnd.acme.signature", b"signed", subject=image.manifest)
    push(ecr, own, signature)
    found = described(ecr, own)
    detail = found[image.digest]
    assert isinstance(detail.pop("imagePushedAt"), datetime)
    assert detail == {
        "registryId": ACCOUNT_ID,
        "repositoryName": own,
        "imageDigest": image.digest,
        "imageTags": ["latest", "v1"],
        "imageSizeInBytes": sum(len(blob.body) for blob in image.blobs),
        "imageManifestMediaType": media_types.OCI_MANIFEST,
        "artifactMediaType": "application/vnd.oci.image.config.v1+json",
        "imageStatus": "ACTIVE",
    }
    artifact = found[signature.digest]
    assert "imageTags" not in artifact
    assert artifact["subjectManifestDigest"] == image.digest
    assert artifact["artifactMediaType"] == "application/vnd.acme.signature"


def test_named_images_are_described_once_each(ecr: Any, own: str) -> None:
    image, other = small_image("named"), small_image("other")
    push(ecr, own, image, "v1")
    push(ecr, own, other, "v2")
    ids = [{"imageTag": "v1"}, {"imageDigest": image.digest}, {"imageDigest": image.digest, "imageTag": "v1"}]
    assert set(described(ecr, own, imageIds=ids)) == {image.digest}
    for wrong in ({"imageTag": "none"}, {"imageDigest": image.digest, "imageTag": "v2"}):
        with fails_with("ImageNotFoundException", "does not exist within the repository", own, ACCOUNT_ID):
            ecr.describe_images(repositoryName=own, imageIds=[wrong])
    with fails_with("ImageNotFoundException", "{imageDigest:'null', imageTag:'none'}"):
        ecr.describe_images(repositoryName=own, imageIds=[{"imageTag": "none"}])


def test_names_and_pages_do_not_go_together(ecr: Any, own: str) -> None:
    with fails_with("InvalidParameterException", "maxResults"):
        ecr.describe_images(repositoryName=own, imageIds=[{"imageTag": "v1"}], maxResults=1)
    with fails_with("InvalidParameterException", "nextToken"):
        ecr.describe_images(repositoryName=own, nextToken="made up")
    with fails_with("InvalidParameterException", "imageId"):
        ecr.describe_images(repositoryName=own, imageIds=[{}])
    with fails_with("InvalidParameterException", "sha256"):
        ecr.describe_images(repositoryName=own, imageIds=[{"imageDigest": "sha256:short"}])


def test_pages_hold_everything_once_whichever_worker_answers(ecr: Any, own: str) -> None:
    image = small_image(own)
    upload_blobs(ecr, own, image)
    for tag in ("a", "b", "c"):
        put(ecr, own, image, tag)
    bare = {small_image(f"{own} {number}") for number in range(3)}
    for each in bare:
        push(ecr, own, each)
    untagged = {each.digest for each in bare}
    names = listed(ecr, own, PaginationConfig={"PageSize": 2})
    assert sorted(names, key=str) == sorted(
        [(image.digest, tag) for tag in "abc"] + [(digest, None) for digest in untagged], key=str
    )
    assert set(described(ecr, own, PaginationConfig={"PageSize": 2})) == {image.digest, *untagged}
    assert set(described(ecr, own, filter={"tagStatus": "UNTAGGED"})) == untagged
    assert listed(ecr, own, filter={"tagStatus": "TAGGED"}) == [(image.digest, tag) for tag in "abc"]
    assert {digest for digest, _ in listed(ecr, own, filter={"tagStatus": "UNTAGGED"})} == untagged
    assert not described(ecr, own, filter={"imageStatus": "ACTIVATING"})
    assert not listed(ecr, own, filter={"imageStatus": "ACTIVATING"})


def test_a_repository_that_is_not_there_is_not_found(ecr: Any) -> None:
    name, some = unique("own/absent"), {"imageTag": "v1"}
    asked: dict[str, dict[str, Any]] = {
        "describe_images": {},
        "list_images": {},
        "batch_get_image": {"imageIds": [some]},
        "batch_delete_image": {"imageIds": [some]},
        "update_image_storage_class": {"imageId": some, "targetStorageClass": "ARCHIVE"},
        "list_image_referrers": {"subjectId": {"imageDigest": small_image().digest}},
        "put_image": {"imageManifest": "{}"},
    }
    for operation, input in asked.items():
        with fails_with("RepositoryNotFoundException", name, ACCOUNT_ID):
            getattr(ecr, operation)(repositoryName=name, **input)
    with fails_with("RepositoryNotFoundException", name, "210987654321"):
        ecr.describe_images(repositoryName=name, registryId="210987654321")


# BatchGetImage


def test_manifests_of_hostile_size_are_not_all_put_into_one_answer(site: Site, ecr: Any, upstream_name: str) -> None:
    ids = []
    for number in range(12):
        image = demo.make_artifact(f"{upstream_name} {number}", subject=None, annotations={"pad": "x" * 2_000_000})
        site.open.add(upstream_name, image, str(number))
        ids.append({"imageTag": str(number)})
    name = f"quay/{upstream_name}"
    with fails_with("InvalidParameterException", "16,777,216 bytes together: ask for fewer at once"):
        ecr.batch_get_image(repositoryName=name, imageIds=ids)
    assert len(ecr.batch_get_image(repositoryName=name, imageIds=ids[:6])["images"]) == 6


def test_a_pushed_image_is_got_by_tag_by_digest_and_by_both(ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    ids = [{"imageTag": "v1"}, {"imageDigest": image.digest}, {"imageDigest": image.digest, "imageTag": "v1"}]
    found = got(ecr, own, *ids)
    assert found["failures"] == []
    assert [entry["imageId"] for entry in found["images"]] == [
        {"imageDigest": image.digest, "imageTag": "v1"},
        {"imageDigest": image.digest},
        {"imageDigest": image.digest, "imageTag": "v1"},
    ]
    assert {entry["imageManifest"] for entry in found["images"]} == {image.manifest.body.decode()}
    assert {entry["imageManifestMediaType"] for entry in found["images"]} == {media_types.OCI_MANIFEST}


def test_each_failure_has_its_code(ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    push(ecr, own, small_image("another"), "v2")
    found = got(
        ecr,
        own,
        {},
        {"imageDigest": "sha256:nonsense"},
        {"imageTag": "not a tag"},
        {"imageTag": "v1"},
        {"imageTag": "none"},
        {"imageDigest": image.digest, "imageTag": "v2"},
    )
    assert codes(found) == [
        "MissingDigestAndTag",
        "InvalidImageDigest",
        "InvalidImageTag",
        "ImageNotFound",
        "ImageTagDoesNotMatchDigest",
    ]
    assert [entry["imageId"]["imageTag"] for entry in found["images"]] == ["v1"]


def test_an_index_is_for_who_accepts_one_and_its_amd64_child_for_others(ecr: Any, own: str) -> None:
    index = two_platforms(own)
    push(ecr, own, index, "v1")
    (whole,) = got(ecr, own, {"imageTag": "v1"}, accept=[*IMAGE_TYPES, *INDEX_TYPES])["images"]
    assert whole["imageId"]["imageDigest"] == index.digest
    for accept in (IMAGE_TYPES, None):
        (child,) = got(ecr, own, {"imageTag": "v1"}, accept=accept)["images"]
        assert child["imageId"] == {"imageDigest": index.children["linux/amd64"].digest, "imageTag": "v1"}
        assert child["imageManifest"] == index.children["linux/amd64"].manifest.body.decode()


def test_an_uncached_tag_is_pulled_with_one_request(site: Site, ecr: Any, upstream_name: str) -> None:
    image = site.add(upstream_name, "", "1.0")
    for _ in range(TRIES):
        found = got(ecr, f"quay/{upstream_name}", {"imageTag": "1.0"})
        assert [entry["imageId"]["imageDigest"] for entry in found["images"]] == [image.digest]
    asked = site.open.requests.select(repository=upstream_name)
    assert [(record.method, record.kind) for record in asked] == [("GET", "manifest")]
    assert set(described(ecr, f"quay/{upstream_name}")) == {image.digest}


def test_an_uncached_digest_is_pulled_with_one_request(site: Site, ecr: Any, upstream_name: str) -> None:
    image = site.add(upstream_name)
    found = got(ecr, f"quay/{upstream_name}", {"imageDigest": str(image.digest)})
    assert [entry["imageManifest"] for entry in found["images"]] == [image.manifest.body.decode()]
    assert site.open.requests.count(repository=upstream_name) == 1


def test_of_an_uncached_index_one_child_is_fetched(site: Site, ecr: Any, upstream_name: str) -> None:
    seed = upstream_name
    attestation = demo.make_image(f"{seed} attestation", platform="")
    arm = demo.make_image(f"{seed} arm", platform="linux/arm64/v8")
    amd = demo.make_image(f"{seed} amd", platform="linux/amd64")
    site.open.add(upstream_name, demo.make_index(attestation, arm, amd), "latest")
    (found,) = got(ecr, f"quay/{upstream_name}", {"imageTag": "latest"}, accept=IMAGE_TYPES)["images"]
    assert found["imageId"]["imageDigest"] == amd.digest
    assert site.open.requests.count(repository=upstream_name) == 2


def test_what_the_upstream_does_not_have_is_not_found(site: Site, ecr: Any, upstream_name: str) -> None:
    site.add(upstream_name)
    absent = str(small_image("nowhere").digest)
    found = got(ecr, f"quay/{upstream_name}", {"imageTag": "none"}, {"imageDigest": absent}, {"imageTag": "latest"})
    assert codes(found) == ["ImageNotFound", "ImageNotFound"]
    assert len(found["images"]) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "UpstreamAccessDenied"),
        (403, "UpstreamAccessDenied"),
        (429, "UpstreamTooManyRequests"),
        (503, "UpstreamUnavailable"),
    ],
)
def test_a_failure_says_what_the_upstream_did(tmp_path_factory: pytest.TempPathFactory, status: int, code: str) -> None:
    # An engine of its own: an upstream that fails is left alone for a while.
    with open_site(tmp_path_factory.mktemp("failing"), 2) as site:
        site.add("acme/app", "", "1.0")
        site.open.script(Status(status), kind="manifest")
        (failure,) = got(site.client(), "quay/acme/app", {"imageTag": "1.0"})["failures"]
        assert failure["failureCode"] == code
        assert failure["failureReason"]
        assert failure["imageId"] == {"imageTag": "1.0"}


def test_what_an_upstream_says_is_told_though_it_has_half_a_character(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_site(tmp_path_factory.mktemp("half"), 2) as site:
        site.add("acme/app", "", "1.0")
        site.open.script(Status(403, message="no \ud83d way"))
        ecr = site.client()
        (failure,) = got(ecr, "quay/acme/app", {"imageTag": "1.0"})["failures"]
        assert (failure["failureCode"], "no way" in failure["failureReason"]) == ("UpstreamAccessDenied", True)
        assert site.pull("quay/acme/app", "1.0").status == 403
        ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="quay", upstreamRegistryUrl="quay.io")
        assert ecr.validate_pull_through_cache_rule(ecrRepositoryPrefix="quay")["failure"]


def test_an_upstream_that_is_no_registry_fails_the_whole_call(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_site(tmp_path_factory.mktemp("html"), 1) as site:
        site.add("acme/app", "", "1.0")
        site.open.script(Html(), kind="manifest")
        with fails_with("UnableToGetUpstreamImageException"):
            site.client().batch_get_image(repositoryName="quay/acme/app", imageIds=[{"imageTag": "1.0"}])


def test_a_pull_by_the_api_counts_as_a_pull(site: Site, ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    got(ecr, own, {"imageTag": "v1"})
    wait_for(lambda: "lastRecordedPullTime" in described(ecr, own)[image.digest], "the pull time")


def test_an_official_image_has_one_repository_under_both_names(site: Site, ecr: Any) -> None:
    repository, seed = "library/busybox", "busybox"
    prefix = unique("hub")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl="registry-1.docker.io")
    site.closed.add(repository, demo.make_image(seed), "latest")
    found = got(ecr, f"{prefix}/busybox", {"imageTag": "latest"})
    assert [entry["repositoryName"] for entry in found["images"]] == [f"{prefix}/{repository}"]
    assert described(ecr, f"{prefix}/busybox") == described(ecr, f"{prefix}/{repository}")


def test_who_may_not_import_gets_what_is_cached_and_hears_why_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("import")
    admin, reader = Account(""), Account("", "AKIDREADER", "the-readers-secret-half")
    allowed = folder / "policy.json"
    statement = {"Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:CreateRepository"], "Resource": "*"}
    allowed.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    keys = key_settings(folder, admin) + key_settings(folder, reader, name="reader").replace(
        'role = "admin"', f'policy_file = "{allowed}"'
    )
    with open_site(folder, 2, auth="keys", more=keys) as site:
        site.add("acme/app", "", "1.0", "2.0")
        may, may_not = (replace(who, endpoint=site.engine.url).client("ecr") for who in (admin, reader))
        (failure,) = got(may_not, "quay/acme/app", {"imageTag": "1.0"})["failures"]
        assert failure["failureCode"] == "ImageNotFound"
        assert "ecr:BatchImportUpstreamImage" in failure["failureReason"]
        assert site.open.requests.count() == 0
        assert got(may, "quay/acme/app", {"imageTag": "1.0"})["failures"] == []
        assert codes(got(may_not, "quay/acme/app", {"imageTag": "1.0"}, {"imageTag": "2.0"})) == ["ImageNotFound"]
        statement["Action"] = ["ecr:BatchGetImage", "ecr:BatchImportUpstreamImage"]
        allowed.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
        with fails_with("RepositoryNotFoundException", "quay/acme/new", "ecr:CreateRepository"):
            may_not.batch_get_image(repositoryName="quay/acme/new", imageIds=[{"imageTag": "1.0"}])


# PutImage


def test_what_put_image_refuses(ecr: Any, own: str) -> None:
    image = small_image(own)
    with fails_with("LayersNotFoundException", image.blobs[0].digest, own):
        put(ecr, own, image, "v1")
    upload_blobs(ecr, own, image)
    put(ecr, own, image, "v1")
    with fails_with("ImageAlreadyExistsException", image.digest, "'v1'"):
        put(ecr, own, image, "v1")
    with fails_with("ImageAlreadyExistsException", image.digest):
        put(ecr, own, image)
    assert put(ecr, own, image, "v2")["imageId"] == {"imageDigest": image.digest, "imageTag": "v2"}
    with fails_with("ReferencedImagesNotFoundException", own):
        put(ecr, own, two_platforms("absent"), "v3")
    text = image.manifest.body.decode()
    with fails_with("ImageDigestDoesNotMatchException"):
        ecr.put_image(repositoryName=own, imageManifest=text, imageDigest=small_image("x").digest)
    for broken in ("nonsense", "{}", json.dumps({"schemaVersion": 1}), "[" * 10_000):
        with fails_with("InvalidParameterException", "ImageManifest"):
            ecr.put_image(repositoryName=own, imageManifest=broken, imageTag="v4")
    for name, value in (("imageTag", "not a tag"), ("imageDigest", "sha256:short")):
        with fails_with("InvalidParameterException", name):
            ecr.put_image(repositoryName=own, imageManifest=text, **{name: value})


def test_an_immutable_tag_is_not_moved(ecr: Any, own: str) -> None:
    push(ecr, own, small_image("first"), "v1")
    ecr.put_image_tag_mutability(repositoryName=own, imageTagMutability="IMMUTABLE")
    second = small_image("second")
    upload_blobs(ecr, own, second)
    with fails_with("ImageTagAlreadyExistsException", "'v1'", own, "immutable"):
        put(ecr, own, second, "v1")


def test_nothing_is_put_where_an_upstream_fills(site: Site, ecr: Any, upstream_name: str) -> None:
    site.add(upstream_name)
    got(ecr, f"quay/{upstream_name}", {"imageTag": "latest"})
    with fails_with("InvalidParameterException", "quay.io"):
        put(ecr, f"quay/{upstream_name}", small_image(), "v1")


def test_half_a_character_in_a_manifest_harms_nothing(ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    manifest = json.loads(image.manifest.body) | {
        "artifactType": "application/x\ud800",
        "annotations": {"half": "\udc00"},
        "subject": image.manifest.descriptor(),
    }
    text = json.dumps(manifest)
    ecr.put_image(repositoryName=own, imageManifest=text, imageTag="half")
    (found,) = got(ecr, own, {"imageTag": "half"})["images"]
    assert found["imageManifest"] == text
    (referrer,) = referrers(ecr, own, image.digest)
    assert (referrer["artifactType"], referrer["annotations"]) == ("application/x\ufffd", {"half": "\ufffd"})


# BatchDeleteImage


def test_deletions_are_seen_by_every_worker(site: Site, ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    put(ecr, own, image, "v2")
    assert site.pulls(own, "v1") == {200}
    found = answer(ecr.batch_delete_image(repositoryName=own, imageIds=[{"imageTag": "v1"}]))
    assert found == {"imageIds": [{"imageDigest": image.digest, "imageTag": "v1"}], "failures": []}
    assert site.pulls(own, "v1") == {404}
    assert site.pulls(own, "v2") == {200}
    ecr.batch_delete_image(repositoryName=own, imageIds=[{"imageTag": "v2"}])
    assert site.pulls(own, image.digest) == {404}
    assert described(ecr, own) == {}


def test_what_is_not_deleted_says_why(ecr: Any, own: str) -> None:
    index = two_platforms(own)
    push(ecr, own, index, "v1")
    child = index.children["linux/amd64"].digest
    found = ecr.batch_delete_image(
        repositoryName=own,
        imageIds=[{"imageDigest": child}, {}, {"imageTag": "none"}, {"imageDigest": child, "imageTag": "v1"}],
    )
    assert sorted(codes(found)) == sorted(
        ["MissingDigestAndTag", "ImageReferencedByManifestList", "ImageNotFound", "ImageTagDoesNotMatchDigest"]
    )
    (referenced,) = [f for f in found["failures"] if f["failureCode"] == "ImageReferencedByManifestList"]
    assert referenced["failureReason"] == f"Requested image referenced by manifest list: [{index.digest}]"
    everything = [{"imageDigest": digest} for digest, _ in listed(ecr, own)]
    assert ecr.batch_delete_image(repositoryName=own, imageIds=everything)["failures"] == []
    assert listed(ecr, own) == []


def test_more_than_a_hundred_are_not_deleted_at_once(site: Site, own: str) -> None:
    with fails_with("InvalidParameterException", "100"):
        site.client(validate=False).batch_delete_image(
            repositoryName=own, imageIds=[{"imageTag": f"v{number}"} for number in range(101)]
        )


def test_a_deleted_image_of_a_cached_repository_is_filled_again(site: Site, ecr: Any, upstream_name: str) -> None:
    image = site.add(upstream_name)
    name = f"quay/{upstream_name}"
    assert site.pulls(name) == {200}
    found = ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageDigest": str(image.digest)}])
    assert found["imageIds"] == [{"imageDigest": image.digest, "imageTag": "latest"}]
    assert described(ecr, name) == {}
    assert site.pulls(name) == {200}
    assert site.open.requests.count(repository=upstream_name) == 2


def test_each_deletion_is_an_event(site: Site, ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    ecr.batch_delete_image(repositoryName=own, imageIds=[{"imageTag": "v1"}])

    def deleted() -> list[dict[str, Any]]:
        events = json.loads(site.engine.command("events", "--json"))["events"]
        return [
            e["detail"] for e in events if e["detail"].get("action-type") == "DELETE" and own in str(e["resources"])
        ]

    wait_for(lambda: bool(deleted()), "the event")
    (detail,) = deleted()
    assert (detail["repository-name"], detail["image-digest"], detail["image-tag"]) == (own, image.digest, "v1")
    assert detail["manifest-media-type"] == media_types.OCI_MANIFEST


# The archive


def test_archived_images_are_not_pulled_until_restored(site: Site, ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    assert site.pulls(own, "v1") == {200}
    archived = answer(
        ecr.update_image_storage_class(repositoryName=own, imageId={"imageTag": "v1"}, targetStorageClass="ARCHIVE")
    )
    assert archived == {
        "registryId": ACCOUNT_ID,
        "repositoryName": own,
        "imageId": {"imageDigest": image.digest, "imageTag": "v1"},
        "imageStatus": "ARCHIVED",
    }
    assert site.pulls(own, "v1") == {404}
    assert site.pulls(own, image.digest) == {404}
    assert codes(got(ecr, own, {"imageTag": "v1"})) == ["ImageInaccessible"]
    assert described(ecr, own) == {}
    assert listed(ecr, own) == []
    detail = described(ecr, own, filter={"imageStatus": "ARCHIVED"})[image.digest]
    assert detail["imageStatus"] == "ARCHIVED"
    assert isinstance(detail["lastArchivedAt"], datetime)
    assert set(described(ecr, own, imageIds=[{"imageTag": "v1"}])) == {image.digest}
    restored = ecr.update_image_storage_class(
        repositoryName=own, imageId={"imageDigest": image.digest}, targetStorageClass="STANDARD"
    )
    assert restored["imageStatus"] == "ACTIVE"
    assert site.pulls(own, "v1") == {200}
    assert isinstance(described(ecr, own)[image.digest]["lastActivatedAt"], datetime)


def test_an_archived_cached_image_costs_its_upstream_nothing(site: Site, ecr: Any, upstream_name: str) -> None:
    image = site.add(upstream_name)
    name = f"quay/{upstream_name}"
    assert site.pulls(name) == {200}
    ecr.update_image_storage_class(repositoryName=name, imageId={"imageTag": "latest"}, targetStorageClass="ARCHIVE")
    assert site.pulls(name) == {404}
    assert site.pulls(name, image.digest) == {404}
    assert site.open.requests.count(repository=upstream_name) == 1


def test_what_cannot_be_archived_says_why(ecr: Any, own: str) -> None:
    index = two_platforms(own)
    push(ecr, own, index, "v1")
    child = {"imageDigest": index.children["linux/arm64"].digest}
    with fails_with("ImageStorageClassUpdateNotSupportedException", "not supported", "manifest list"):
        ecr.update_image_storage_class(repositoryName=own, imageId=child, targetStorageClass="ARCHIVE")
    with fails_with("ImageNotFoundException", "'none'", own):
        ecr.update_image_storage_class(repositoryName=own, imageId={"imageTag": "none"}, targetStorageClass="ARCHIVE")
    with fails_with("InvalidParameterException", "imageId"):
        ecr.update_image_storage_class(repositoryName=own, imageId={}, targetStorageClass="ARCHIVE")
    ecr.update_image_storage_class(repositoryName=own, imageId={"imageTag": "v1"}, targetStorageClass="ARCHIVE")
    assert len(described(ecr, own, filter={"imageStatus": "ARCHIVED"})) == 3


# ListImageReferrers


def referrers(ecr: Any, name: str, subject: str, **more: Any) -> list[dict[str, Any]]:
    """All pages of two."""
    found: list[dict[str, Any]] = []
    token: dict[str, str] = {}
    while True:
        page = ecr.list_image_referrers(
            repositoryName=name, subjectId={"imageDigest": subject}, maxResults=2, **token, **more
        )
        assert len(page["referrers"]) <= 2
        found += page["referrers"]
        if "nextToken" not in page:
            return found
        token = {"nextToken": page["nextToken"]}


def test_referrers_of_a_pushed_image_come_in_pages_and_by_type(ecr: Any, own: str) -> None:
    image = small_image(own)
    push(ecr, own, image, "v1")
    kinds = ["application/a", "application/a", "application/b", "application/c"]
    artifacts = [images.artifact(kind, b"%d" % at, subject=image.manifest) for at, kind in enumerate(kinds)]
    for artifact in artifacts:
        attach(ecr, own, artifact)
    found = referrers(ecr, own, image.digest)
    assert [entry["digest"] for entry in found] == sorted(artifact.digest for artifact in artifacts)
    by_digest = {entry["digest"]: entry for entry in found}
    assert by_digest[artifacts[2].digest] | {"annotations": None} == {
        "digest": artifacts[2].digest,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": "application/b",
        "size": len(artifacts[2].manifest.body),
        "artifactStatus": "ACTIVE",
        "annotations": None,
    }
    of_types = referrers(ecr, own, image.digest, filter={"artifactTypes": ["application/b", "application/c"]})
    assert {entry["artifactType"] for entry in of_types} == {"application/b", "application/c"}
    assert referrers(ecr, own, small_image("unknown").digest) == []
    archived = artifacts[0].digest
    ecr.update_image_storage_class(repositoryName=own, imageId={"imageDigest": archived}, targetStorageClass="ARCHIVE")
    assert len(referrers(ecr, own, image.digest)) == 3
    assert len(referrers(ecr, own, image.digest, filter={"artifactStatus": "ANY"})) == 4
    (gone,) = referrers(ecr, own, image.digest, filter={"artifactStatus": "ARCHIVED"})
    assert (gone["digest"], gone["artifactStatus"]) == (archived, "ARCHIVED")


def test_referrers_of_a_cached_image_are_its_upstreams(site: Site, ecr: Any, upstream_name: str) -> None:
    image = site.add(upstream_name)
    signature = demo.make_artifact("signature", subject=image, annotations={"key": "value", "half": "\ud800"})
    site.open.add(upstream_name, signature)
    for _ in range(TRIES):
        (found,) = referrers(ecr, f"quay/{upstream_name}", image.digest)
        assert found["digest"] == signature.digest
        assert found["annotations"] == {"key": "value", "half": "\ufffd"}
    assert site.open.requests.count(repository=upstream_name) == 1


def test_referrers_that_cannot_be_listed_are_an_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_site(tmp_path_factory.mktemp("referrers"), 1) as site:
        image = site.add("acme/app")
        site.open.script(Status(503))
        with fails_with("UnableToListUpstreamImageReferrersException", "quay.io"):
            referrers(site.client(), "quay/acme/app", image.digest)
        with fails_with("InvalidParameterException"):
            referrers(site.client(), "quay/acme/app", "sha256:short")


# After a restart


def test_a_deletion_and_an_archive_outlive_a_kill(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_site(tmp_path_factory.mktemp("killed"), 2) as site:
        ecr = site.client()
        ecr.create_repository(repositoryName="own/app")
        for mark in ("deleted", "archived", "kept"):
            push(ecr, "own/app", small_image(mark), mark)
        ecr.batch_delete_image(repositoryName="own/app", imageIds=[{"imageTag": "deleted"}])
        ecr.update_image_storage_class(
            repositoryName="own/app", imageId={"imageTag": "archived"}, targetStorageClass="ARCHIVE"
        )
        site.engine.kill()
        site.engine.start()
        assert {tag: site.pulls("own/app", tag) for tag in ("deleted", "archived", "kept")} == {
            "deleted": {404},
            "archived": {404},
            "kept": {200},
        }
