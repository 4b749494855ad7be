"""Retries, lists of endpoints, and the breaker: how often an upstream in trouble is asked."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pullthrough.errors import UpstreamDenied, UpstreamInvalid, UpstreamNotFound, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, Time, one
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server, answering, error_reply, silent

MANIFEST = b'{"schemaVersion": 2}'


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, MANIFEST)


class Sick:
    """Answers with what it has, then well. bytes: sent as they are, None: the connection just ends."""

    def __init__(self, *replies: Reply | bytes | None) -> None:
        self.replies = list(replies)
        self.server = Server(self._answer)

    def _answer(self, asked: Asked, sock: socket.socket) -> Reply | bytes | None:
        return self.replies.pop(0) if self.replies else Reply(200, {}, MANIFEST)


def dead_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def ask(upstream: Upstream) -> bytes:
    return (await upstream.fetch_manifest("a", "1", None)).body


async def fail(upstream: Upstream, times: int) -> None:
    for _ in range(times):
        with pytest.raises(UpstreamUnavailable):
            await ask(upstream)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_5xx_is_tried_again_with_growing_pauses(upstreams: Make, time: Time, status: int) -> None:
    sick = Sick(error_reply(status, "X"), error_reply(status, "X"))
    with sick.server as server:
        assert await ask(one(upstreams, server, retries=2)) == MANIFEST
        assert len(server.asked) == 3
    assert time.slept == [0.25, 0.5]


@pytest.mark.parametrize(
    "trouble",
    [None, b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"],
)
async def test_broken_connections_are_tried_again(upstreams: Make, trouble: bytes | None) -> None:
    sick = Sick(trouble, trouble)
    with sick.server as server:
        assert await ask(one(upstreams, server, retries=2)) == MANIFEST
        assert len(server.asked) == 3


async def test_retries_are_bounded_and_the_last_reason_is_told(upstreams: Make, recorder: Recorder) -> None:
    with Server(lambda asked, sock: error_reply(503, "UNAVAILABLE", "in maintenance")) as server:
        upstream = one(upstreams, server, retries=2)
        with pytest.raises(UpstreamUnavailable, match="503: UNAVAILABLE: in maintenance") as caught:
            await ask(upstream)
        assert len(server.asked) == 3
    assert caught.value.temporary
    assert recorder.statuses == [503, 503, 503]
    assert "maintenance" in upstream.health.last_error


async def test_what_is_no_passing_trouble_is_asked_once(upstreams: Make) -> None:
    for status, error in (
        (404, UpstreamNotFound),
        (403, UpstreamDenied),
        (400, UpstreamInvalid),
        (501, UpstreamInvalid),
    ):
        with Server(answering(error_reply(status, "X"))) as server:
            with pytest.raises(error):
                await ask(one(upstreams, server, retries=2))
            assert len(server.asked) == 1


async def test_a_long_retry_after_with_503_ends_the_tries(upstreams: Make) -> None:
    with Server(lambda asked, sock: error_reply(503, "X", Retry_After="60")) as server:
        with pytest.raises(UpstreamUnavailable):
            await ask(one(upstreams, server, retries=2))
        assert len(server.asked) == 1


async def test_a_hanging_upstream_is_given_its_time_once(upstreams: Make) -> None:
    """Three times the limit would eat the whole time that a client has for its fallback."""
    with silent() as server:
        with pytest.raises(UpstreamUnavailable, match="did not answer within"):
            await ask(one(upstreams, server, retries=2, first_byte_timeout_seconds=0.2))
        assert len(server.asked) == 1


async def test_a_check_before_an_answer_is_one_try(upstreams: Make, time: Time) -> None:
    with Server(lambda asked, sock: error_reply(503, "X")) as server:
        with pytest.raises(UpstreamUnavailable):
            await one(upstreams, server, retries=2).head_manifest("a", "1", None, timeout=5)
        assert len(server.asked) == 1
    assert time.slept == []


async def test_endpoints_are_tried_in_order_before_any_pause(upstreams: Make, time: Time) -> None:
    with Server(serving) as second, Server(serving) as third:
        assert await ask(one(upstreams, dead_url(), second, third)) == MANIFEST
        assert (len(second.asked), len(third.asked)) == (1, 0)
    assert time.slept == []


async def test_an_endpoint_that_answers_5xx_gives_way_to_the_next(upstreams: Make) -> None:
    with Server(lambda asked, sock: error_reply(502, "X")) as first, Server(serving) as second:
        assert await ask(one(upstreams, first, second)) == MANIFEST
        assert (len(first.asked), len(second.asked)) == (1, 1)


async def test_404_is_an_answer_and_no_reason_for_the_next_endpoint(upstreams: Make) -> None:
    with Server(lambda asked, sock: error_reply(404, "X")) as first, Server(serving) as second:
        with pytest.raises(UpstreamNotFound):
            await ask(one(upstreams, first, second))
        assert second.asked == []


async def test_an_endpoint_that_keeps_failing_is_left_out_for_a_while(upstreams: Make, time: Time) -> None:
    with Server(lambda asked, sock: error_reply(502, "X")) as first, Server(serving) as second:
        upstream = one(upstreams, first, second)
        for _ in range(8):
            await ask(upstream)
        assert (len(first.asked), len(second.asked)) == (5, 8)
        time.now += 15
        await ask(upstream)
        assert (len(first.asked), len(second.asked)) == (6, 9)
        assert upstream.health.healthy


async def test_the_circuit_opens_after_five_failures_and_answers_without_asking(
    upstreams: Make, time: Time, recorder: Recorder
) -> None:
    with Server(lambda asked, sock: error_reply(502, "X", "all is lost")) as server:
        upstream = one(upstreams, server, retries=1)
        await fail(upstream, 5)
        assert len(server.asked) == 10
        with pytest.raises(UpstreamUnavailable, match=r"15 s more.*all is lost"):
            await ask(upstream)
        with pytest.raises(UpstreamUnavailable):
            upstream.open_blob("a", digest_of(b""), None, abort=AbortHandle())
        with pytest.raises(UpstreamUnavailable):
            async with upstream.admit("a"):
                pass
        assert len(server.asked) == 10
        assert upstream.health.breaker is BreakerState.OPEN
        assert not upstream.health.healthy
        server.handler = serving
        time.now += 20
        assert await ask(upstream) == MANIFEST
        assert upstream.health.healthy
    assert recorder.health == [("registry.example.com", False), ("registry.example.com", True)]


async def test_answers_of_4xx_close_the_circuit(upstreams: Make) -> None:
    sick = Sick(*[error_reply(502, "X")] * 4, error_reply(404, "X"), *[error_reply(502, "X")] * 4)
    with sick.server as server:
        upstream = one(upstreams, server)
        await fail(upstream, 4)
        with pytest.raises(UpstreamNotFound):
            await ask(upstream)
        await fail(upstream, 4)
        assert upstream.health.breaker is BreakerState.CLOSED


async def test_429_never_opens_the_circuit(upstreams: Make, time: Time) -> None:
    with Server(lambda asked, sock: error_reply(429, "X", Retry_After="100")) as server:
        upstream = one(upstreams, server)
        for _ in range(8):
            with pytest.raises(Exception, match="limits the rate"):
                await ask(upstream)
            time.now += 100
        assert upstream.health.breaker is BreakerState.CLOSED


async def test_while_half_open_one_probe_goes_out(upstreams: Make, time: Time) -> None:
    with Server(lambda asked, sock: error_reply(502, "X")) as server:
        upstream = one(upstreams, server)
        await fail(upstream, 5)
        server.asked.clear()
        time.now += 15
        results = await asyncio.gather(*(ask(upstream) for _ in range(6)), return_exceptions=True)
        assert all(isinstance(result, UpstreamUnavailable) for result in results)
        assert len(server.asked) == 1


async def test_checks_that_run_out_of_time_open_the_circuit_so_that_stale_answers_come_at_once(
    upstreams: Make, recorder: Recorder
) -> None:
    with silent() as server:
        upstream = one(upstreams, server)
        for _ in range(5):
            with pytest.raises(UpstreamUnavailable, match=r"within 0\.1 s"):
                await upstream.head_manifest("a", "1", None, timeout=0.1)
        assert await asyncio.to_thread(recorder.unhealthy.wait, STUCK_SECONDS)
        with pytest.raises(UpstreamUnavailable, match="not asked"):
            await upstream.head_manifest("a", "1", None, timeout=0.1)


async def test_requests_that_were_cancelled_say_nothing_about_the_upstream(upstreams: Make) -> None:
    with silent() as server:
        upstream = one(upstreams, server)
        for number in range(6):
            task = asyncio.create_task(ask(upstream))
            await server.until_asked(number + 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert upstream.health.breaker is BreakerState.CLOSED
