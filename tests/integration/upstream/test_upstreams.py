"""All upstreams of a process: made on demand, described, and closed."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from pullthrough.errors import ConfigurationError, UpstreamUnavailable
from pullthrough.settings import UpstreamSettings
from tests.integration.upstream.clients import Make, one, reached_at
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server, silent

#: One client's questions leave one connection of eight to another's.
CONNECTIONS, OF_ONE_CLIENT = 8, 7


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, b"{}")


async def test_all_names_of_docker_hub_are_one_upstream(upstreams: Make) -> None:
    made = upstreams()
    assert made.get("docker.io") is made.get("index.docker.io") is made.get("registry-1.docker.io")
    assert made.get("docker.io").host == "registry-1.docker.io"
    assert [health.upstream for health in made.health()] == ["registry-1.docker.io"]


async def test_nothing_is_connected_to_before_it_is_asked(upstreams: Make) -> None:
    with Server(serving) as server:
        upstream = one(upstreams, server)
        assert upstream.health.healthy
        assert server.connections == 0


async def test_an_endpoint_that_is_no_url_is_a_configuration_error(upstreams: Make) -> None:
    with pytest.raises(ConfigurationError, match=r'upstreams\."h"'):
        upstreams(settings={"h": UpstreamSettings(endpoint=("nonsense",))}).get("h")


async def test_health_says_how_each_upstream_is(upstreams: Make) -> None:
    with Server(serving) as server:
        upstream = one(upstreams, server)
        await upstream.fetch_manifest("a", "1", None)
        health = upstream.health
    assert (health.upstream, health.healthy, health.breaker) == ("registry.example.com", True, "closed")
    assert (health.paused_until, health.remaining, health.limit) == (None, None, None)
    assert (health.credential_ok, health.last_error) == (None, "")


async def test_closing_ends_what_is_under_way(upstreams: Make) -> None:
    with silent() as server:
        made = upstreams(settings={"h.example": UpstreamSettings(endpoint=(server.url,))})
        task = asyncio.create_task(made.get("h.example").fetch_manifest("a", "1", None))
        await server.until_asked()
        await made.close()
        with pytest.raises(UpstreamUnavailable):
            await task
        with pytest.raises(UpstreamUnavailable):
            await made.get("h.example").fetch_manifest("a", "1", None)
        await made.close()


async def test_many_questions_at_once_use_no_more_connections_than_the_setting(upstreams: Make) -> None:
    with Server(serving) as server:
        upstream = one(upstreams, server, connections=3)
        await asyncio.gather(*(upstream.fetch_manifest("a", str(tag), None) for tag in range(60)))
        assert len(server.asked) == 60
        assert server.connections <= 3


async def test_names_that_one_upstream_leads_to_hold_up_no_other(upstreams: Make) -> None:
    """It may redirect to ever new ones for which its name servers never answer."""
    asked, all_asked, may_answer = list[str](), threading.Event(), threading.Event()

    def look_up(host: str, port: int, **options: object) -> list[object]:
        asked.append(host)
        if len(asked) == OF_ONE_CLIENT:
            all_asked.set()
        may_answer.wait(STUCK_SECONDS)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    def redirecting(asked: Asked, sock: socket.socket) -> Reply:
        return Reply(307, {"Location": f"http://{asked.path.rpartition('/')[2]}.example.net/"})

    with Server(redirecting) as hostile, Server(serving) as good:
        settings = {
            "hostile.example": reached_at(hostile, connections=CONNECTIONS, connect_timeout_seconds=600),
            "good.example": reached_at(good, connections=1),
        }
        made = upstreams(settings=settings, resolver=look_up)
        hanging = [
            asyncio.create_task(made.get("hostile.example").fetch_manifest("a", f"n{number}", None))
            for number in range(2 * CONNECTIONS)
        ]
        assert await asyncio.to_thread(all_asked.wait, STUCK_SECONDS)
        for tag in ("1", "2"):
            await made.get("good.example").fetch_manifest("a", tag, None)
        assert not any(task.done() for task in hanging)
        assert len(asked) == OF_ONE_CLIENT
        may_answer.set()
        ends = await asyncio.gather(*hanging, return_exceptions=True)
        assert all(isinstance(end, UpstreamUnavailable) for end in ends)
