"""What is read out of manifests, and which bodies are no manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import ManifestInvalid
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES, parse_manifest

CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"config"), "size": 6}
LAYER = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest_of(b"layer"), "size": 5}


def body(**members: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, **members}).encode()


def image(**members: Any) -> bytes:
    return body(**{"mediaType": media_types.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER, LAYER], **members})


def test_an_image_names_its_config_and_each_layer_once() -> None:
    manifest = parse_manifest(image())
    assert [blob.digest for blob in manifest.blobs] == [digest_of(b"config"), digest_of(b"layer")]
    assert manifest.children == ()


def test_an_index_names_its_children_with_their_platforms() -> None:
    child = {
        **LAYER,
        "mediaType": media_types.OCI_MANIFEST,
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7"},
    }
    manifest = parse_manifest(body(mediaType=media_types.DOCKER_LIST, manifests=[child]))
    assert manifest.is_index
    assert [child.platform for child in manifest.children] == ["linux/arm/v7"]
    assert manifest.blobs == ()


def test_an_artifact_names_its_subject_and_type() -> None:
    manifest = parse_manifest(image(subject=LAYER, artifactType="application/x.signature"))
    assert manifest.subject is not None
    assert (manifest.subject.digest, manifest.artifact_type) == (digest_of(b"layer"), "application/x.signature")


def test_without_an_artifact_type_the_configs_media_type_stands_for_it() -> None:
    assert parse_manifest(image()).artifact_type == CONFIG["mediaType"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/json; charset=utf-8"])
def test_a_useless_content_type_leaves_the_decision_to_the_body(content_type: str) -> None:
    assert parse_manifest(image(), content_type).media_type == media_types.OCI_MANIFEST


def test_without_any_media_type_the_form_decides() -> None:
    assert parse_manifest(body(manifests=[])).media_type == media_types.OCI_INDEX
    assert parse_manifest(body(config=CONFIG, layers=[])).media_type == media_types.OCI_MANIFEST


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"<html>", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "neither"),
        (b"[" * 100_000, "not JSON"),
        (json.dumps({"schemaVersion": 2, "manifests": []}).encode("utf-16"), "not JSON in UTF-8"),
        (body(schemaVersion=1, fsLayers=[]), "schema 1"),
        (image(mediaType=7), "mediaType"),
        (image(manifests=[]), "both"),
        (body(mediaType=media_types.OCI_INDEX, manifests=[], layers=[]), "both"),
        (image(layers={}), "not a list"),
        (image(layers=[1]), "not an object"),
        (image(layers=[{**LAYER, "digest": "sha256:../../x"}]), "no valid digest"),
        (image(layers=[{**LAYER, "digest": 5}]), "no valid digest"),
        (image(layers=[{**LAYER, "size": -1}]), "no valid size"),
        (image(layers=[{**LAYER, "size": True}]), "no valid size"),
        (image(layers=[{**LAYER, "size": 1 << 60}]), "no valid size"),
        (image(layers=[{**LAYER, "mediaType": "x" * 256}]), "no valid mediaType"),
        (image(layers=[{**LAYER, "mediaType": "\ud800/x"}]), "no valid mediaType"),
        (image(config={**CONFIG, "mediaType": "x/\u0000"}), "no valid mediaType"),
        (image(layers=[{**LAYER, "size": 1 << 50}]), "together"),
        (image(layers=[LAYER] * 10_001), "entries"),
        (b" " * (MAX_MANIFEST_BYTES + 1), "limit"),
    ],
)
def test_what_is_no_manifest_is_refused_with_the_reason(bad: bytes, why: str) -> None:
    with pytest.raises(ManifestInvalid, match=why):
        parse_manifest(bad)


def test_a_content_type_that_contradicts_the_body_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="but says it is"):
        parse_manifest(image(), media_types.OCI_INDEX)


def test_half_a_character_becomes_one_that_can_be_kept() -> None:
    half = "x/\ud800"
    manifest = parse_manifest(image(artifactType=half, annotations={half: half}))
    kept = "x/\ufffd"
    assert (manifest.artifact_type, manifest.annotations) == (kept, {kept: kept})
    assert (
        parse_manifest(body(mediaType=media_types.OCI_INDEX, manifests=[], config={"mediaType": half})).artifact_type
        == kept
    )
    child = {**LAYER, "mediaType": media_types.OCI_MANIFEST, "platform": {"os": half, "architecture": "arm"}}
    assert [child.platform for child in parse_manifest(body(manifests=[child])).children] == ["x/\ufffd/arm"]
    assert parse_manifest(image(annotations={"face": "\U0001f600"})).annotations == {"face": "\U0001f600"}


_KEYS = st.sampled_from(["mediaType", "config", "layers", "manifests", "digest", "size", "subject"])
_ANY_TEXT = st.text(st.characters(categories=["L", "Cs", "Cc"]), max_size=8)
_LEAVES = st.none() | st.booleans() | st.integers() | _ANY_TEXT


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner)))
def test_no_json_raises_anything_else(document: Any) -> None:
    try:
        parse_manifest(json.dumps(document).encode())
    except ManifestInvalid:
        pass
