"""How long one thing that is wanted is waited for, and what its failures count for the breaker."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import pytest

from pullthrough.errors import UpstreamThrottled, UpstreamUnavailable
from pullthrough.fairness.asker import ASKER
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.breaker import OPEN_AFTER, BreakerState
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, Time, one
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server, error_reply, silent

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = digest_of(MANIFEST)
NOWHERE = "http://127.0.0.1:1"


async def ask(upstream: Upstream) -> None:
    await upstream.fetch_manifest("a", "1", None)


def open_blob(upstream: Upstream, errand: Errand | None = None) -> None:
    upstream.open_blob("a", DIGEST, None, errand=errand, abort=AbortHandle()).close()


async def pull_blob(upstream: Upstream, errand: Errand) -> None:
    """As a fill does."""
    async with upstream.admit("a", errand):
        open_blob(upstream, errand)


# The first byte


async def test_a_blobs_first_byte_may_take_as_long_as_any_pause_in_it(upstreams: Make, recorder: Recorder) -> None:
    """Caches before the registry send none before they have all. A small answer's time runs out meanwhile."""
    go_on, slow_blobs = threading.Event(), OPEN_AFTER + 1

    def answer(asked: Asked, sock: socket.socket) -> Reply | None:
        if "blobs" not in asked.path:
            server.hang()
            return None
        assert go_on.wait(STUCK_SECONDS)
        return Reply(200, {}, MANIFEST)

    with Server(answer) as server:
        upstream = one(
            upstreams, server, retries=2, first_byte_timeout_seconds=0.2, stall_timeout_seconds=600, connections=8
        )
        loop = asyncio.get_running_loop()
        blobs = [loop.run_in_executor(upstream.threads, open_blob, upstream) for _ in range(slow_blobs)]
        await server.until_asked(slow_blobs)
        with pytest.raises(UpstreamUnavailable, match=r"did not answer within 0\.2 s"):
            await ask(upstream)
        assert not any(blob.done() for blob in blobs)
        go_on.set()
        await asyncio.gather(*blobs)
        assert [asked.path.split("/")[3] for asked in server.asked] == ["blobs"] * slow_blobs + ["manifests"]
    assert upstream.health.breaker is BreakerState.CLOSED
    assert recorder.health == []


async def test_the_first_byte_of_what_a_refused_head_is_asked_by_is_a_blobs_too(upstreams: Make) -> None:
    go_on = threading.Event()

    def answer(asked: Asked, sock: socket.socket) -> Reply | None:
        if asked.method == "HEAD":
            return error_reply(405, "UNSUPPORTED")
        if "blobs" not in asked.path:
            server.hang()
            return None
        assert go_on.wait(STUCK_SECONDS)
        return Reply(206, {"Content-Range": "bytes 0-0/20"}, MANIFEST[:1])

    with Server(answer) as server:
        upstream = one(upstreams, server, first_byte_timeout_seconds=1.0, stall_timeout_seconds=600)
        size = asyncio.create_task(upstream.find_blob("a", DIGEST, None))
        await server.until_asked(2)
        with pytest.raises(UpstreamUnavailable, match="did not answer within 1 s"):
            await ask(upstream)
        go_on.set()
        assert await size == 20


@pytest.mark.parametrize(("first_byte", "stall", "limit"), [(0.2, 0.1, "0.2"), (0.1, 0.2, "0.2")])
async def test_a_blob_whose_first_byte_does_not_come_at_all_is_asked_for_once(
    upstreams: Make, time: Time, first_byte: float, stall: float, limit: str
) -> None:
    with silent() as server:
        upstream = one(upstreams, server, retries=2, first_byte_timeout_seconds=first_byte, stall_timeout_seconds=stall)
        with pytest.raises(UpstreamUnavailable, match=f"did not answer within {limit} s"):
            open_blob(upstream)
        await server.until_asked()
        assert len(server.asked) == 1
    assert time.slept == []


# What counts for the breaker


async def test_however_often_it_is_tried_an_errand_counts_once_for_the_breaker(upstreams: Make, time: Time) -> None:
    with Server(lambda asked, sock: error_reply(503, "X")) as server:
        upstream = one(upstreams, server, retries=2)
        tries = 0
        for number in range(OPEN_AFTER):
            assert upstream.health.breaker is BreakerState.CLOSED
            errand = upstream.errand()
            # A transfer that breaks off is resumed again and again.
            for _ in range(3 if number < OPEN_AFTER - 1 else 1):
                with pytest.raises(UpstreamUnavailable, match="503"):
                    open_blob(upstream, errand)
                tries += 3
        assert len(server.asked) == tries == 3 * (3 * (OPEN_AFTER - 1) + 1)
        assert upstream.health.breaker is BreakerState.OPEN
        with pytest.raises(UpstreamUnavailable, match="not asked"):
            open_blob(upstream)
        assert len(server.asked) == tries


async def test_an_errand_counts_once_for_each_endpoint(upstreams: Make) -> None:
    with (
        Server(lambda asked, sock: error_reply(502, "X")) as first,
        Server(lambda asked, sock: Reply(200, {}, MANIFEST)) as second,
    ):
        upstream = one(upstreams, first, second)
        errand = upstream.errand()
        for _ in range(2 * OPEN_AFTER):
            open_blob(upstream, errand)
        assert (len(first.asked), len(second.asked)) == (2 * OPEN_AFTER, 2 * OPEN_AFTER)
        for _ in range(OPEN_AFTER - 1):
            open_blob(upstream)
        first.asked.clear()
        open_blob(upstream)
        assert first.asked == [], "it has failed for five"


async def test_a_success_in_between_begins_the_count_anew(upstreams: Make) -> None:
    replies = [error_reply(502, "X")] * (OPEN_AFTER - 1) + [Reply(200, {}, MANIFEST)] + [error_reply(502, "X")] * 4
    with Server(lambda asked, sock: replies.pop(0)) as server:
        upstream = one(upstreams, server)
        for _ in range(len(replies)):
            try:
                open_blob(upstream)
            except UpstreamUnavailable:
                pass
        assert len(server.asked) == 2 * OPEN_AFTER - 1
    assert upstream.health.breaker is BreakerState.CLOSED


# The rate limit


class Limits:
    """429 with a Retry-After of a second, for ever."""

    def __init__(self) -> None:
        self.server = Server(lambda asked, sock: error_reply(429, "TOOMANYREQUESTS", Retry_After="1"))


@pytest.mark.parametrize("what", ["manifest", "size", "tags", "referrers", "blob"])
async def test_a_cold_pull_waits_as_often_as_it_is_told_to_until_queue_timeout_is_spent(
    upstreams: Make, time: Time, what: str
) -> None:
    with Limits().server as server:
        upstream = one(upstreams, server, queue_timeout_seconds=30, retries=2)
        errand = upstream.errand()
        pulls: dict[str, Callable[[], Awaitable[object]]] = {
            "manifest": lambda: ask(upstream),
            "size": lambda: upstream.find_blob("a", DIGEST, None, wants_size=True),
            "tags": lambda: upstream.list_tags("a", None),
            "referrers": lambda: upstream.fetch_referrers("a", DIGEST, None),
            "blob": lambda: pull_blob(upstream, errand),
        }
        with pytest.raises(UpstreamThrottled) as caught:
            await pulls[what]()
        assert len(server.asked) == 31
        assert time.slept == [1] * 30
        assert caught.value.retry_after_seconds == 1
        if what == "blob":
            # What is left of it is told to whoever tries once more on the same errand, and nothing is asked.
            with pytest.raises(UpstreamThrottled):
                open_blob(upstream, errand)
            assert len(server.asked) == 31
    assert upstream.health.breaker is BreakerState.CLOSED


async def test_a_pull_that_is_let_through_in_the_end_succeeds(upstreams: Make, time: Time) -> None:
    replies = [error_reply(429, "TOOMANYREQUESTS", Retry_After="1")] * 29 + [Reply(200, {}, MANIFEST)]
    with Server(lambda asked, sock: replies.pop(0)) as server:
        upstream = one(upstreams, server, queue_timeout_seconds=30)
        await pull_blob(upstream, upstream.errand())
        assert len(server.asked) == 30
    assert time.slept == [1] * 29


@pytest.mark.parametrize("what", ["manifest", "blob"])
async def test_a_refusal_that_takes_longer_than_the_wait_it_orders_spends_patience_too(
    upstreams: Make, time: Time, what: str
) -> None:
    """Otherwise the pull would be asked for without end: each pause is over before it is looked at."""

    def answer(asked: Asked, sock: socket.socket) -> None:
        refusal = error_reply(429, "TOOMANYREQUESTS", Retry_After="1").encode("GET")
        head, body = refusal.split(b"\r\n\r\n")
        sock.sendall(head + b"\r\nConnection: close\r\n\r\n")
        while upstream.health.paused_until is None and not server.closed.wait(0.001):
            pass  # until the head is read
        time.now += 2
        sock.sendall(body)

    with Server(answer) as server:
        upstream = one(upstreams, server, queue_timeout_seconds=10)
        pull = ask(upstream) if what == "manifest" else pull_blob(upstream, upstream.errand())
        with pytest.raises(UpstreamThrottled):
            await pull
        assert len(server.asked) == 11


# The queue for small questions


async def test_a_question_waits_for_a_connection_no_longer_than_queue_timeout(upstreams: Make) -> None:
    with Server(lambda asked, sock: Reply(200, {}, MANIFEST)) as server:
        upstream = one(upstreams, server, connections=1, queue_timeout_seconds=0.1)
        in_use = r"no connection for questions to registry\.example\.com came free for this client in 0\.1 s"
        async with upstream.turn() as turn:
            for _ in range(2):
                with pytest.raises(UpstreamThrottled, match=in_use) as caught:
                    await ask(upstream)
                assert (caught.value.retry_after_seconds, caught.value.status) == (1.0, None)
            assert server.asked == []
            await upstream.fetch_manifest("a", "1", None, turn=turn)  # who has a turn waits for none
        await ask(upstream)
        assert len(server.asked) == 2


async def test_questions_that_hang_keep_others_waiting_no_longer_either(upstreams: Make) -> None:
    with silent() as server:
        upstream = one(upstreams, server, connections=3, queue_timeout_seconds=0.1, first_byte_timeout_seconds=600)
        # The third is another client's.
        hanging = [asyncio.create_task(ask(upstream)) for _ in range(2)]
        await server.until_asked(2)
        with pytest.raises(UpstreamThrottled, match="no connection for questions"):
            await ask(upstream)
        with pytest.raises(UpstreamThrottled, match="no connection for questions"):
            await upstream.find_blob("a", DIGEST, None)
        assert len(server.asked) == 2
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
    assert upstream.health.breaker is BreakerState.CLOSED


async def test_a_check_with_a_limit_of_its_own_ends_with_it_in_the_queue_too(upstreams: Make) -> None:
    upstream = one(upstreams, NOWHERE, connections=1)
    async with upstream.turn():
        with pytest.raises(UpstreamUnavailable, match=r"did not answer for a 1 within 0\.1 s"):
            await upstream.head_manifest("a", "1", None, timeout=0.1)


# The queue for bodies


async def admitted(upstream: Upstream, repository: str, client: str, inside: list[str], leave: asyncio.Event) -> None:
    ASKER.set(client)
    async with upstream.admit(repository):
        inside.append(f"{client}/{repository}")
        await leave.wait()


async def test_an_image_leaves_bodies_to_other_images_and_a_client_to_other_clients(upstreams: Make) -> None:
    upstream, leave = one(upstreams, NOWHERE, connections=8), asyncio.Event()
    inside: list[str] = []
    async with asyncio.TaskGroup() as group:
        for repository, client in (("big", "me"), ("small", "me"), ("other", "me"), ("new", "you")):
            for _ in range(8):
                group.create_task(admitted(upstream, repository, client, inside, leave))
            for _ in range(10):
                await asyncio.sleep(0)
        assert inside == ["me/big"] * 5 + ["me/small"] * 2 + ["you/new"]
        leave.set()
    assert len(inside) == 32


@pytest.mark.parametrize("connections", [1, 2, 4, 7, 8, 16])
async def test_a_client_leaves_a_connection_however_few_there_are(upstreams: Make, connections: int) -> None:
    upstream, leave = one(upstreams, NOWHERE, connections=connections), asyncio.Event()
    inside: list[str] = []
    async with asyncio.TaskGroup() as group:
        for client in ("me", "you"):
            for number in range(connections):
                group.create_task(admitted(upstream, f"{client}{number}", client, inside, leave))
            for _ in range(2 * connections):
                await asyncio.sleep(0)
        assert len(inside) == connections
        assert connections == 1 or any(name.startswith("you/") for name in inside)
        leave.set()


async def test_what_nobody_waits_for_comes_after_all_images(upstreams: Make) -> None:
    upstream = one(upstreams, NOWHERE, connections=1)
    inside: list[str] = []

    async def transfer(name: str, behind: bool) -> None:
        async with upstream.admit(name, behind=behind):
            inside.append(name)
            for _ in range(5):
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name, behind in (("a", False), ("ahead of time", True), ("b", False), ("c", False)):
            group.create_task(transfer(name, behind))
            await asyncio.sleep(0)
    assert inside == ["a", "b", "c", "ahead of time"]
