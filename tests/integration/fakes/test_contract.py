"""The fake and Debian's docker-registry are asked the same questions, so that what tests learn from the fake is true.

Known differences are in `DIFFERENCES`, each with a test of its own that holds both sides to what is said there.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from multidict import CIMultiDict

from pullthrough.demo.images import Image, StoredManifest, make_image, make_index
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from tests.e2e.images import Content
from tests.e2e.registry import Registry
from tests.fakes.upstream import ScriptedUpstream
from tests.programs import needs

NAME = "library/app"
TAGS = ["1.0", "1.1", "2.0", "latest", "list"]
ABSENT = "sha256:" + "0" * 64

LAYER_BYTES = 100_000
IMAGE = make_image("contract", layer_sizes=(LAYER_BYTES, 0))
DOCKER_IMAGE = make_image("contract-docker", docker=True)
INDEX = make_index(IMAGE, make_image("contract-arm", platform="linux/arm64/v8"))
NESTED = make_index(INDEX, nested_in="contract")
LIST = make_index(DOCKER_IMAGE, docker=True)
KINDS = {"1.0": IMAGE, "1.1": DOCKER_IMAGE, "2.0": NESTED, "latest": INDEX, "list": LIST}
LAYER = IMAGE.blobs[1]

#: What the fake does otherwise than docker-registry 2.8.2: (fake, docker-registry).
DIFFERENCES: Mapping[str, tuple[object, object]] = {
    # docker-registry's routes do not match at all; the fake says what is wrong.
    "blob by something that is no digest": (400, 404),
    "upper-case name": (400, 404),
    "tag that cannot be": ((404, "MANIFEST_UNKNOWN"), (404, "")),
    # 2.8.2 is older than the referrers API.
    "referrers": (200, 404),
    # Without Accept, 2.8.2 takes the client for one that knows schema 1 only.
    "OCI manifest without Accept": (200, 404),
    # 2.8.2 sets the whole blob's Content-Length on a 416, and then sends a short text.
    "416 has the length that it says": (True, False),
    # 2.8.2 lists tags as they come from the disk, and all at once; the specification wants order and pages.
    "pages of two tags": ([["1.0", "1.1"], ["2.0", "latest"], ["list"]], [TAGS]),
    "HEAD of a list of tags": (200, 405),
}


@dataclass(frozen=True)
class Side:
    """One of the two."""

    name: str
    host: str

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            sent = {"Accept": media_types.ACCEPT} | {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, headers={name: value for name, value in sent.items() if value})
            with connection.getresponse() as response:
                try:
                    body = response.read()
                except http.client.IncompleteRead as error:
                    body = error.partial
                return Answer(response.status, CIMultiDict(response.headers.items()), body)
        finally:
            connection.close()

    def expected(self, difference: str) -> object:
        return DIFFERENCES[difference][0 if self.name == "fake" else 1]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDict[str]
    body: bytes

    @property
    def error(self) -> tuple[int, str]:
        """The status and the registry's error code, or "" where it does not answer as a registry."""
        is_json = self.headers.get("Content-Type", "").startswith("application/json")
        return self.status, json.loads(self.body)["errors"][0]["code"] if is_json else ""


@pytest.fixture(scope="module", params=["fake", "docker-registry"])
def side(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    if request.param == "fake":
        with ScriptedUpstream() as upstream:
            for tag, image in KINDS.items():
                upstream.add(NAME, image, tag)
            yield Side("fake", upstream.host)
        return
    needs("docker-registry")
    folder: Path = tmp_path_factory.mktemp("contract")
    registry = Registry(folder / "registry", folder / "storage")
    registry.start()
    try:
        for tag, image in KINDS.items():
            _push(registry, tag, image)
        yield Side("docker-registry", registry.address)
    finally:
        registry.stop()


def _push(registry: Registry, tag: str, image: Image) -> None:
    for blob in image.all_blobs():
        registry.push_blob(NAME, blob.digest, blob.read())
    # Children first: a registry refuses an index that names what it has not.
    for manifest in reversed(image.all_manifests()):
        content = Content(manifest.media_type, manifest.body)
        registry.push_manifest(NAME, tag if manifest is image.manifest else manifest.digest, content)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_manifests_come_as_they_were_put_in(side: Side, method: str, tag: str, by: str) -> None:
    manifest: StoredManifest = KINDS[tag].manifest
    answer = side.ask(method, f"/v2/{NAME}/manifests/{tag if by == 'tag' else manifest.digest}")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == manifest.media_type
    assert answer.headers["Docker-Content-Digest"] == manifest.digest
    assert answer.headers["Content-Length"] == str(len(manifest.body))
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer.headers["ETag"] == f'"{manifest.digest}"'
    assert answer.body == (manifest.body if method == "GET" else b"")


def test_a_manifest_that_has_not_changed_is_304(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/manifests/latest", If_None_Match=f'"{INDEX.digest}"')
    assert (answer.status, answer.body) == (304, b"")


def test_an_oci_index_is_not_sent_to_who_does_not_accept_it(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/manifests/latest", Accept=media_types.DOCKER_MANIFEST)
    assert answer.error == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_blobs_come_whole(side: Side, method: str) -> None:
    answer = side.ask(method, f"/v2/{NAME}/blobs/{LAYER.digest}")
    assert answer.status == 200
    assert answer.headers["Content-Length"] == str(LAYER_BYTES)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Docker-Content-Digest"] == LAYER.digest
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.body == (LAYER.read() if method == "GET" else b"")


def test_the_blob_without_bytes_is_a_blob(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/blobs/{digest_of(b'')}")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, "0", b"")


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=99990-", 99_990, LAYER_BYTES),
        ("bytes=99990-200000", 99_990, LAYER_BYTES),
        ("bytes=-10", 99_990, LAYER_BYTES),
    ],
)
def test_a_range_is_that_part_of_the_blob(side: Side, header: str, start: int, stop: int) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/blobs/{LAYER.digest}", Range=header)
    assert answer.status == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{LAYER_BYTES}"
    assert answer.headers["Content-Length"] == str(stop - start)
    assert answer.body == LAYER.read(start, stop)


def test_a_range_beyond_the_end_is_416(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/blobs/{LAYER.digest}", Range="bytes=100000-")
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{LAYER_BYTES}")
    complete = answer.headers["Content-Length"] == str(len(answer.body))
    assert complete is side.expected("416 has the length that it says")


@pytest.mark.parametrize(("changed", "status"), [(False, 206), (True, 200)])
def test_if_range_decides_between_the_part_and_the_whole(side: Side, changed: bool, status: int) -> None:
    path = f"/v2/{NAME}/blobs/{LAYER.digest}"
    etag = '"changed"' if changed else side.ask("HEAD", path).headers["ETag"]
    assert side.ask("GET", path, Range="bytes=0-9", If_Range=etag).status == status


def test_all_tags_are_listed(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/tags/list")
    listed = json.loads(answer.body)
    assert (answer.status, listed["name"], sorted(listed["tags"])) == (200, NAME, TAGS)
    assert "Link" not in answer.headers


def test_the_pages_of_the_tags_are_followed_by_their_links(side: Side) -> None:
    path, pages = f"/v2/{NAME}/tags/list?n=2", []
    while path:
        answer = side.ask("GET", path)
        pages.append(sorted(json.loads(answer.body)["tags"]))
        link = answer.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        path = link.partition(">")[0].removeprefix("<")
    assert pages == side.expected("pages of two tags")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (f"/v2/{NAME}/manifests/absent", (404, "MANIFEST_UNKNOWN")),
        (f"/v2/{NAME}/manifests/{ABSENT}", (404, "MANIFEST_UNKNOWN")),
        (f"/v2/{NAME}/blobs/{ABSENT}", (404, "BLOB_UNKNOWN")),
    ],
)
def test_what_is_not_there_is_404_with_its_code(side: Side, path: str, error: tuple[int, str]) -> None:
    assert side.ask("GET", path).error == error
    head = side.ask("HEAD", path)
    assert (head.status, head.body) == (404, b"")


def test_an_unknown_repository_has_no_tags_and_says_so(side: Side) -> None:
    assert side.ask("GET", "/v2/no/such/tags/list").error == (404, "NAME_UNKNOWN")


def test_ping_says_which_version_of_the_protocol(side: Side) -> None:
    answer = side.ask("GET", "/v2/")
    assert (answer.status, answer.body) == (200, b"{}")
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_difference_blob_by_something_that_is_no_digest(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/blobs/latest")
    assert answer.status == side.expected("blob by something that is no digest")


def test_difference_referrers(side: Side) -> None:
    assert side.ask("GET", f"/v2/{NAME}/referrers/{IMAGE.digest}").status == side.expected("referrers")


def test_difference_oci_manifest_without_accept(side: Side) -> None:
    answer = side.ask("GET", f"/v2/{NAME}/manifests/1.0", Accept="")
    assert answer.status == side.expected("OCI manifest without Accept")


def test_difference_upper_case_name(side: Side) -> None:
    assert side.ask("GET", "/v2/Library/app/tags/list").status == side.expected("upper-case name")


def test_difference_tag_that_cannot_be(side: Side) -> None:
    assert side.ask("GET", f"/v2/{NAME}/manifests/-wrong").error == side.expected("tag that cannot be")


def test_difference_head_of_a_list_of_tags(side: Side) -> None:
    assert side.ask("HEAD", f"/v2/{NAME}/tags/list").status == side.expected("HEAD of a list of tags")
