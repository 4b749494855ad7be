"""ECR images and layers through the API: uploaded, put, described, got, deleted."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, answer, fails_with, push, put, small_image, unique, upload_blobs
from tests.e2e import images
from tests.e2e.images import OCI_INDEX, OCI_MANIFEST, Image


@pytest.fixture
def image() -> Image:
    return small_image(unique("image"))


def test_login_token_is_for_the_user_aws_and_this_registry(ecr: Any) -> None:
    (data,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    assert password
    assert data["proxyEndpoint"].startswith("http")


@pytest.mark.moto_trap("token-expiry")
def test_login_token_is_good_for_twelve_hours(ecr: Any) -> None:
    (data,) = ecr.get_authorization_token()["authorizationData"]
    left = data["expiresAt"] - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=11, minutes=55) < left < datetime.timedelta(hours=12, minutes=5)


def test_uploaded_layer_is_available(ecr: Any, repository: str) -> None:
    body = b"a layer of two parts" * 100
    digest = images.digest_of(body)
    begun = ecr.initiate_layer_upload(repositoryName=repository)
    assert begun["partSize"] > 0
    for first in (0, 1000):
        part = body[first : first + 1000]
        said = ecr.upload_layer_part(
            repositoryName=repository,
            uploadId=begun["uploadId"],
            partFirstByte=first,
            partLastByte=first + len(part) - 1,
            layerPartBlob=part,
        )
        assert said["lastByteReceived"] == first + len(part) - 1
    done = answer(
        ecr.complete_layer_upload(repositoryName=repository, uploadId=begun["uploadId"], layerDigests=[digest])
    )
    assert done == {
        "registryId": ACCOUNT_ID,
        "repositoryName": repository,
        "uploadId": begun["uploadId"],
        "layerDigest": digest,
    }
    (layer,) = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[digest])["layers"]
    assert (layer["layerDigest"], layer["layerAvailability"], layer["layerSize"]) == (digest, "AVAILABLE", len(body))


@pytest.mark.moto_trap("absent-layer")
def test_absent_layer_is_unavailable_and_no_failure(ecr: Any, repository: str) -> None:
    absent = "sha256:" + "0" * 64
    found = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=[absent])
    assert [layer["layerAvailability"] for layer in found["layers"]] == ["UNAVAILABLE"]
    assert found["failures"] == []


def test_malformed_layer_digest_is_a_failure(ecr: Any, repository: str) -> None:
    found = ecr.batch_check_layer_availability(repositoryName=repository, layerDigests=["sha256:zz"])
    assert [failure["failureCode"] for failure in found["failures"]] == ["InvalidLayerDigest"]


def test_part_out_of_order_is_refused(ecr: Any, repository: str) -> None:
    upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
    with fails_with("InvalidLayerPartException"):
        ecr.upload_layer_part(
            repositoryName=repository, uploadId=upload, partFirstByte=10, partLastByte=12, layerPartBlob=b"abc"
        )


def test_unknown_upload_is_not_found(ecr: Any, repository: str) -> None:
    upload = "00000000-0000-4000-8000-000000000000"
    with fails_with("UploadNotFoundException"):
        ecr.upload_layer_part(
            repositoryName=repository, uploadId=upload, partFirstByte=0, partLastByte=2, layerPartBlob=b"abc"
        )
    with fails_with("UploadNotFoundException"):
        ecr.complete_layer_upload(
            repositoryName=repository, uploadId=upload, layerDigests=["sha256:" + hashlib.sha256(b"abc").hexdigest()]
        )


@pytest.mark.moto_trap("layer-digest")
def test_layer_of_another_digest_is_refused(ecr: Any, repository: str) -> None:
    upload = ecr.initiate_layer_upload(repositoryName=repository)["uploadId"]
    ecr.upload_layer_part(
        repositoryName=repository, uploadId=upload, partFirstByte=0, partLastByte=2, layerPartBlob=b"abc"
    )
    with fails_with("InvalidLayerException"):
        ecr.complete_layer_upload(repositoryName=repository, uploadId=upload, layerDigests=["sha256:" + "0" * 64])


@pytest.mark.moto_trap("manifest-digest")
def test_image_has_the_digest_of_its_manifest(ecr: Any, repository: str, image: Image) -> None:
    upload_blobs(ecr, repository, image)
    assert put(ecr, repository, image, "1")["imageId"] == {"imageDigest": image.digest, "imageTag": "1"}


def test_put_image_is_given_back(ecr: Any, repository: str, image: Image) -> None:
    upload_blobs(ecr, repository, image)
    made = put(ecr, repository, image, "1")
    assert made["registryId"] == ACCOUNT_ID
    assert made["repositoryName"] == repository
    assert made["imageId"]["imageTag"] == "1"
    got = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "1"}])
    assert got["failures"] == []
    (found,) = got["images"]
    assert found["imageManifest"] == image.manifest.body.decode()
    assert found["imageManifestMediaType"] == OCI_MANIFEST
    assert found["imageId"] == made["imageId"]


@pytest.mark.moto_trap("layers-not-there")
def test_image_whose_layers_are_not_there_is_refused(ecr: Any, repository: str, image: Image) -> None:
    with fails_with("LayersNotFoundException"):
        put(ecr, repository, image, "1")


@pytest.mark.moto_trap("children-not-there")
def test_index_whose_images_are_not_there_is_refused(ecr: Any, repository: str, image: Image) -> None:
    with fails_with("ReferencedImagesNotFoundException"):
        put(ecr, repository, images.index({"linux/amd64": image}), "1")


@pytest.mark.moto_trap("malformed-manifest")
def test_malformed_manifest_is_refused(ecr: Any, repository: str) -> None:
    with fails_with("InvalidParameterException"):
        ecr.put_image(repositoryName=repository, imageManifest="{", imageTag="1")


def test_image_is_described(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    (found,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert found["registryId"] == ACCOUNT_ID
    assert found["repositoryName"] == repository
    assert found["imageTags"] == ["1"]
    assert isinstance(found["imagePushedAt"], datetime.datetime)
    assert found["imageManifestMediaType"] == OCI_MANIFEST
    by_digest = ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": found["imageDigest"]}])
    assert by_digest["imageDetails"] == [found]
    by_tag = ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "1"}])
    assert by_tag["imageDetails"] == [found]


@pytest.mark.moto_trap("image-size")
def test_size_of_an_image_is_that_of_its_layers(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    (found,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    layers = sum(len(blob.body) for blob in image.blobs[1:])
    # AWS says "the size of the image"; whether the config counts is not documented.
    assert found["imageSizeInBytes"] in {layers, layers + len(image.blobs[0].body)}


def test_untagged_image_has_no_tags_member(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image)
    (found,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert "imageTags" not in found


def test_tagged_and_untagged_are_told_apart(ecr: Any, repository: str) -> None:
    tagged, untagged = small_image("tagged"), small_image("untagged")
    push(ecr, repository, tagged, "1")
    push(ecr, repository, untagged)
    by_status = {
        status: ecr.list_images(repositoryName=repository, filter={"tagStatus": status})["imageIds"]
        for status in ("TAGGED", "UNTAGGED", "ANY")
    }
    assert [one.get("imageTag") for one in by_status["TAGGED"]] == ["1"]
    assert [one.get("imageTag") for one in by_status["UNTAGGED"]] == [None]
    assert len(by_status["ANY"]) == 2


def test_every_tag_is_listed(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    put(ecr, repository, image, "1.0")
    listed = ecr.list_images(repositoryName=repository)["imageIds"]
    assert sorted(one["imageTag"] for one in listed) == ["1", "1.0"]
    assert len({one["imageDigest"] for one in listed}) == 1
    (found,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert sorted(found["imageTags"]) == ["1", "1.0"]


@pytest.mark.moto_trap("paging")
def test_images_come_in_pages(ecr: Any, repository: str) -> None:
    for number in range(3):
        push(ecr, repository, small_image(str(number)), str(number))
    for operation, member in (("list_images", "imageIds"), ("describe_images", "imageDetails")):
        pages = list(ecr.get_paginator(operation).paginate(repositoryName=repository, PaginationConfig={"PageSize": 2}))
        assert [len(page[member]) for page in pages] == [2, 1]
        found = [one["imageDigest"] for page in pages for one in page[member]]
        assert len(set(found)) == 3


def test_tag_moves_to_the_newer_image(ecr: Any, repository: str) -> None:
    old, new = small_image("old"), small_image("new")
    push(ecr, repository, old, "1")
    push(ecr, repository, new, "1")
    (found,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "1"}])["images"]
    assert found["imageManifest"] == new.manifest.body.decode()


@pytest.mark.moto_trap("untagged-by-a-move")
def test_image_that_lost_its_tag_stays(ecr: Any, repository: str) -> None:
    old, new = small_image("old"), small_image("new")
    push(ecr, repository, old, "1")
    push(ecr, repository, new, "1")
    details = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert {one["imageDigest"]: one.get("imageTags") for one in details} == {old.digest: None, new.digest: ["1"]}


def test_same_image_under_the_same_tag_is_refused(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    with fails_with("ImageAlreadyExistsException", f"'{repository}'"):
        put(ecr, repository, image, "1")


@pytest.mark.moto_trap("immutable-tag")
def test_immutable_tag_does_not_move(ecr: Any, repository: str) -> None:
    ecr.put_image_tag_mutability(repositoryName=repository, imageTagMutability="IMMUTABLE")
    old, new = small_image("old"), small_image("new")
    push(ecr, repository, old, "1")
    upload_blobs(ecr, repository, new)
    with fails_with("ImageTagAlreadyExistsException", repository):
        put(ecr, repository, new, "1")
    (found,) = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "1"}])["images"]
    assert found["imageManifest"] == old.manifest.body.decode()


@pytest.mark.moto_trap("failed-image-id")
def test_image_that_is_not_there_is_a_failure(ecr: Any, repository: str) -> None:
    digest = "sha256:" + "0" * 64
    wanted = [{"imageTag": "1"}, {"imageDigest": digest}]
    got = ecr.batch_get_image(repositoryName=repository, imageIds=wanted)
    assert got["images"] == []
    assert [(one["imageId"], one["failureCode"]) for one in got["failures"]] == [
        (identifier, "ImageNotFound") for identifier in wanted
    ]


def test_missing_image_is_said_in_the_words_of_aws(ecr: Any, repository: str) -> None:
    got = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageTag": "1"}])
    (failure,) = got["failures"]
    assert failure["failureCode"] == "ImageNotFound"
    assert failure["failureReason"].startswith("Requested image not found")
    assert failure["failureReason"].count("not found") == 1
    said = (
        "The image with imageId {imageDigest:'null', imageTag:'1'} does not exist within the repository "
        f"with name '{repository}' in the registry with id '{ACCOUNT_ID}'"
    )
    with fails_with("ImageNotFoundException", said):
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "1"}])


def test_deleting_a_tag_keeps_the_others(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    put(ecr, repository, image, "2")
    deleted = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": "1"}])
    assert deleted["failures"] == []
    assert [one["imageTag"] for one in deleted["imageIds"]] == ["1"]
    assert [one["imageTag"] for one in ecr.list_images(repositoryName=repository)["imageIds"]] == ["2"]


def test_deleting_by_digest_takes_every_tag(ecr: Any, repository: str, image: Image) -> None:
    push(ecr, repository, image, "1")
    put(ecr, repository, image, "2")
    digest = ecr.list_images(repositoryName=repository)["imageIds"][0]["imageDigest"]
    deleted = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
    assert deleted["failures"] == []
    assert sorted(one["imageTag"] for one in deleted["imageIds"]) == ["1", "2"]
    assert ecr.list_images(repositoryName=repository)["imageIds"] == []


def test_what_cannot_be_deleted_is_a_failure(ecr: Any, repository: str) -> None:
    absent = "sha256:" + "0" * 64
    got = ecr.batch_delete_image(
        repositoryName=repository,
        imageIds=[{}, {"imageDigest": "sha256:zz"}, {"imageTag": "1"}, {"imageDigest": absent}],
    )
    assert got["imageIds"] == []
    assert [one["failureCode"] for one in got["failures"]] == [
        "MissingDigestAndTag",
        "InvalidImageDigest",
        "ImageNotFound",
        "ImageNotFound",
    ]
    assert [one["imageId"] for one in got["failures"]][1:] == [
        {"imageDigest": "sha256:zz"},
        {"imageTag": "1"},
        {"imageDigest": absent},
    ]


@pytest.mark.moto_trap("index-protection")
def test_child_of_an_index_is_not_deleted(ecr: Any, repository: str, image: Image) -> None:
    index = images.index({"linux/amd64": image})
    push(ecr, repository, index, "1")
    got = ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": image.digest}])
    assert [one["failureCode"] for one in got["failures"]] == ["ImageReferencedByManifestList"]


def test_index_is_put_with_its_images(ecr: Any, repository: str, image: Image) -> None:
    index = images.index({"linux/amd64": image})
    push(ecr, repository, index, "1")
    (found,) = ecr.batch_get_image(
        repositoryName=repository, imageIds=[{"imageTag": "1"}], acceptedMediaTypes=[OCI_INDEX, OCI_MANIFEST]
    )["images"]
    assert json.loads(found["imageManifest"])["manifests"][0]["digest"] == image.digest
