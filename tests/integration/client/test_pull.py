"""The built-in client against the scripted upstream: what it asks, what it verifies, how it says what is wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.client.pull import pull_image
from pullthrough.client.reports import CacheStatus, ImagePart, ProgressEvent, PullReport, Stage
from pullthrough.demo.images import Image, make_image, make_index
from pullthrough.errors import (
    ConfigurationError,
    DigestMismatch,
    ManifestInvalid,
    ManifestUnknown,
    PullthroughError,
    RequestError,
    SizeMismatch,
    UpstreamDenied,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamRefused,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci import media_types
from pullthrough.oci.names import parse_image_reference
from tests.e2e.certificates import self_signed
from tests.fakes.upstream import (
    Action,
    ClaimLength,
    Close,
    Corrupt,
    Gate,
    Gzip,
    Hang,
    Headers,
    Html,
    HugeBody,
    HugeHeaders,
    NoLength,
    RawUpstream,
    Redirect,
    RedirectLoop,
    Replace,
    Reset,
    ScriptedUpstream,
    Status,
)

IMAGE = make_image("client", layer_sizes=(200_000, 0, 1_000, 200_000))
ARM = make_image("client-arm", platform="linux/arm64/v8", docker=True)
INDEX = make_index(IMAGE, ARM)


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as upstream:
        upstream.add("library/app", INDEX, "latest", "1")
        yield upstream


async def pull(upstream: ScriptedUpstream, name: str = "library/app:1", platform: str = "linux/amd64") -> PullReport:
    return await pull_image(parse_image_reference(name), registry=upstream.url, platform=platform)


async def test_a_pull_asks_once_for_the_index_the_manifest_and_each_blob(upstream: ScriptedUpstream) -> None:
    report = await pull(upstream)
    assert [(record.method, record.kind) for record in upstream.requests][:2] == [("GET", "manifest")] * 2
    assert upstream.requests.count(kind="blob", method="GET") == len(upstream.requests) - 2 == len(IMAGE.blobs)
    assert upstream.requests[0].headers["accept"] == media_types.ACCEPT
    assert (report.digest, report.manifest_digest) == (INDEX.digest, IMAGE.digest)
    assert [fetched.part for fetched in report.manifests] == [ImagePart.INDEX, ImagePart.MANIFEST]
    assert [(fetched.digest, fetched.size_bytes) for fetched in report.blobs] == [
        (blob.digest, blob.size_bytes) for blob in IMAGE.blobs
    ]
    assert report.platform == "linux/amd64"


async def test_a_blob_named_twice_is_fetched_once(upstream: ScriptedUpstream) -> None:
    layer = IMAGE.blobs[1]
    upstream.add("library/twice", make_image("twice", layers=(layer, layer)), "latest")
    report = await pull(upstream, "library/twice")
    assert upstream.requests.count(kind="blob", reference=layer.digest) == 1
    assert len(report.blobs) == 2


async def test_layers_of_the_other_hash_algorithm_are_verified(upstream: ScriptedUpstream) -> None:
    image = make_image("sha512", algorithm="sha512")
    upstream.add("library/sha512", image, "latest")
    report = await pull(upstream, "library/sha512")
    assert report.blobs[1].digest == image.blobs[1].digest
    upstream.script(Corrupt(), kind="blob", reference=image.blobs[1].digest)
    with pytest.raises(DigestMismatch):
        await pull(upstream, "library/sha512")


@pytest.mark.parametrize("name", [f"library/app@{INDEX.digest}", f"library/app:gone@{INDEX.digest}"])
async def test_a_digest_is_asked_for_where_there_is_one(upstream: ScriptedUpstream, name: str) -> None:
    assert (await pull(upstream, name)).digest == INDEX.digest
    assert upstream.requests[0].reference == INDEX.digest


async def test_an_image_outside_an_index_is_pulled_whatever_the_platform(upstream: ScriptedUpstream) -> None:
    report = await pull(upstream, f"library/app@{ARM.digest}")
    assert report.manifest_digest == report.digest == ARM.digest
    assert report.platform == ""


async def test_the_platform_is_found_in_an_index_within_an_index(upstream: ScriptedUpstream) -> None:
    other = make_index(make_image("windows", platform="windows/amd64"))
    upstream.add("library/nested", make_index(other, make_index(INDEX, nested_in="inner")), "latest")
    report = await pull(upstream, "library/nested", "linux/arm64")
    assert report.manifest_digest == ARM.digest
    assert [fetched.part for fetched in report.manifests] == [
        ImagePart.INDEX,
        ImagePart.INDEX,
        ImagePart.INDEX,
        ImagePart.MANIFEST,
    ]


async def test_indexes_without_end_are_refused(upstream: ScriptedUpstream) -> None:
    index = INDEX
    for level in range(6):
        index = make_index(index, nested_in=str(level))
    upstream.add("library/deep", index, "latest")
    with pytest.raises(ManifestInvalid, match="more than 4 levels"):
        await pull(upstream, "library/deep")


async def test_a_platform_that_is_not_there_is_named_with_those_that_are(upstream: ScriptedUpstream) -> None:
    with pytest.raises(ManifestUnknown, match=r"no image for linux/s390x; it has linux/amd64, linux/arm64/v8"):
        await pull(upstream, platform="linux/s390x")
    assert upstream.requests.count(kind="blob") == 0


async def test_a_foreign_host_in_the_image_is_sent_as_a_mirrors_ns(upstream: ScriptedUpstream) -> None:
    await pull(upstream, "ghcr.io/library/app:1")
    assert {record.query.get("ns") for record in upstream.requests} == {"ghcr.io"}
    upstream.requests.clear()
    await pull(upstream, f"{upstream.host}/library/app:1")
    assert {record.query.get("ns") for record in upstream.requests} == {None}


async def test_redirected_blobs_are_followed(upstream: ScriptedUpstream) -> None:
    with ScriptedUpstream(cdn_address="127.0.0.2") as redirecting:
        redirecting.add("library/app", INDEX, "1")
        await pull(redirecting)
        assert redirecting.requests.count(kind="cdn", status=200) == len(IMAGE.blobs)


async def test_what_the_cache_says_is_in_the_report(upstream: ScriptedUpstream) -> None:
    upstream.script(Headers({"X-Cache": "hit; rule=docker-hub; age=5; fresh"}), kind="blob")
    report = await pull(upstream)
    assert {fetched.source for fetched in report.blobs} == {CacheStatus("hit", "docker-hub", 5, "fresh")}
    assert {fetched.source for fetched in report.manifests} == {None}


async def test_times_are_measured_with_the_clock_passed_in(upstream: ScriptedUpstream) -> None:
    ticks = iter(range(1000))
    report = await pull_image(
        parse_image_reference("library/app:1"),
        registry=upstream.url,
        platform="linux/amd64",
        concurrency=1,
        clock=lambda: float(next(ticks)),
    )
    assert {(fetched.first_byte_seconds, fetched.seconds) for fetched in report.blobs} == {(1.0, 2.0)}
    assert report.seconds == 3 * len(report.manifests + report.blobs) + 1


async def test_progress_says_start_pieces_and_end_of_each_blob(upstream: ScriptedUpstream) -> None:
    events: list[ProgressEvent] = []
    await pull_image(
        parse_image_reference("library/app:1"), registry=upstream.url, platform="linux/amd64", progress=events.append
    )
    for blob in IMAGE.blobs:
        mine = [event for event in events if event.digest == blob.digest]
        assert (mine[0].stage, mine[-1].stage) == (Stage.STARTED, Stage.FINISHED)
        received = [event.received_bytes for event in mine]
        assert received == sorted(received)
        assert received[-1] == mine[-1].size_bytes == blob.size_bytes


async def test_at_most_so_many_blobs_are_fetched_at_once(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    script = upstream.script(Hang(gate), kind="blob")
    pulling = asyncio.create_task(
        pull_image(parse_image_reference("library/app:1"), registry=upstream.url, platform="linux/amd64", concurrency=2)
    )
    await gate.until_reached(2)
    assert script.hits == 2
    gate.open()
    await pulling
    assert script.hits == len(IMAGE.blobs)


async def test_the_first_broken_blob_ends_the_pull_while_others_hang(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Hang(gate), kind="blob")
    upstream.script(Corrupt(), kind="blob", reference=IMAGE.blobs[1].digest)
    with pytest.raises(DigestMismatch, match=IMAGE.blobs[1].digest):
        await pull(upstream)


@pytest.mark.parametrize(
    ("kind", "action", "error", "words"),
    [
        ("blob", Corrupt(), DigestMismatch, "sent other bytes for the layer"),
        ("blob", Close(1000), SizeMismatch, "broke off after 1000 of the 200000 bytes"),
        ("blob", Reset(1000), SizeMismatch, "broke off after 1000 of the 200000 bytes"),
        ("blob", Close(0), SizeMismatch, "broke off after 0 of the 200000 bytes"),
        ("blob", ClaimLength(+5), SizeMismatch, "broke off after 200000"),
        ("blob", ClaimLength(-5), SizeMismatch, "sent 199995 of the 200000 bytes"),
        ("blob", Replace(b"x" * 199_999), SizeMismatch, "sent 199999 of the 200000 bytes"),
        ("blob", Replace(b"x" * 200_001), SizeMismatch, "sent more than the 200000 bytes"),
        ("blob", HugeBody(1 << 40), SizeMismatch, "sent more than the 200000 bytes"),
        ("blob", Gzip(), SizeMismatch, "200000 bytes"),
        ("blob", Html(), SizeMismatch, "of the 200000 bytes"),
        ("blob", Close(), UpstreamUnavailable, "broke the connection off"),
        ("blob", Reset(), UpstreamUnavailable, "broke the connection off"),
        ("blob", RedirectLoop(), UpstreamInvalid, "redirects without end"),
        ("blob", Redirect("ftp://elsewhere/"), UpstreamInvalid, "no usable answer"),
        ("blob", Redirect("http://"), UpstreamInvalid, "no usable answer"),
        ("blob", Status(404), UpstreamNotFound, "answered 404"),
        ("manifest", Html(), ManifestInvalid, "not JSON"),
        ("manifest", HugeBody(), UpstreamInvalid, "more than 4,194,304 bytes"),
        ("manifest", HugeHeaders(), UpstreamInvalid, "no usable answer"),
        ("manifest", Close(10), UpstreamUnavailable, "broke the connection off"),
        ("manifest", Headers({"Docker-Content-Digest": "sha256:" + "0" * 64}), DigestMismatch, "expected sha256:000"),
        ("manifest", Headers({"Docker-Content-Digest": "nonsense"}), UpstreamInvalid, "that is none"),
        ("manifest", Status(400), RequestError, "NAME_INVALID"),
        ("manifest", Status(401), UpstreamDenied, "sends no credentials"),
        ("manifest", Status(403), UpstreamDenied, "DENIED"),
        ("manifest", Status(404), UpstreamNotFound, "the manifest library/app:1: MANIFEST_UNKNOWN: the script"),
        ("manifest", Status(429, retry_after=9), UpstreamThrottled, "TOOMANYREQUESTS"),
        ("manifest", Status(503), UpstreamUnavailable, "answered 503"),
    ],
)
async def test_what_goes_wrong_is_said(
    upstream: ScriptedUpstream, kind: str, action: Action, error: type[PullthroughError], words: str
) -> None:
    reference = IMAGE.blobs[1].digest if kind == "blob" else "1"
    upstream.script(action, kind=kind, reference=reference)
    with pytest.raises(error) as caught:
        await pull(upstream)
    assert words in str(caught.value)


async def test_a_manifest_that_is_not_the_one_asked_for_is_refused(upstream: ScriptedUpstream) -> None:
    upstream.script(Replace(ARM.manifest.body), kind="manifest", reference=IMAGE.digest)
    with pytest.raises(DigestMismatch) as caught:
        await pull(upstream)
    assert (caught.value.expected, caught.value.actual) == (IMAGE.digest, ARM.digest)


async def test_an_index_that_lies_about_the_size_of_a_manifest_is_found_out(upstream: ScriptedUpstream) -> None:
    lying = Image(dataclasses.replace(IMAGE.manifest, body=IMAGE.manifest.body + b" "), IMAGE.blobs, (), "linux/amd64")
    upstream.add("library/lying", make_index(lying), "latest")
    upstream.add("library/lying", IMAGE)
    with pytest.raises(SizeMismatch, match="its index says"):
        await pull(upstream, "library/lying")


@pytest.mark.parametrize("chunked", [True, False])
async def test_bodies_without_a_length_are_fine(upstream: ScriptedUpstream, chunked: bool) -> None:
    upstream.script(NoLength(chunked), kind="blob")
    upstream.script(NoLength(chunked), kind="manifest")
    assert len((await pull(upstream)).blobs) == len(IMAGE.blobs)


async def test_a_registry_that_wants_a_login_says_so_clearly() -> None:
    with ScriptedUpstream(authentication="bearer") as upstream:
        upstream.add("library/app", INDEX, "1")
        with pytest.raises(UpstreamDenied, match="UNAUTHORIZED: authentication required") as caught:
            await pull(upstream)
        assert "no login" in caught.value.hint


async def test_an_answer_that_never_comes_is_a_timeout(upstream: ScriptedUpstream) -> None:
    gate = Gate()
    upstream.script(Hang(gate, 1000), kind="blob")
    with pytest.raises(UpstreamUnavailable, match="sent nothing for too long"):
        await pull_image(
            parse_image_reference("library/app:1"),
            registry=upstream.url,
            platform="linux/amd64",
            stall_timeout_seconds=0.05,
        )


async def test_nobody_listening_is_said_with_what_to_start() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(UpstreamUnavailable, match="no connection to 127") as caught:
            await pull_image(
                parse_image_reference("library/app"), registry=f"http://127.0.0.1:{bound.getsockname()[1]}"
            )
    assert "pullthrough serve" in caught.value.hint


@pytest.mark.parametrize("answer", [b"HTP/9 banana\r\n\r\n", b"HTTP/1.1 banana\r\n\r\n", b"\0" * 100])
async def test_an_answer_that_is_not_http_is_an_error_of_ours(answer: bytes) -> None:
    with RawUpstream(answer) as upstream, pytest.raises(UpstreamInvalid, match="no usable answer"):
        await pull_image(parse_image_reference("library/app"), registry=upstream.url)


async def test_https_to_a_registry_without_it_is_said(upstream: ScriptedUpstream) -> None:
    with pytest.raises(UpstreamRefused, match="no TLS with") as caught:
        await pull_image(parse_image_reference("library/app"), registry=f"https://{upstream.host}")
    assert "http://" in caught.value.hint


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path, "registry.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    with ScriptedUpstream(tls=context) as upstream:
        with pytest.raises(UpstreamRefused, match="is not one that this machine trusts"):
            await pull_image(parse_image_reference("library/app"), registry=upstream.url)
        assert len(upstream.requests) == 0


@pytest.mark.parametrize(
    "registry",
    ["", "127.0.0.1:5000", "ftp://x", "http://", "http://x/path", "http://u:p@x", "http://x?a=b", "http://x:99999"],
)
async def test_a_registry_that_is_no_url_is_refused_without_repeating_it(registry: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await pull_image(parse_image_reference("library/app"), registry=registry)
    assert "http://127.0.0.1:5000" in caught.value.hint
    assert "u:p" not in str(caught.value)


async def test_a_platform_that_is_none_is_refused_before_anything_is_asked(upstream: ScriptedUpstream) -> None:
    with pytest.raises(ConfigurationError):
        await pull(upstream, platform="linux")
    assert len(upstream.requests) == 0
