"""429 and the budget: what waits, what fails at once, and that nothing is asked in between."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pullthrough.errors import UpstreamThrottled
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, Time, one
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = digest_of(MANIFEST)


class Limited:
    """429 with these Retry-After values in turn (empty: without the header), then answers."""

    def __init__(self, *waits: str) -> None:
        self.waits = list(waits)
        self.headers: dict[str, str] = {}
        self.server = Server(self._answer)

    def _answer(self, asked: Asked, sock: socket.socket) -> Reply:
        if self.waits:
            wait = self.waits.pop(0)
            return error_reply(429, "TOOMANYREQUESTS", "slow down", **({"Retry_After": wait} if wait else {}))
        return Reply(200, self.headers, MANIFEST)


async def ask(upstream: Upstream, timeout: float | None = None) -> None:
    await upstream.fetch_manifest("a", "1", None, timeout=timeout)


async def test_a_short_retry_after_is_waited_and_tried_once_more(upstreams: Make, time: Time) -> None:
    with Limited("20").server as server:
        await ask(one(upstreams, server))
        assert len(server.asked) == 2
    assert time.slept == [20]


async def test_it_is_waited_however_often_it_is_said_until_patience_is_spent(upstreams: Make, time: Time) -> None:
    with Limited(*["5"] * 7).server as server:
        with pytest.raises(UpstreamThrottled, match="TOOMANYREQUESTS: slow down") as caught:
            await ask(one(upstreams, server, queue_timeout_seconds=30.0))
        assert len(server.asked) == 7
    assert time.slept == [5] * 6
    assert caught.value.retry_after_seconds == 5
    assert caught.value.status == 429


async def test_all_that_is_done_for_one_blob_shares_one_patience(upstreams: Make, time: Time) -> None:
    with Limited("5", "20", "6").server as server:
        upstream = one(upstreams, server, queue_timeout_seconds=30.0)
        with pytest.raises(UpstreamThrottled):
            await ask(upstream, timeout=1.0)
        errand = upstream.errand()
        async with upstream.admit("a", errand):
            assert time.slept == [5]
            with pytest.raises(UpstreamThrottled):
                upstream.open_blob("a", DIGEST, None, errand=errand, abort=AbortHandle())
    assert time.slept == [5, 20]
    assert errand.patience_seconds == 5


async def test_a_long_retry_after_fails_at_once_and_for_everybody_without_asking(upstreams: Make, time: Time) -> None:
    with Limited("600").server as server:
        upstream = one(upstreams, server)
        for _ in range(4):
            with pytest.raises(UpstreamThrottled) as caught:
                await ask(upstream)
            assert caught.value.retry_after_seconds == 600
        with pytest.raises(UpstreamThrottled):
            await upstream.find_blob("a", DIGEST, None)
        with pytest.raises(UpstreamThrottled):
            async with upstream.admit("a"):
                pass
        with pytest.raises(UpstreamThrottled):
            upstream.open_blob("a", DIGEST, None, abort=AbortHandle())
        assert len(server.asked) == 1
        assert time.slept == []
        time.now += 600
        await ask(upstream)


async def test_a_429_pauses_all_questions_until_it_may_be_asked_again(upstreams: Make, time: Time) -> None:
    with Limited("100").server as server:
        upstream = one(upstreams, server)
        with pytest.raises(UpstreamThrottled):
            await ask(upstream)
        time.now += 80
        await ask(upstream)
        async with upstream.admit("a"):
            pass
        assert time.slept == [20]
        assert len(server.asked) == 2


async def test_a_limit_on_logins_pauses_everything_too(upstreams: Make) -> None:
    """Docker Hub's limit on abuse counts tokens and HEADs as well, and going on prolongs it."""

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            return error_reply(429, "TOOMANYREQUESTS", Retry_After="600")
        challenge = f'Bearer realm="http://{asked.headers["host"]}/token"'
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    with Server(answer) as server:
        upstream = one(upstreams, server)
        for _ in range(3):
            with pytest.raises(UpstreamThrottled) as caught:
                await ask(upstream)
            assert caught.value.retry_after_seconds == 600
        assert server.lines == ["GET /v2/a/manifests/1", "GET /token"]


async def test_without_retry_after_pauses_double(upstreams: Make, time: Time) -> None:
    with Limited("", "", "").server as server:
        upstream = one(upstreams, server, queue_timeout_seconds=1)
        waits = []
        for _ in range(3):
            with pytest.raises(UpstreamThrottled) as caught:
                await ask(upstream)
            waits.append(caught.value.retry_after_seconds)
            time.now += waits[-1]
        assert waits == [10, 20, 40]


async def test_retry_after_may_be_a_date(upstreams: Make, time: Time) -> None:
    time.now = 0  # 2027-01-15 08:00:00
    with Limited("Fri, 15 Jan 2027 08:10:00 GMT").server as server, pytest.raises(UpstreamThrottled) as caught:
        await ask(one(upstreams, server))
    assert caught.value.retry_after_seconds == 600


async def test_a_check_before_an_answer_waits_for_no_pause(upstreams: Make, time: Time) -> None:
    with Limited("5").server as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            with pytest.raises(UpstreamThrottled):
                await upstream.head_manifest("a", "1", None, timeout=10)
        assert len(server.asked) == 1
    assert time.slept == []


async def test_opening_a_blob_waits_for_a_short_pause_in_its_thread(upstreams: Make, time: Time) -> None:
    with Limited("20").server as server:
        upstream = one(upstreams, server)
        upstream.open_blob("a", DIGEST, None, abort=AbortHandle()).close()
        assert len(server.asked) == 2
    assert time.slept == [20]


async def test_what_is_left_is_told_and_nothing_left_is_no_pause_by_itself(
    upstreams: Make, time: Time, recorder: Recorder
) -> None:
    limited = Limited()
    limited.headers = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "0;w=21600"}
    with limited.server as server:
        upstream = one(upstreams, server)
        await ask(upstream)
        await ask(upstream)
        assert len(server.asked) == 2
        assert upstream.health.remaining == 0
        assert upstream.health.paused_until is None
        limited.headers["RateLimit-Reset"] = "50"
        await ask(upstream)
        with pytest.raises(UpstreamThrottled):
            await ask(upstream)
        assert upstream.health.paused_until == time.clock() + 50
    assert recorder.budgets == [("registry.example.com", 0, 0.0), ("registry.example.com", 0, time.clock() + 50)]


async def test_an_upstream_without_limits_works_without_them(upstreams: Make) -> None:
    with Limited().server as server:
        upstream = one(upstreams, server)
        await ask(upstream)
        assert (upstream.health.remaining, upstream.health.limit, upstream.health.paused_until) == (None, None, None)


async def test_blobs_in_transfer_are_never_more_than_the_setting_and_come_in_turn(upstreams: Make) -> None:
    upstream = one(upstreams, "http://127.0.0.1:1", connections=3)  # one of them for another client
    inside: list[str] = []
    leave = {name: asyncio.Event() for name in "abcd"}

    async def transfer(name: str, behind: bool) -> None:
        async with upstream.admit("a", behind=behind):
            inside.append(name)
            await leave[name].wait()

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(transfer(name, behind=name == "c"))
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert inside == ["a", "b"]
        leave["a"].set()
        for _ in range(5):
            await asyncio.sleep(0)
        assert inside == ["a", "b", "d"]
        for event in leave.values():
            event.set()
    assert inside == ["a", "b", "d", "c"]


async def test_small_questions_do_not_wait_behind_bodies(upstreams: Make) -> None:
    with Limited().server as server:
        upstream = one(upstreams, server, connections=1)
        async with upstream.admit("a"):
            await ask(upstream)


async def test_who_waits_for_a_connection_hears_at_once_of_a_long_pause(upstreams: Make) -> None:
    limited = Limited("600")
    with limited.server as server:
        upstream = one(upstreams, server, connections=1)
        async with upstream.admit("a"):
            waiting = asyncio.create_task(enter(upstream))
            await asyncio.sleep(0)
            with pytest.raises(UpstreamThrottled):
                await ask(upstream)
            with pytest.raises(UpstreamThrottled):
                await waiting


async def enter(upstream: Upstream) -> None:
    async with upstream.admit("a"):
        pass
