"""Proxies: tunnels for https, whole URLs for http, and what is still checked behind them."""

from __future__ import annotations

import socket

import pytest

from pullthrough.errors import UpstreamError, UpstreamRefused, UpstreamUnavailable
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, one, over_tls
from tests.integration.upstream.conftest import Certificates
from tests.integration.upstream.servers import Asked, ConnectProxy, Reply, Server

MANIFEST = b'{"schemaVersion": 2}'
HOST = "registry.example.com"


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, MANIFEST)


async def ask(upstream: Upstream) -> None:
    await upstream.fetch_manifest("a", "1", None)


@pytest.mark.parametrize("by", ["setting", "environment"])
async def test_https_goes_through_a_tunnel_and_the_name_is_left_to_the_proxy(
    upstreams: Make, certificates: Certificates, by: str
) -> None:
    with (
        Server(serving, tls=certificates.server()) as server,
        ConnectProxy(lambda host, port: ("127.0.0.1", server.port)) as proxy,
    ):
        upstream = upstreams(
            settings={HOST: over_tls(certificates.ca, proxy=proxy.url if by == "setting" else "")},
            environ={"HTTPS_PROXY": proxy.url} if by == "environment" else {},
        ).get(HOST)
        await ask(upstream)
        await ask(upstream)
        assert proxy.lines == [f"CONNECT {HOST}:443"]
        assert server.lines == ["GET /v2/a/manifests/1"] * 2
        assert server.asked[0].headers["host"] == HOST


async def test_no_proxy_connects_directly(upstreams: Make, certificates: Certificates) -> None:
    with Server(serving, tls=certificates.server()) as server:
        upstream = upstreams(
            settings={HOST: over_tls(certificates.ca)},
            environ={"HTTPS_PROXY": "http://127.0.0.1:1", "NO_PROXY": "example.com"},
            hosts={HOST: server},
        ).get(HOST)
        await ask(upstream)


async def test_plain_http_is_sent_to_the_proxy_as_a_whole_url(upstreams: Make) -> None:
    with ConnectProxy(lambda host, port: (host, port), answer=Reply(200, {}, MANIFEST)) as proxy:
        await ask(one(upstreams, "http://registry.internal:5000", proxy=f"http://user:s3cret@127.0.0.1:{proxy.port}"))
        assert proxy.lines == ["GET http://registry.internal:5000/v2/a/manifests/1"]
        assert proxy.requests[0].headers["host"] == "registry.internal:5000"
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")


async def test_the_proxys_password_goes_to_the_proxy_and_no_further(
    upstreams: Make, certificates: Certificates
) -> None:
    with (
        Server(serving, tls=certificates.server()) as server,
        ConnectProxy(lambda host, port: ("127.0.0.1", server.port)) as proxy,
    ):
        setting = f"http://user:s3cret@127.0.0.1:{proxy.port}"
        await ask(upstreams(settings={HOST: over_tls(certificates.ca, proxy=setting)}).get(HOST))
        assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
        assert "proxy-authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\nblocked", "403"),
        (b"", "closed"),
        (b"garbage", "garbage"),
        (b"x" * 100_000, "x"),
    ],
)
async def test_a_proxy_that_gives_no_connection_is_named(upstreams: Make, answer: bytes, reason: str) -> None:
    with ConnectProxy(lambda host, port: (host, port), refuse=answer or b" ") as proxy:
        upstream = one(upstreams, "https://registry.example.com", proxy=f"http://user:s3cret@127.0.0.1:{proxy.port}")
        with pytest.raises(UpstreamUnavailable, match="the proxy 127") as caught:
            await ask(upstream)
    assert "s3cret" not in str(caught.value)
    if reason.isdigit():
        assert reason in str(caught.value)


async def test_a_proxy_that_is_down_is_unavailable(upstreams: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamUnavailable, match=f":{port}"):
        await ask(one(upstreams, "https://registry.example.com", proxy=f"http://127.0.0.1:{port}"))


async def test_an_unusable_proxy_variable_is_an_error_without_its_value(upstreams: Make) -> None:
    upstream = one(upstreams, "https://h.example", environ={"HTTPS_PROXY": "socks5://user:s3cret@h:1"})
    with pytest.raises(UpstreamRefused, match="neither http nor https") as caught:
        await ask(upstream)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:9/x",
        "http://localhost/x",
        "http://10.0.0.5/x",
        "http://2130706433/x",
        "http://[::ffff:10.0.0.5]/x",
        "http://169.254.169.254/x",
        "http://metadata.google.internal/x",
    ],
)
async def test_behind_a_proxy_names_and_literals_of_the_neighbourhood_are_refused(
    upstreams: Make, location: str
) -> None:
    with ConnectProxy(lambda host, port: (host, port), answer=Reply(307, {"Location": location})) as proxy:
        with pytest.raises(UpstreamRefused):
            await ask(one(upstreams, "http://registry.example.com", proxy=proxy.url))
        assert len(proxy.requests) == 1


async def test_behind_a_proxy_metadata_is_no_endpoint_either(upstreams: Make) -> None:
    with ConnectProxy(lambda host, port: (host, port), answer=Reply(200, {}, MANIFEST)) as proxy:
        with pytest.raises(UpstreamError, match="metadata"):
            await ask(one(upstreams, "http://169.254.169.254", proxy=proxy.url))
        assert proxy.requests == []
