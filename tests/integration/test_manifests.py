"""Manifests come through byte for byte, under the digest that was asked for, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pullthrough.demo.images import EMPTY_CONFIG, Image, StoredManifest, make_artifact, make_image, make_index
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from tests.fakes.upstream import (
    Action,
    ClaimLength,
    Close,
    Gate,
    Gzip,
    Hang,
    Headers,
    HugeBody,
    HugeHeaders,
    Replace,
    Status,
)
from tests.integration.lanes import Lane, Lanes, at_once, error_of, opening

IMAGE = make_image("plain")
OTHER = make_image("other")


def _image_of(document: dict[str, object], *, size_bytes: int = 0) -> Image:
    body = json.dumps(document).encode()
    body += b" " * (size_bytes - len(body))
    return Image(StoredManifest(digest_of(body), str(document["mediaType"]), body))


KINDS = {
    "oci image": IMAGE,
    "docker schema 2": make_image("docker", docker=True),
    "oci index": make_index(make_image("amd64"), make_image("arm64", platform="linux/arm64")),
    "docker list": make_index(make_image("d1", docker=True), make_image("d2", docker=True), docker=True),
    "index of indexes": make_index(make_index(make_image("inner")), make_image("beside")),
    "index with an attestation": make_index(make_image("attested"), make_image("proof", platform="")),
    "artifact with a subject": make_artifact("signature", subject=IMAGE),
    "oci 1.1 artifact manifest": _image_of(
        {"mediaType": media_types.OCI_ARTIFACT, "artifactType": "application/vnd.example", "blobs": []}
    ),
    "image of no layers": _image_of(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {"mediaType": EMPTY_CONFIG, "digest": digest_of(b"{}"), "size": 2},
            "layers": [],
        }
    ),
    "layers elsewhere, which are never fetched": _image_of(
        {
            "schemaVersion": 2,
            "mediaType": media_types.DOCKER_MANIFEST,
            "config": {"mediaType": EMPTY_CONFIG, "digest": digest_of(b"{}"), "size": 2},
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                    "digest": digest_of(b"foreign"),
                    "size": 7,
                    "urls": ["http://169.254.169.254/latest/meta-data"],
                }
            ],
        }
    ),
    "odd but valid JSON": _image_of(
        {"unknown": "ünïcode \u2603", "mediaType": media_types.OCI_INDEX, "schemaVersion": 2, "manifests": []}
    ),
    "4 MiB": _image_of(
        {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}, size_bytes=MAX_MANIFEST_BYTES
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_media_type_and_digest_are_untouched_by_tag_and_by_digest_cold_and_warm(lanes: Lanes, kind: str) -> None:
    image, lane = KINDS[kind], lanes("fresh")
    lane.add(image, "1")
    for reference, outcome in (("1", "miss"), ("1", "hit"), (image.digest, "hit")):
        answer = lane.get(reference)
        assert (answer.status, answer.outcome, answer.body) == (200, outcome, image.manifest.body)
        assert answer.headers["content-type"] == image.manifest.media_type
        assert answer.headers["docker-content-digest"] == image.digest
        assert answer.headers["etag"] == f'"{image.digest}"'
        assert answer.headers["content-length"] == str(len(image.manifest.body))
        head = lane.get(reference, method="HEAD")
        assert (head.body, head.headers["content-length"]) == (b"", answer.headers["content-length"])
        assert head.headers["content-type"] == image.manifest.media_type
    assert lane.cost() == {"GET": 1}
    assert lane.cost("blob") == {}, "a manifest alone causes no transfer of blobs"


def test_a_digest_that_is_not_cached_is_filled_by_digest(lanes: Lanes) -> None:
    """Pinned digests, without any tag: the child of an index before the index itself."""
    index = make_index(IMAGE, OTHER)
    lane = lanes("fresh")
    lane.add(index)
    for image in (OTHER, index, IMAGE):
        assert [lane.get(image.digest).outcome for _ in range(3)] == ["miss", "hit", "hit"]
    assert lane.cost() == {"GET": 3}


def test_an_index_is_whole_though_only_one_platform_is_there(lanes: Lanes) -> None:
    index, lane = make_index(IMAGE, OTHER), lanes("fresh")
    lane.add(index, "1")
    lane.upstream.remove_manifest(lane.repository, OTHER.digest)
    assert lane.get("1").body == index.manifest.body
    assert lane.get(IMAGE.digest).status == 200
    assert error_of(lane.get(OTHER.digest))[:2] == (404, "MANIFEST_UNKNOWN")


def test_many_clients_on_one_cold_digest_cost_one_get(lanes: Lanes) -> None:
    lane, gate = lanes("fresh"), Gate()
    lane.add(IMAGE)
    lane.script(Hang(gate, after_bytes=10))
    with opening(gate):
        answers = at_once(16, lambda: lane.get(IMAGE.digest))
    assert {answer.body for answer in answers} == {IMAGE.manifest.body}
    assert lane.cost() == {"GET": 1}


def test_a_digest_of_sha512_is_kept_under_it(lanes: Lanes) -> None:
    lane = lanes("fresh")
    manifest = StoredManifest(digest_of(IMAGE.manifest.body, "sha512"), IMAGE.manifest.media_type, IMAGE.manifest.body)
    lane.add(Image(manifest))
    assert [lane.get(manifest.digest).outcome for _ in range(2)] == ["miss", "hit"]
    assert lane.get(manifest.digest).headers["docker-content-digest"] == manifest.digest


@pytest.mark.parametrize("by", ["digest", "tag"])
def test_a_wrong_body_is_never_served_nor_kept(lanes: Lanes, by: str) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    script = lane.script(Replace(OTHER.manifest.body))
    reference = IMAGE.digest if by == "digest" else "1"
    status, code, message = error_of(lane.get(reference))
    assert (status, code) == (502, "UNAVAILABLE")
    assert IMAGE.digest in message, "both digests are named"
    assert OTHER.digest in message
    script.remove()
    answer = lane.get(reference)
    assert (answer.outcome, answer.body) == ("miss", IMAGE.manifest.body)
    assert error_of(lane.get(OTHER.digest))[0] == 404


def test_an_upstream_that_names_no_digest_nor_media_type_is_understood(lanes: Lanes) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    lane.script(Headers({"Content-Type": "application/octet-stream"}, remove=["Docker-Content-Digest", "ETag"]))
    answer = lane.get("1")
    assert answer.headers["docker-content-digest"] == IMAGE.digest
    assert answer.headers["content-type"] == media_types.OCI_MANIFEST


def naming(*layers: Mapping[str, object]) -> bytes:
    """A manifest with layers that differ from good ones by these members."""
    good = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 1}
    named = [{**good, "digest": digest_of(b"%d" % number), **layer} for number, layer in enumerate(layers)]
    return json.dumps({"schemaVersion": 2, "layers": named}).encode()


def test_an_index_whose_platform_is_no_text_is_kept_untouched(lanes: Lanes) -> None:
    child = {"mediaType": media_types.OCI_MANIFEST, "digest": IMAGE.digest, "size": 1, "platform": {"os": "\ud800"}}
    index = json.dumps({"schemaVersion": 2, "artifactType": "\ud800", "manifests": [child]}).encode()
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    lane.script(Headers(remove=["Docker-Content-Digest"]), Replace(index, media_types.OCI_INDEX))
    assert [lane.get("1").body for _ in range(2)] == [index, index]
    assert lane.cost() == {"GET": 1}


@pytest.mark.parametrize(
    ("action", "status", "code"),
    [
        (Status(401), 403, "DENIED"),
        (Status(403), 403, "DENIED"),
        (Status(404), 404, "MANIFEST_UNKNOWN"),
        (Status(418), 502, "UNAVAILABLE"),
        (Status(500), 503, "UNAVAILABLE"),
        (Status(429, retry_after=3600), 429, "TOOMANYREQUESTS"),
        (Replace(b"<html>log in</html>", "text/html"), 502, "UNAVAILABLE"),
        (Replace(b'{"schemaVersion": 2, "mediaType": "text/plain"}', "text/plain"), 502, "MANIFEST_INVALID"),
        (Replace(b'{"schemaVersion": 1, "fsLayers": []}', "application/json"), 502, "MANIFEST_INVALID"),
        (Replace(b"[" * 100_000, media_types.OCI_MANIFEST), 502, "MANIFEST_INVALID"),
        (Replace(naming({"mediaType": "\ud800/x"}), media_types.OCI_MANIFEST), 502, "MANIFEST_INVALID"),
        (Replace(naming(*[{"size": 1 << 50}] * 8192), media_types.OCI_MANIFEST), 502, "MANIFEST_INVALID"),
        (Replace(b"\xff\x00", media_types.OCI_MANIFEST), 502, "MANIFEST_INVALID"),
        (HugeBody(MAX_MANIFEST_BYTES + 1), 502, "UNAVAILABLE"),
        (HugeHeaders(count=500), 502, "UNAVAILABLE"),
        (ClaimLength(1000), 503, "UNAVAILABLE"),
        (Close(after_bytes=20), 503, "UNAVAILABLE"),
        (Gzip(), 502, "UNAVAILABLE"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, int | str) else str(value),
)
def test_what_an_upstream_does_wrong_is_a_clear_error(lanes: Lanes, action: Action, status: int, code: str) -> None:
    lane = lanes("forget")
    lane.add(IMAGE, "1")
    script = lane.script(Headers(remove=["Docker-Content-Digest"]), action)
    answer = lane.get("1")
    assert error_of(answer)[:2] == (status, code)
    assert ("retry-after" in answer.headers) == (status in (429, 503))
    assert answer.headers["x-cache"].startswith(f"none; rule={lane.prefix}; reason=")
    assert lane.get("1", method="HEAD").status in (status, 429)
    script.remove()
    if status != 429:
        assert lane.get("1").body == IMAGE.manifest.body, "no error is remembered"


def test_conditional_requests_spare_the_body(lanes: Lanes) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    etag = lane.get("1").headers["etag"]
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        for method in ("GET", "HEAD"):
            answer = lane.get("1", method=method, headers={"If-None-Match": value})
            assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", etag)
    assert lane.get("1", headers={"If-None-Match": '"other"'}).body == IMAGE.manifest.body
    assert lane.cost() == {"GET": 1}


@pytest.mark.parametrize("value", ["bytes=0-1", "bytes=-5", "bytes=99999-", "bytes=5-1", "lines=1-2", "x" * 5000])
def test_a_range_of_a_manifest_gives_the_whole(lanes: Lanes, value: str) -> None:
    lane = Lane(lanes.engine, lanes.upstream, "fresh-0", "acme/ranges")
    lane.add(IMAGE, "1")
    answer = lane.get("1", headers={"Range": value})
    assert (answer.status, answer.body) == (200, IMAGE.manifest.body)


def test_a_client_that_names_other_media_types_gets_what_the_upstream_has(lanes: Lanes) -> None:
    """No conversion: it would change the digest."""
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    answer = lane.get("1", headers={"Accept": media_types.DOCKER_MANIFEST})
    assert (answer.headers["content-type"], answer.body) == (media_types.OCI_MANIFEST, IMAGE.manifest.body)
