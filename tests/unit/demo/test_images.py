from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.demo.images import make_artifact, make_blob, make_image, make_index, pseudo_random_chunks
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.oci.manifests import parse_manifest

MIB = 1024 * 1024


@given(st.text(max_size=5), st.integers(0, 5000))
def test_a_blob_has_the_size_and_digest_that_it_says(seed: str, size_bytes: int) -> None:
    blob = make_blob(seed, size_bytes)
    assert (len(blob.read()), blob.size_bytes) == (size_bytes, size_bytes)
    assert blob.digest == digest_of(blob.read())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert make_image("a").digest == make_image("a").digest
    assert make_image("a").digest != make_image("b").digest
    assert make_blob("a", 100).digest != make_blob("b", 100).digest


def test_no_two_chunks_of_a_large_body_are_alike() -> None:
    chunks = list(pseudo_random_chunks("large", 3 * MIB + 1))
    assert [len(chunk) for chunk in chunks] == [MIB, MIB, MIB, 1]
    assert len(set(chunks)) == 4


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_in_a_folder_is_the_blob_in_memory(tmp_path: Path, algorithm: str) -> None:
    in_memory = make_blob("x", 2 * MIB + 7, algorithm=algorithm)
    on_disk = make_blob("x", 2 * MIB + 7, algorithm=algorithm, folder=tmp_path)
    assert on_disk.digest == in_memory.digest
    assert on_disk.read(MIB - 3, MIB + 5) == in_memory.read(MIB - 3, MIB + 5)
    assert on_disk.read() == in_memory.read()
    assert [path.name for path in tmp_path.iterdir()] == [f"{algorithm}-{on_disk.digest.hex}"]


@pytest.mark.parametrize(
    ("docker", "media_type"), [(False, media_types.OCI_MANIFEST), (True, media_types.DOCKER_MANIFEST)]
)
def test_an_image_manifest_names_its_blobs(docker: bool, media_type: str) -> None:
    image = make_image("app", layer_sizes=(10, 0), docker=docker)
    manifest = parse_manifest(image.manifest.body, image.manifest.media_type)
    assert manifest.media_type == media_type
    assert [(blob.digest, blob.size_bytes) for blob in manifest.blobs] == [
        (blob.digest, blob.size_bytes) for blob in image.blobs
    ]
    assert image.blobs[2].digest == digest_of(b"")


@pytest.mark.parametrize(("docker", "media_type"), [(False, media_types.OCI_INDEX), (True, media_types.DOCKER_LIST)])
def test_an_index_names_its_children_and_their_platforms(docker: bool, media_type: str) -> None:
    amd64, arm = make_image("a"), make_image("b", platform="linux/arm/v7")
    signature = make_artifact("s", subject=amd64)
    index = make_index(amd64, arm, signature, docker=docker)
    manifest = parse_manifest(index.manifest.body, index.manifest.media_type)
    assert manifest.media_type == media_type
    assert [(child.digest, child.platform, child.size_bytes) for child in manifest.children] == [
        (amd64.digest, "linux/amd64", len(amd64.manifest.body)),
        (arm.digest, "linux/arm/v7", len(arm.manifest.body)),
        (signature.digest, "unknown/unknown", len(signature.manifest.body)),
    ]


def test_an_index_may_hold_an_index() -> None:
    image = make_image("a", platform="linux/arm64")
    inner = make_index(image)
    outer = make_index(make_image("b"), inner)
    assert outer.child("linux/arm64") is image
    assert outer.all_manifests()[2:] == (inner.manifest, image.manifest)
    with pytest.raises(KeyError):
        outer.child("linux/s390x")
    (_, entry) = json.loads(outer.manifest.body)["manifests"]
    assert "platform" not in entry


def test_shared_layers_are_counted_once() -> None:
    layer = make_blob("shared", 100)
    index = make_index(make_image("a", layers=(layer,)), make_image("b", layers=(layer,), platform="linux/arm64"))
    assert [blob.digest for blob in index.all_blobs()].count(layer.digest) == 1
    assert index.size_bytes == sum(len(manifest.body) for manifest in index.all_manifests()) + sum(
        blob.size_bytes for blob in index.all_blobs()
    )


def test_an_artifact_refers_to_its_subject() -> None:
    image = make_image("a")
    artifact = make_artifact("s", subject=image, artifact_type="application/x", annotations={"k": "v"})
    manifest = parse_manifest(artifact.manifest.body, artifact.manifest.media_type)
    assert manifest.subject is not None
    assert (manifest.subject.digest, manifest.artifact_type, manifest.annotations) == (
        image.digest,
        "application/x",
        {"k": "v"},
    )
