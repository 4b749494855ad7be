"""Paths and queries, hostile ones above all."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import DigestInvalid, NameInvalid, RequestError, TagInvalid, UploadUnknown
from pullthrough.faces.distribution.errors import EndpointUnknown
from pullthrough.faces.distribution.routes import Endpoint, parse_path, parse_query

SHA256 = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "kind", "name", "reference"),
    [
        ("/v2/", Endpoint.PING, None, None),
        ("/v2", Endpoint.PING, None, None),
        ("/v2/_catalog", Endpoint.CATALOG, None, None),
        ("/v2/a/manifests/latest", Endpoint.MANIFEST, "a", "latest"),
        ("/v2/a/b/c/manifests/" + SHA256, Endpoint.MANIFEST, "a/b/c", SHA256),
        ("/v2/a/manifests/sha256%3A" + "a" * 64, Endpoint.MANIFEST, "a", SHA256),
        ("/v2/manifests/manifests/manifests", Endpoint.MANIFEST, "manifests", "manifests"),
        ("/v2/a/blobs/" + SHA256, Endpoint.BLOB, "a", SHA256),
        ("/v2/tags/list/tags/list", Endpoint.TAGS, "tags/list", None),
        ("/v2/a/tags/list", Endpoint.TAGS, "a", None),
        ("/v2/a/referrers/" + SHA256, Endpoint.REFERRERS, "a", SHA256),
        ("/v2/a/blobs/uploads", Endpoint.UPLOAD, "a", None),
        ("/v2/a/blobs/uploads/", Endpoint.UPLOAD, "a", None),
        ("/v2/a/blobs/uploads/1234", Endpoint.UPLOAD, "a", None),
        ("/v2/a/blobs/uploads/01234567-89ab-cdef-0123-456789abcdef", Endpoint.UPLOAD, "a", None),
    ],
)
def test_the_endpoints(path: str, kind: Endpoint, name: str | None, reference: str | None) -> None:
    route = parse_path(path)
    assert (route.kind, route.name, route.reference) == (kind, name, reference)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/v2/a%2Fb/manifests/latest", NameInvalid),
        ("/v2/%2e%2e/manifests/latest", NameInvalid),
        ("/v2/../../etc/passwd/manifests/latest", NameInvalid),
        ("/v2//manifests/latest", NameInvalid),
        ("/v2/A/manifests/latest", NameInvalid),
        ("/v2/a/manifests/..", TagInvalid),
        ("/v2/a/manifests/", TagInvalid),
        ("/v2/a/manifests/sha256:..", DigestInvalid),
        ("/v2/a/blobs/latest", DigestInvalid),
        ("/v2/a/blobs/sha256:" + "A" * 64, DigestInvalid),
        ("/v2/a/blobs/../../../x", EndpointUnknown),
        ("/v2/a/blobs/uploads/" + "a" * 37, UploadUnknown),
        ("/v2/" + "a" * 256 + "/blobs/uploads/1", NameInvalid),
        ("/v2/a/manifests/" + "a" * 129, TagInvalid),
        ("/v2/a/manifests/sha512:" + "a" * 129, DigestInvalid),
        ("/v2/a", EndpointUnknown),
        ("/v1/a", EndpointUnknown),
        ("/v2/a/unknown/b", EndpointUnknown),
        ("/v2/a/manifests/latest/", EndpointUnknown),
    ],
)
def test_bad_paths(path: str, error: type[RequestError]) -> None:
    with pytest.raises(error):
        parse_path(path)


@given(st.text(max_size=80))
def test_no_path_raises_anything_else(text: str) -> None:
    for path in (text, "/v2/" + text, "/v2/a/manifests/" + text):
        try:
            parse_path(path)
        except RequestError:
            pass


def test_the_query() -> None:
    query = parse_query("ns=docker.io&n=5&last=a%2Fb&artifactType=x%2Fy&other=1")
    assert (query.ns, query.n, query.last, query.artifact_type) == ("docker.io", 5, "a/b", "x/y")
    assert parse_query("").ns is None
    assert parse_query("ns=").ns == ""
    assert parse_query("n=1000000").n == 1000


@pytest.mark.parametrize("text", ["n=-1", "n=x", "n=1.5", "n=99999999999", "&".join("a=1" for _ in range(50))])
def test_bad_queries(text: str) -> None:
    with pytest.raises(NameInvalid):
        parse_query(text)


def test_nothing_is_kept_of_what_strangers_ask_for() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1000):
        parse_path(f"/v2/{'a' * 200}/blobs/uploads/{number}")
        parse_query(f"last={number}&from={'a' * 8000}")
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert kept < 100_000
