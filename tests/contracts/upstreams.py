"""What an `Upstream` promises the engine, whoever answers: the real client over HTTP, or one in memory.

Whoever has one subclasses `UpstreamSuite` and gives it a `site` fixture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pullthrough.demo.images import Image, make_artifact, make_image, make_index
from pullthrough.errors import UpstreamNotFound, UpstreamUnavailable
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream, Upstreams

APP = make_image("app", layer_sizes=(100_000, 0))
INDEX = make_index(APP, make_image("app-arm", platform="linux/arm64"))
LAYER, EMPTY = APP.blobs[1].digest, APP.blobs[2].digest
SIGNATURE = make_artifact("signature", subject=APP)
MISSING = digest_of(b"nobody has this")


@dataclass(frozen=True)
class Site:
    """An upstream that has nothing yet, with `connections` for bodies; `fail` makes it unreachable."""

    upstreams: Upstreams
    host: str
    connections: int
    add: Callable[..., None]
    fail: Callable[[], None]

    @property
    def upstream(self) -> Upstream:
        return self.upstreams.get(self.host)


def whole(upstream: Upstream, digest: Digest = LAYER, *, start: int = 0, stop: int | None = None) -> bytes:
    """As fills read."""
    received, buffer = bytearray(), memoryview(bytearray(10_000))
    with upstream.open_blob("library/app", digest, None, start=start, stop=stop, abort=AbortHandle()) as body:
        while count := body.readinto(buffer):
            received += buffer[:count]
    return bytes(received)


async def in_thread(function: Callable[..., bytes], /, *arguments: object, **options: object) -> bytes:
    return await asyncio.to_thread(function, *arguments, **options)


def body_of(image: Image, digest: Digest) -> bytes:
    body = next(blob.body for blob in image.blobs if blob.digest == digest)
    assert isinstance(body, bytes)
    return body


class UpstreamSuite:
    @pytest.fixture(autouse=True)
    def _content(self, site: Site) -> None:
        site.add("library/app", INDEX, "1", "latest")

    # manifests

    @pytest.mark.parametrize("reference", ["latest", str(INDEX.digest)])
    async def test_a_manifest_comes_as_it_is_stored(self, site: Site, reference: str) -> None:
        fetched = await site.upstream.fetch_manifest("library/app", reference, None)
        assert fetched.body == INDEX.manifest.body
        assert fetched.digest == INDEX.digest
        assert fetched.media_type == INDEX.manifest.media_type

    async def test_the_head_of_a_manifest_says_what_would_come(self, site: Site) -> None:
        head = await site.upstream.head_manifest("library/app", "latest", None, timeout=10)
        assert head.digest == INDEX.digest
        assert head.media_type == INDEX.manifest.media_type
        assert head.size_bytes == len(INDEX.manifest.body)

    @pytest.mark.parametrize("reference", ["2", str(MISSING)])
    async def test_what_is_not_there_is_not_found(self, site: Site, reference: str) -> None:
        with pytest.raises(UpstreamNotFound):
            await site.upstream.fetch_manifest("library/app", reference, None)
        with pytest.raises(UpstreamNotFound):
            await site.upstream.head_manifest("library/app", reference, None)

    async def test_several_questions_may_be_asked_in_one_turn(self, site: Site) -> None:
        async with site.upstream.turn() as turn:
            assert turn.host == site.upstream.host
            for _ in range(2 * site.connections):
                await site.upstream.head_manifest("library/app", "1", None, turn=turn)
            await site.upstream.list_tags("library/app", None, turn=turn)

    # lists

    async def test_tags_are_all_there_once(self, site: Site) -> None:
        site.add("library/app", APP, "amd64", "1")
        assert sorted(await site.upstream.list_tags("library/app", None)) == ["1", "amd64", "latest"]

    async def test_tags_of_an_unknown_repository_are_not_found(self, site: Site) -> None:
        with pytest.raises(UpstreamNotFound):
            await site.upstream.list_tags("library/other", None)

    async def test_referrers_are_described(self, site: Site) -> None:
        assert await site.upstream.fetch_referrers("library/app", APP.digest, None) == ()
        site.add("library/app", SIGNATURE)
        (found,) = await site.upstream.fetch_referrers("library/app", APP.digest, None)
        assert found["digest"] == SIGNATURE.digest
        assert found["size"] == len(SIGNATURE.manifest.body)
        assert found["artifactType"] == SIGNATURE.manifest.artifact_type

    # blobs

    async def test_a_blob_is_found_with_its_size(self, site: Site) -> None:
        assert await site.upstream.find_blob("library/app", LAYER, None, wants_size=True) == 100_000
        assert await site.upstream.find_blob("library/app", EMPTY, None, wants_size=True) == 0
        with pytest.raises(UpstreamNotFound):
            await site.upstream.find_blob("library/app", MISSING, None)

    async def test_a_body_comes_whole(self, site: Site) -> None:
        async with site.upstream.admit("library/app"):
            assert await in_thread(whole, site.upstream) == body_of(APP, LAYER)
            assert await in_thread(whole, site.upstream, EMPTY) == b""

    @pytest.mark.parametrize(("start", "stop"), [(1, None), (99_999, None), (0, 1), (5000, 60_000)])
    async def test_a_body_comes_in_parts(self, site: Site, start: int, stop: int | None) -> None:
        expected = body_of(APP, LAYER)[start:stop]
        assert await in_thread(whole, site.upstream, start=start, stop=stop) == expected

    async def test_a_body_says_what_it_is(self, site: Site) -> None:
        def look() -> None:
            with site.upstream.open_blob("library/app", LAYER, None, abort=AbortHandle()) as body:
                assert (body.status, body.start, body.total_bytes) == (200, 0, 100_000)
                etag = body.etag
            part = site.upstream.open_blob("library/app", LAYER, None, start=7, if_range=etag, abort=AbortHandle())
            assert (part.status, part.start, part.total_bytes) == (206, 7, 100_000)
            part.close()
            part.close()

        await asyncio.to_thread(look)

    async def test_a_blob_that_changed_since_comes_whole(self, site: Site) -> None:
        def look() -> None:
            with site.upstream.open_blob(
                "library/app", LAYER, None, start=7, if_range='"of-another-body"', abort=AbortHandle()
            ) as body:
                assert (body.status, body.start) == (200, 0)

        await asyncio.to_thread(look)

    async def test_a_missing_body_is_not_found(self, site: Site) -> None:
        with pytest.raises(UpstreamNotFound):
            await in_thread(whole, site.upstream, MISSING)

    async def test_what_is_aborted_is_not_begun(self, site: Site) -> None:
        def begin() -> None:
            abort = AbortHandle()
            abort.abort()
            site.upstream.open_blob("library/app", LAYER, None, abort=abort)

        with pytest.raises(UpstreamUnavailable):
            await asyncio.to_thread(begin)

    # queues

    async def test_bodies_wait_for_connections_and_those_behind_for_the_others(self, site: Site) -> None:
        upstream, order = site.upstream, list[str]()
        gate = asyncio.Event()

        async def hold(number: int) -> None:
            async with upstream.admit(f"library/{number}"):
                order.append("early")
                await gate.wait()

        async def take(name: str, *, behind: bool) -> None:
            async with upstream.admit("library/late", behind=behind):
                order.append(name)

        early = [asyncio.create_task(hold(number)) for number in range(4 * site.connections)]
        await settle()
        assert order
        assert len(order) <= site.connections
        assert not upstream.admits_at_once("library/0")
        late = [asyncio.create_task(take("behind", behind=True)), asyncio.create_task(take("ahead", behind=False))]
        await settle()
        gate.set()
        await asyncio.gather(*early, *late)
        assert len(order) == len(early) + 2
        assert order[-1] == "behind"
        assert upstream.admits_at_once("library/0")

    async def test_who_stops_waiting_leaves_its_place(self, site: Site) -> None:
        upstream = site.upstream
        for _ in range(3 * site.connections):
            waiting = asyncio.create_task(self._take_for_ever(upstream))
            await settle()
            waiting.cancel()
            await asyncio.wait((waiting,))
        async with asyncio.timeout(10), upstream.admit("library/app"):
            pass

    async def _take_for_ever(self, upstream: Upstream) -> None:
        async with upstream.admit("library/app"), upstream.turn():
            await asyncio.Event().wait()

    # failures

    async def test_an_outage_is_told_and_shows_in_the_health(self, site: Site) -> None:
        upstream = site.upstream
        await upstream.fetch_manifest("library/app", "1", None)
        assert upstream.health.healthy
        assert upstream.health.last_error == ""
        site.fail()
        with pytest.raises(UpstreamUnavailable):
            await upstream.fetch_manifest("library/app", "1", None, timeout=10)
        with pytest.raises(UpstreamUnavailable):
            await in_thread(whole, upstream)
        assert upstream.health.last_error

    async def test_health_is_of_those_that_were_asked_for(self, site: Site) -> None:
        assert site.upstreams.get(site.host) is site.upstreams.get(site.host)
        assert [health.upstream for health in site.upstreams.health()] == [site.upstream.host]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
