"""Manifests: verified bytes, and everything that is not a manifest."""

from __future__ import annotations

import gzip
import socket

import pytest

from pullthrough.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from tests.integration.upstream.clients import Make, Recorder, one
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply

MANIFEST = b'{"schemaVersion": 2,\n  "odd": "spacing" }'
DIGEST = digest_of(MANIFEST)
OCI = media_types.OCI_MANIFEST


def answering(reply: Reply | bytes) -> Server:
    return Server(lambda asked, sock: reply)


async def test_bytes_media_type_and_digest_are_the_upstreams(upstreams: Make, recorder: Recorder) -> None:
    with answering(Reply(200, {"Content-Type": f"{OCI}; charset=utf-8"}, MANIFEST)) as server:
        fetched = await one(upstreams, server).fetch_manifest("team/app", "v1", None)
    assert (fetched.body, fetched.media_type, fetched.digest) == (MANIFEST, OCI, DIGEST)
    (asked,) = server.asked
    assert str(asked) == "GET /v2/team/app/manifests/v1"
    assert asked.headers["accept"] == media_types.ACCEPT
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.headers["user-agent"].startswith("pullthrough/")
    assert "authorization" not in asked.headers
    assert recorder.requests == [("registry.example.com", "GET", 200)]
    assert recorder.size_bytes["registry.example.com"] == len(MANIFEST)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_a_body_that_is_not_the_digest_asked_for_is_never_given_out(upstreams: Make, algorithm: str) -> None:
    wanted = digest_of(b"another", algorithm)
    with answering(Reply(200, {}, MANIFEST)) as server:
        upstream = one(upstreams, server)
        assert (await upstream.fetch_manifest("a", digest_of(MANIFEST, algorithm), None)).body == MANIFEST
        with pytest.raises(UpstreamInvalid) as caught:
            await upstream.fetch_manifest("a", wanted, None)
    assert wanted in str(caught.value)
    assert digest_of(MANIFEST, algorithm) in str(caught.value)


async def test_a_tags_body_must_match_the_digest_in_its_header(upstreams: Make) -> None:
    with (
        answering(Reply(200, {"Docker-Content-Digest": digest_of(b"another")}, MANIFEST)) as server,
        pytest.raises(UpstreamInvalid),
    ):
        await one(upstreams, server).fetch_manifest("a", "1", None)


async def test_a_sha512_digest_in_the_header_is_the_manifests(upstreams: Make) -> None:
    digest = digest_of(MANIFEST, "sha512")
    with answering(Reply(200, {"Docker-Content-Digest": digest}, MANIFEST)) as server:
        assert (await one(upstreams, server).fetch_manifest("a", "1", None)).digest == digest


@pytest.mark.parametrize("value", ["", "sha256:xyz", "sha256:../../x", "md5:abc", "sha256:" + "A" * 64])
async def test_a_digest_header_that_is_none_is_ignored(upstreams: Make, value: str) -> None:
    reply = Reply(200, {"Docker-Content-Digest": value, "Content-Type": OCI}, MANIFEST)
    with answering(reply) as server:
        upstream = one(upstreams, server)
        assert (await upstream.fetch_manifest("a", "1", None)).digest == DIGEST
        assert (await upstream.head_manifest("a", "1", None)).digest is None


async def test_head_says_what_the_upstream_says_and_costs_one_request(upstreams: Make) -> None:
    reply = Reply(200, {"Docker-Content-Digest": DIGEST, "Content-Type": OCI}, MANIFEST)
    with answering(reply) as server:
        upstream = one(upstreams, server)
        head = await upstream.head_manifest("a", "1", None)
        assert (head.digest, head.media_type, head.size_bytes) == (DIGEST, OCI, len(MANIFEST))
        assert await upstream.find_blob("a", DIGEST, None) == len(MANIFEST)
    assert server.lines == ["HEAD /v2/a/manifests/1", f"HEAD /v2/a/blobs/{DIGEST}"]
    assert server.connections == 1


async def test_a_head_without_a_length_has_none(upstreams: Make) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        upstream = one(upstreams, server)
        assert (await upstream.head_manifest("a", "1", None)).size_bytes is None
        assert await upstream.find_blob("a", DIGEST, None) is None


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UpstreamInvalid),
        (401, UpstreamDenied),
        (403, UpstreamDenied),
        (404, UpstreamNotFound),
        (405, UpstreamInvalid),
        (408, UpstreamUnavailable),
        (429, UpstreamThrottled),
        (500, UpstreamUnavailable),
        (501, UpstreamInvalid),
        (502, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (504, UpstreamUnavailable),
    ],
)
async def test_each_status_is_its_error_on_get_and_head(
    upstreams: Make, method: str, status: int, error: type[UpstreamError]
) -> None:
    with answering(error_reply(status, "SOME_CODE", "a reason", Retry_After="3600")) as server:
        upstream = one(upstreams, server)
        with pytest.raises(error) as caught:
            await (upstream.fetch_manifest if method == "GET" else upstream.head_manifest)("a", "1", None)
    assert type(caught.value) is error or isinstance(caught.value, UpstreamUnavailable)
    assert caught.value.status == status
    assert caught.value.upstream == "registry.example.com"
    assert ("SOME_CODE: a reason" in str(caught.value)) is (method == "GET")
    assert len(server.asked) == 1


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/json", ""])
async def test_a_web_page_is_invalid_and_the_hint_says_what_to_look_for(upstreams: Make, content_type: str) -> None:
    with (
        answering(Reply(200, {"Content-Type": content_type}, b"\n<!DOCTYPE html><html>Please log in")) as server,
        pytest.raises(UpstreamInvalid, match="web page") as caught,
    ):
        await one(upstreams, server).fetch_manifest("a", "1", None)
    assert "login page" in caught.value.hint


async def test_a_web_page_is_no_answer_to_head_either(upstreams: Make) -> None:
    with answering(Reply(200, {"Content-Type": "text/html"}, b"<html>")) as server:
        upstream = one(upstreams, server)
        for question in (upstream.head_manifest("a", "1", None), upstream.find_blob("a", DIGEST, None)):
            with pytest.raises(UpstreamInvalid, match="web page"):
                await question


async def test_an_error_page_is_not_repeated(upstreams: Make) -> None:
    with (
        answering(Reply(502, {"Content-Type": "text/html"}, b"<html><script>s3cret</script>")) as server,
        pytest.raises(UpstreamUnavailable, match="a web page") as caught,
    ):
        await one(upstreams, server).fetch_manifest("a", "1", None)
    assert "s3cret" not in str(caught.value)


async def test_a_compressed_manifest_is_refused_with_its_reason(upstreams: Make) -> None:
    with (
        answering(Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(MANIFEST))) as server,
        pytest.raises(UpstreamInvalid, match="compressed"),
    ):
        await one(upstreams, server).fetch_manifest("a", "1", None)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_manifest_beyond_the_limit_is_refused_and_not_read_to_its_end(
    upstreams: Make, recorder: Recorder, announced: bool
) -> None:
    def answer(asked: Asked, sock: socket.socket) -> None:
        length = f"Content-Length: {10 * MAX_MANIFEST_BYTES}\r\n" if announced else ""
        sock.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        for _ in range(160):
            sock.sendall(b" " * (MAX_MANIFEST_BYTES // 16))

    with Server(answer) as server, pytest.raises(UpstreamInvalid, match="4,194,304"):
        await one(upstreams, server).fetch_manifest("a", "1", None)
    assert recorder.size_bytes["registry.example.com"] <= MAX_MANIFEST_BYTES + 65536


async def test_a_manifest_of_exactly_the_limit_is_read(upstreams: Make) -> None:
    body = b'{"x": "' + b"a" * (MAX_MANIFEST_BYTES - 9) + b'"}'
    with answering(Reply(200, {}, body)) as server:
        assert len((await one(upstreams, server).fetch_manifest("a", "1", None)).body) == MAX_MANIFEST_BYTES


@pytest.mark.parametrize("chunk", [1, 7, 1000])
async def test_chunked_manifests_are_read_whole_and_keep_their_connection(upstreams: Make, chunk: int) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        body = b"".join(
            b"%x;ext=1\r\n%b\r\n" % (len(part), part)
            for part in (MANIFEST[at : at + chunk] for at in range(0, len(MANIFEST), chunk))
        )
        return Reply(200, {"Transfer-Encoding": "chunked"}, body + b"0\r\nTrailer: x\r\n\r\n")

    with Server(answer) as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            assert (await upstream.fetch_manifest("a", "1", None)).body == MANIFEST
        assert server.connections == 1


async def test_a_body_that_ends_with_the_connection_is_read_whole(upstreams: Make) -> None:
    with answering(b"HTTP/1.0 200 OK\r\n\r\n" + MANIFEST) as server:
        assert (await one(upstreams, server).fetch_manifest("a", "1", None)).body == MANIFEST


@pytest.mark.parametrize("value", ["x/y\x7f", "not a type", "a/" + "b" * 300, "a/b/c"])
async def test_a_content_type_that_is_none_is_empty(upstreams: Make, value: str) -> None:
    with answering(Reply(200, {"Content-Type": value}, MANIFEST)) as server:
        assert (await one(upstreams, server).fetch_manifest("a", "1", None)).media_type == ""


async def test_an_endpoints_path_goes_before_the_api(upstreams: Make) -> None:
    with answering(Reply(200, {}, MANIFEST)) as server:
        await one(upstreams, f"{server.url}/mirrors/hub").fetch_manifest("a", "1", None)
    assert server.lines == ["GET /mirrors/hub/v2/a/manifests/1"]
