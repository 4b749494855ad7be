from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.oci.digests import digest_of
from pullthrough.upstream.listings import fallback_tag, next_query, parse_referrers, parse_tags

DIGEST = digest_of(b"x")


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        (['</v2/a/tags/list?last=b&n=2>; rel="next"'], "last=b&n=2"),
        (["</v2/a/tags/list?last=b>; rel=next"], "last=b"),
        (['<https://evil.example.net/steal?last=b>; rel="next"'], "last=b"),
        (['</a?x=1>; rel="prev", </b?y=2>; rel="next"'], "y=2"),
        (['</a?x=1>; rel="prev"', '</b?y=2>;rel="next";type="x"'], "y=2"),
        (["</a?x=1>"], ""),
        (["garbage"], ""),
        (['<http://[>; rel="next"'], ""),
        ([], ""),
    ],
)
def test_the_next_page_is_known_by_its_query_alone(links: list[str], expected: str) -> None:
    assert next_query(links) == expected


@given(st.lists(st.text(max_size=100), max_size=3))
def test_any_link_header_is_a_query_or_none(links: list[str]) -> None:
    next_query(links)


def test_tags_are_those_that_are_valid() -> None:
    body = json.dumps({"name": "a", "tags": ["1", "v2.0", "-bad", "", 7, None, "a/b", "sha256-abc.sig"]}).encode()
    assert parse_tags(body) == ["1", "v2.0", "sha256-abc.sig"]
    assert parse_tags(b'{"tags": null}') == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": "x"}', b"<html>", b"[" * 100_000])
def test_what_is_no_list_of_tags_is_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_tags(body)


def test_referrers_keep_what_a_client_needs_and_nothing_else() -> None:
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": str(DIGEST),
        "size": 7,
        "artifactType": "application/vnd.example.sbom",
        "annotations": {"a": "b", "c": 1},
        "urls": ["https://evil.example.net"],
        "data": "eA==",
    }
    assert parse_referrers(json.dumps({"manifests": [entry]}).encode()) == [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": str(DIGEST),
            "size": 7,
            "artifactType": "application/vnd.example.sbom",
            "annotations": {"a": "b"},
        }
    ]


def test_half_a_character_in_a_referrer_becomes_one_that_can_be_kept() -> None:
    half, kept = "a/\ud800", "a/\ufffd"
    entry = {"mediaType": "a/b", "digest": str(DIGEST), "size": 7, "artifactType": half, "annotations": {half: half}}
    assert parse_referrers(json.dumps({"manifests": [entry]}).encode()) == [
        {"mediaType": "a/b", "digest": str(DIGEST), "size": 7, "artifactType": kept, "annotations": {kept: kept}}
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sha256:../../etc/passwd"},
        {"digest": 7},
        {"size": -1},
        {"size": True},
        {"size": "7"},
        {"mediaType": None},
        {"mediaType": "x" * 300},
        {"mediaType": "\ud800/x"},
    ],
)
def test_referrers_that_are_not_valid_are_left_out(change: dict[str, object]) -> None:
    entry = {"mediaType": "a/b", "digest": str(DIGEST), "size": 7, **change}
    assert parse_referrers(json.dumps({"manifests": [entry, None, 7]}).encode()) == []


def test_the_fallback_tag_is_a_tag_for_both_algorithms() -> None:
    assert fallback_tag(DIGEST) == f"sha256-{DIGEST.hex}"
    assert len(fallback_tag(digest_of(b"x", "sha512"))) == len("sha512-") + 64
