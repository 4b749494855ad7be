"""Names, tags, digests and image references: what is accepted, what is refused, and that nothing else gets through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import DigestInvalid, NameInvalid, PullthroughError, TagInvalid
from pullthrough.oci.digests import digest_of, parse_digest
from pullthrough.oci.names import (
    canonical_host,
    parse_image_reference,
    parse_reference,
    parse_repository_name,
    parse_tag,
)

SHA256 = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128


@pytest.mark.parametrize("name", ["a", "library/nginx", "a/b/c/d", "a.b_c__d-e---f/0", "x" * 255])
def test_valid_names_are_kept_as_they_are(name: str) -> None:
    assert parse_repository_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "/", "a/", "/a", "a//b", "A", "a/B", "a..b", "a___b", ".a", "a.", "-a", "a-", "..", "a/../b", "a/./b", "a b",
     "a\n", "ä", "x" * 256, "a%2fb", "a\x00"],
)  # fmt: skip
def test_invalid_names_are_refused(name: str) -> None:
    with pytest.raises(NameInvalid):
        parse_repository_name(name)


@pytest.mark.parametrize("tag", ["latest", "1.27", "_x", "A-b_c.d", "x" * 128])
def test_valid_tags_are_kept(tag: str) -> None:
    assert parse_tag(tag) == tag


@pytest.mark.parametrize("tag", ["", ".x", "-x", "x" * 129, "a/b", "a b", "ä", "x\n"])
def test_invalid_tags_are_refused(tag: str) -> None:
    with pytest.raises(TagInvalid):
        parse_tag(tag)


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha256:" + "a" * 65, "sha512:" + "a" * 64,
     "md5:" + "a" * 32, "sha256-" + "a" * 64, "sha256:../../../../etc/passwd" + "a" * 40, SHA256 + "\n"],
)  # fmt: skip
def test_invalid_digests_are_refused(text: str) -> None:
    with pytest.raises(DigestInvalid):
        parse_digest(text)


def test_a_digest_knows_its_parts_and_checks_bytes() -> None:
    digest = digest_of(b"hello", "sha512")
    hasher = digest.hasher()
    hasher.update(b"hello")
    assert (digest.algorithm, len(digest.hex), digest.matches(hasher)) == ("sha512", 128, True)


def test_a_reference_with_a_colon_is_a_digest() -> None:
    assert parse_reference(SHA512) == SHA512
    with pytest.raises(DigestInvalid):
        parse_reference("sha256:xyz")


@pytest.mark.parametrize(
    ("text", "host", "repository", "tag", "digest"),
    [
        ("nginx", None, "nginx", None, None),
        ("library/nginx:1.27", None, "library/nginx", "1.27", None),
        ("127.0.0.1:5000/docker-hub/library/nginx", "127.0.0.1:5000", "docker-hub/library/nginx", None, None),
        ("localhost/a", "localhost", "a", None, None),
        ("[::1]:5000/a/b:c", "[::1]:5000", "a/b", "c", None),
        ("quay.io/a/b:c@" + SHA256, "quay.io", "a/b", "c", SHA256),
        ("a/b@" + SHA256, None, "a/b", None, SHA256),
    ],
)
def test_image_references(text: str, host: str | None, repository: str, tag: str | None, digest: str | None) -> None:
    image = parse_image_reference(text)
    assert (image.host, image.repository, image.tag, image.digest) == (host, repository, tag, digest)
    assert str(image) == text


def test_without_tag_and_digest_an_image_means_latest() -> None:
    assert parse_image_reference("nginx").reference == "latest"


@pytest.mark.parametrize("text", ["", "a:", "a@", "a@b", "a:b:c", "A", "exa mple.com/a", "a..b:5000/c", "https://a/b"])
def test_bad_image_references_are_refused_by_our_own_errors(text: str) -> None:
    with pytest.raises(PullthroughError):
        parse_image_reference(text)


@pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io", "Docker.IO:443"])
def test_docker_hub_has_one_name(host: str) -> None:
    assert canonical_host(host) == "registry-1.docker.io"


@pytest.mark.parametrize("host", ["docker.io.example.com", "notdocker.io", "docker.io:5000"])
def test_a_look_alike_is_not_docker_hub(host: str) -> None:
    assert canonical_host(host) != "registry-1.docker.io"


@given(st.text(max_size=300))
def test_whatever_is_accepted_is_safe_in_a_path(text: str) -> None:
    for parse in (parse_repository_name, parse_tag, parse_digest, parse_image_reference):
        try:
            value = str(parse(text))
        except PullthroughError:
            continue
        assert re.fullmatch(r"[A-Za-z0-9._:/@\[\]-]+", value)
        assert ".." not in value.split("/")
