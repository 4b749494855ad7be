"""Layers through the API: uploads in parts, availability, download URLs; and a pull that uses nothing else.

What moto has too is in tests/contracts/aws.
"""

from __future__ import annotations

import re
import uuid
from typing import Any
from urllib.parse import urlsplit

import pytest

from pullthrough.demo import images as demo
from tests.aws import ACCOUNT_ID, answer, fails_with, push, put, small_image, unique, upload_blobs
from tests.e2e.images import digest_of
from tests.fakes.upstream import Status
from tests.integration.ecr import TRIES, Site, open_site


def upload(ecr: Any, name: str, *parts: bytes) -> str:
    """A new upload with these parts; its id."""
    upload_id: str = ecr.initiate_layer_upload(repositoryName=name)["uploadId"]
    first = 0
    for part in parts:
        send(ecr, name, upload_id, first, part)
        first += len(part)
    return upload_id


def send(ecr: Any, name: str, upload_id: str, first: int, part: bytes) -> int:
    said = ecr.upload_layer_part(
        repositoryName=name,
        uploadId=upload_id,
        partFirstByte=first,
        partLastByte=first + len(part) - 1,
        layerPartBlob=part,
    )
    received: int = said["lastByteReceived"]
    return received


def complete(ecr: Any, name: str, upload_id: str, *digests: str) -> dict[str, Any]:
    return answer(ecr.complete_layer_upload(repositoryName=name, uploadId=upload_id, layerDigests=list(digests)))


def availability(ecr: Any, name: str, *digests: str) -> dict[str, str]:
    found = ecr.batch_check_layer_availability(repositoryName=name, layerDigests=list(digests))
    assert found["failures"] == []
    return {layer["layerDigest"]: layer["layerAvailability"] for layer in found["layers"]}


def download(site: Site, ecr: Any, name: str, digest: str) -> bytes:
    """By the URL that the API gives, which needs nothing else."""
    url = ecr.get_download_url_for_layer(repositoryName=name, layerDigest=digest)["downloadUrl"]
    assert url.startswith(f"{site.engine.url}/v2/")
    found = site.engine.get(f"{urlsplit(url).path}?{urlsplit(url).query}")
    assert found.status == 200
    return found.body


# Uploads


def test_parts_make_a_layer_whichever_worker_takes_them(site: Site, ecr: Any, own: str) -> None:
    parts = [bytes([number]) * 10_000 for number in range(TRIES)]
    digest = digest_of(b"".join(parts))
    upload_id = site.client().initiate_layer_upload(repositoryName=own)["uploadId"]
    for number, part in enumerate(parts):
        # A client of its own has a connection of its own.
        assert send(site.client(), own, upload_id, number * 10_000, part) == number * 10_000 + 9_999
    assert complete(site.client(), own, upload_id, digest) == {
        "registryId": ACCOUNT_ID,
        "repositoryName": own,
        "uploadId": upload_id,
        "layerDigest": digest,
    }
    assert availability(ecr, own, digest) == {digest: "AVAILABLE"}
    assert site.engine.get(f"/v2/{own}/blobs/{digest}").body == b"".join(parts)


def test_a_part_may_have_twenty_mebibytes(site: Site, ecr: Any, own: str) -> None:
    body = b"".join(demo.pseudo_random_chunks("a large part", 20 * 1024 * 1024))
    upload_id = upload(ecr, own, body)
    complete(ecr, own, upload_id, digest_of(body))
    with fails_with("InvalidParameterException", "20971520"):
        send(site.client(validate=False), own, upload(ecr, own), 0, body + b"x")


def test_parts_come_one_after_the_other(ecr: Any, own: str) -> None:
    upload_id = upload(ecr, own, b"0123456789")
    for first, part in ((20, b"later"), (0, b"again"), (5, b"overlap")):
        with pytest.raises(ecr.exceptions.InvalidLayerPartException) as caught:
            send(ecr, own, upload_id, first, part)
        error = caught.value.response
        assert (error["lastValidByteReceived"], error["uploadId"], error["repositoryName"], error["registryId"]) == (
            9,
            upload_id,
            own,
            ACCOUNT_ID,
        )
    with pytest.raises(ecr.exceptions.InvalidLayerPartException) as caught:
        ecr.upload_layer_part(
            repositoryName=own, uploadId=upload_id, partFirstByte=10, partLastByte=99, layerPartBlob=b"few"
        )
    assert caught.value.response["lastValidByteReceived"] == 9
    with pytest.raises(ecr.exceptions.InvalidLayerPartException) as caught:
        send(ecr, own, upload(ecr, own), 5, b"not the beginning")
    assert "lastValidByteReceived" not in caught.value.response
    assert send(ecr, own, upload_id, 10, b"right") == 14
    complete(ecr, own, upload_id, digest_of(b"0123456789right"))


def test_an_upload_ends_with_its_own_digest_only(ecr: Any, own: str) -> None:
    with fails_with("EmptyUploadException"):
        complete(ecr, own, upload(ecr, own), digest_of(b""))
    upload_id = upload(ecr, own, b"body")
    with fails_with("InvalidLayerException", digest_of(b"body")):
        complete(ecr, own, upload_id, digest_of(b"another"))
    assert availability(ecr, own, digest_of(b"body"), digest_of(b"another")) == {
        digest_of(b"body"): "UNAVAILABLE",
        digest_of(b"another"): "UNAVAILABLE",
    }
    for digests in ([digest_of(b"1"), digest_of(b"2")], ["md5:00"]):
        with fails_with("InvalidParameterException"):
            complete(ecr, own, upload(ecr, own, b"body"), *digests)


def test_an_upload_belongs_to_its_repository_and_ends_once(ecr: Any, own: str) -> None:
    upload_id = upload(ecr, own, b"body")
    other = unique("own/other")
    ecr.create_repository(repositoryName=other)
    for name, wrong in ((other, upload_id), (own, str(uuid.uuid4()))):
        with fails_with("UploadNotFoundException", wrong, name):
            send(ecr, name, wrong, 4, b"more")
        with fails_with("UploadNotFoundException", wrong, name):
            complete(ecr, name, wrong, digest_of(b"body"))
    complete(ecr, own, upload_id, digest_of(b"body"))
    with fails_with("UploadNotFoundException"):
        complete(ecr, own, upload_id, digest_of(b"body"))


def test_a_layer_that_is_there_is_not_taken_again(ecr: Any, own: str) -> None:
    complete(ecr, own, upload(ecr, own, b"body"), digest_of(b"body"))
    again = upload(ecr, own, b"body")
    with fails_with("LayerAlreadyExistsException", digest_of(b"body"), own):
        complete(ecr, own, again, digest_of(b"body"))
    with fails_with("UploadNotFoundException"):
        complete(ecr, own, again, digest_of(b"body"))


def test_nothing_is_uploaded_where_it_could_not_be_put(site: Site, ecr: Any) -> None:
    absent, some = unique("own/absent"), str(uuid.uuid4())
    for call in (
        lambda name: ecr.initiate_layer_upload(repositoryName=name),
        lambda name: send(ecr, name, some, 0, b"x"),
        lambda name: complete(ecr, name, some, digest_of(b"x")),
    ):
        with fails_with("RepositoryNotFoundException", absent, ACCOUNT_ID):
            call(absent)
        with fails_with("InvalidParameterException", "quay.io"):
            call("quay/acme/app")


def test_a_template_for_pushes_makes_the_repository(ecr: Any) -> None:
    prefix = unique("templated")
    ecr.create_repository_creation_template(prefix=prefix, appliedFor=["CREATE_ON_PUSH"])
    image = small_image(prefix)
    push(ecr, f"{prefix}/app", image, "v1")
    assert ecr.describe_repositories(repositoryNames=[f"{prefix}/app"])["repositories"]


def test_an_upload_goes_on_after_a_kill(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_site(tmp_path_factory.mktemp("killed"), 2) as site:
        ecr = site.client()
        ecr.create_repository(repositoryName="own/app")
        upload_id = upload(ecr, "own/app", b"before")
        site.engine.kill()
        site.engine.start()
        assert send(ecr, "own/app", upload_id, 6, b"after") == 10
        complete(ecr, "own/app", upload_id, digest_of(b"beforeafter"))
        assert availability(ecr, "own/app", digest_of(b"beforeafter")) == {digest_of(b"beforeafter"): "AVAILABLE"}


# Availability


def test_availability_says_what_a_pull_of_the_repository_would_find(site: Site, ecr: Any, own: str) -> None:
    image = small_image(own)
    upload_blobs(ecr, own, image)
    layer, config = image.blobs[1], image.blobs[0]
    put(ecr, own, image, "v1")
    absent = digest_of(b"absent")
    found = ecr.batch_check_layer_availability(
        repositoryName=own, layerDigests=[layer.digest, config.digest, absent, "sha256:short", ""]
    )
    assert found["layers"] == [
        {
            "layerDigest": layer.digest,
            "layerAvailability": "AVAILABLE",
            "layerSize": len(layer.body),
            "mediaType": layer.media_type,
        },
        {
            "layerDigest": config.digest,
            "layerAvailability": "AVAILABLE",
            "layerSize": len(config.body),
            "mediaType": config.media_type,
        },
        {"layerDigest": absent, "layerAvailability": "UNAVAILABLE"},
    ]
    failures = {failure["layerDigest"]: failure["failureCode"] for failure in found["failures"]}
    assert failures == {"sha256:short": "InvalidLayerDigest", "": "MissingLayerDigest"}
    ecr.update_image_storage_class(repositoryName=own, imageId={"imageTag": "v1"}, targetStorageClass="ARCHIVE")
    assert availability(ecr, own, layer.digest) == {layer.digest: "ARCHIVED"}


def test_another_repositorys_layer_is_not_available(ecr: Any, own: str) -> None:
    other = unique("own/other")
    ecr.create_repository(repositoryName=other)
    complete(ecr, other, upload(ecr, other, b"theirs"), digest_of(b"theirs"))
    assert availability(ecr, own, digest_of(b"theirs")) == {digest_of(b"theirs"): "UNAVAILABLE"}
    with fails_with("RepositoryNotFoundException"):
        availability(ecr, unique("own/absent"), digest_of(b"theirs"))


# Download URLs


def test_a_url_is_for_one_layer_of_one_repository(site: Site, ecr: Any, own: str) -> None:
    image, other = small_image(own), small_image(f"{own} other")
    push(ecr, own, image, "v1")
    push(ecr, own, other, "v2")
    layer = image.blobs[1]
    given = answer(ecr.get_download_url_for_layer(repositoryName=own, layerDigest=layer.digest))
    assert given["layerDigest"] == layer.digest
    url = urlsplit(given["downloadUrl"])
    assert site.engine.get(f"{url.path}?{url.query}").body == layer.body
    ranged = site.engine.get(f"{url.path}?{url.query}", headers={"Range": "bytes=1-3"})
    assert (ranged.status, ranged.body) == (206, layer.body[1:4])
    forged = re.sub(r"Expires=\d+", "Expires=99999999999", url.query)
    for path, query in (
        (url.path.replace(layer.digest, other.blobs[1].digest), url.query),
        (url.path, forged),
        (url.path, url.query[:-4] + "0000"),
    ):
        assert site.engine.get(f"{path}?{query}").status == 403


def test_only_layers_of_images_have_urls(ecr: Any, own: str) -> None:
    complete(ecr, own, upload(ecr, own, b"loose"), digest_of(b"loose"))
    with fails_with("LayerInaccessibleException", "not associated with an image"):
        ecr.get_download_url_for_layer(repositoryName=own, layerDigest=digest_of(b"loose"))
    with fails_with("LayersNotFoundException", digest_of(b"absent"), own):
        ecr.get_download_url_for_layer(repositoryName=own, layerDigest=digest_of(b"absent"))
    with fails_with("RepositoryNotFoundException"):
        ecr.get_download_url_for_layer(repositoryName=unique("own/absent"), layerDigest=digest_of(b"absent"))
    with fails_with("InvalidParameterException"):
        ecr.get_download_url_for_layer(repositoryName=own, layerDigest="md5:00")
    image = small_image(own)
    push(ecr, own, image, "v1")
    ecr.update_image_storage_class(repositoryName=own, imageId={"imageTag": "v1"}, targetStorageClass="ARCHIVE")
    with fails_with("LayerInaccessibleException", "archived"):
        ecr.get_download_url_for_layer(repositoryName=own, layerDigest=image.blobs[1].digest)


def test_a_layer_that_was_not_cached_is_fetched_through_its_url_once(site: Site, ecr: Any) -> None:
    name = unique("acme/app")
    image = site.add(name)
    ecr.batch_get_image(repositoryName=f"quay/{name}", imageIds=[{"imageTag": "latest"}])
    layer = image.blobs[1]
    assert availability(ecr, f"quay/{name}", layer.digest) == {layer.digest: "AVAILABLE"}
    for _ in range(TRIES):
        assert download(site, ecr, f"quay/{name}", layer.digest) == layer.read()
    assert site.open.requests.count(repository=name, kind="blob", reference=layer.digest) == 1


def test_a_layer_that_the_upstream_does_not_give_is_an_error_of_its_url(site: Site, ecr: Any) -> None:
    name = unique("acme/app")
    image = site.add(name)
    ecr.batch_get_image(repositoryName=f"quay/{name}", imageIds=[{"imageTag": "latest"}])
    site.open.script(Status(404), kind="blob", repository=name)
    url = urlsplit(
        ecr.get_download_url_for_layer(repositoryName=f"quay/{name}", layerDigest=image.blobs[1].digest)["downloadUrl"]
    )
    assert site.engine.get(f"{url.path}?{url.query}").status == 404


# All of it


def test_a_client_that_knows_nothing_but_the_api_pushes_and_pulls(site: Site, ecr: Any, own: str) -> None:
    """As amazon-ecr-containerd-resolver does: one id a call, then each layer by its URL."""
    image = small_image(own)
    push(ecr, own, image, "v1")
    types = ["application/vnd.oci.image.manifest.v1+json"]
    (by_tag,) = ecr.batch_get_image(repositoryName=own, imageIds=[{"imageTag": "v1"}], acceptedMediaTypes=types)[
        "images"
    ]
    digest = by_tag["imageId"]["imageDigest"]
    (found,) = ecr.batch_get_image(
        repositoryName=own, imageIds=[{"imageDigest": digest, "imageTag": "v1"}], acceptedMediaTypes=types
    )["images"]
    assert digest_of(found["imageManifest"].encode()) == digest == image.digest
    for blob in image.blobs:
        assert download(site, ecr, own, blob.digest) == blob.body
    assert site.engine.get(f"/v2/{own}/manifests/v1").body == image.manifest.body
