"""Upstreams that only the API's callers have named lead to public addresses, and to nothing else by any detour."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from pullthrough.errors import UpstreamRefused, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, reached_at
from tests.integration.upstream.servers import Asked, ConnectProxy, Reply, Server, answering, error_reply, json_reply

MANIFEST = b'{"schemaVersion": 2}'
DIGEST = digest_of(MANIFEST)
#: What 127.0.0.1, where the endpoint is, passes for where it is reached.
PUBLIC = {"127.0.0.1": AddressClass.PUBLIC}


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, MANIFEST)


def unnamed(host: str) -> bool:
    return False


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


async def blob_of(upstream: Upstream) -> None:
    await asyncio.to_thread(lambda: upstream.open_blob("a", DIGEST, None, abort=AbortHandle()).close())


QUESTIONS: dict[str, Callable[[Upstream], Awaitable[object]]] = {
    "manifest": lambda upstream: upstream.fetch_manifest("a", "1", None),
    "check": lambda upstream: upstream.head_manifest("a", "1", None, timeout=10),
    "size": lambda upstream: upstream.find_blob("a", DIGEST, None),
    "tags": lambda upstream: upstream.list_tags("a", None),
    "referrers": lambda upstream: upstream.fetch_referrers("a", DIGEST, None),
    "login": lambda upstream: upstream.authenticate(None, timeout=10),
    "blob": blob_of,
}


async def refusal(upstream: Upstream, question: str = "manifest") -> str:
    with pytest.raises(UpstreamRefused) as caught:
        await QUESTIONS[question](upstream)
    return f"{caught.value} ({caught.value.hint})"


# Every way to write this machine


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("localhost", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "loopback"),
        ("[::ffff:7f00:1]", "loopback"),
        ("[::127.0.0.1]", "loopback"),
        ("[64:ff9b::7f00:1]", "loopback"),
        ("2130706433", "loopback"),
        ("0x7f000001", "loopback"),
        ("017700000001", "loopback"),
        ("127.1", "loopback"),
        ("0x7f.0.0.1", "loopback"),
        ("0.0.0.0", "unspecified"),
        ("0", "unspecified"),
        ("[::]", "unspecified"),
        ("[::ffff:0.0.0.0]", "unspecified"),
    ],
)
async def test_this_machine_is_no_upstream_however_it_is_written(upstreams: Make, host: str, kind: str) -> None:
    """The answer does not tell whether anybody listens there."""
    with Server(serving) as server:
        answers = set()
        for port in (server.port, closed_port()):
            upstream = upstreams(is_named=unnamed, resolver=socket.getaddrinfo).get(f"{host}:{port}")
            answers.add((await refusal(upstream)).replace(str(port), "PORT"))
        (answer,) = answers
        assert server.connections == 0
    assert f"it has a {kind} address, and the settings do not name" in answer
    assert f'[upstreams."{host}:PORT"]' in answer


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("10.1.2.3", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("[::ffff:192.168.1.1]", "private"),
        ("[fd00::1]", "private"),
        ("0xc0a80101", "private"),
        ("100.64.0.1", "carrier-grade NAT"),
        ("169.254.1.1", "link-local"),
        ("[fe80::1]", "link-local"),
        ("224.0.0.1", "multicast"),
        ("240.0.0.1", "reserved"),
    ],
)
async def test_neither_is_its_neighbourhood(upstreams: Make, recorder: Recorder, host: str, kind: str) -> None:
    upstream = upstreams(is_named=unnamed, resolver=socket.getaddrinfo).get(f"{host}:5000")
    assert f"it has a {kind} address, and the settings do not name" in await refusal(upstream)
    assert recorder.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "2852039166",
        "metadata.google.internal",
        "168.63.129.16",
    ],
)
@pytest.mark.parametrize("is_named", [True, False], ids=["named", "unnamed"])
async def test_where_clouds_hand_out_credentials_is_no_upstream_for_anybody(
    upstreams: Make, host: str, is_named: bool
) -> None:
    upstream = upstreams(is_named=lambda _: is_named, resolver=socket.getaddrinfo).get(host)
    assert "is refused: cloud metadata addresses are never connected to" in await refusal(upstream)


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_question_reaches_a_private_address(upstreams: Make, question: str) -> None:
    with Server(serving) as server:
        host = f"127.0.0.1:{server.port}"
        made = upstreams(is_named=unnamed, settings={host: reached_at(server)})
        assert "loopback" in await refusal(made.get(host), question)
        assert server.connections == 0


async def test_what_the_settings_name_may_be_anywhere(upstreams: Make) -> None:
    with Server(serving) as server:
        host = f"127.0.0.1:{server.port}"
        made = upstreams(is_named={host}.__contains__, settings={host: reached_at(server)})
        await made.get(host).fetch_manifest("a", "1", None)
        assert len(server.asked) == 1
        # By another name it is another upstream.
        other = f"localhost:{server.port}"
        assert "loopback" in await refusal(
            upstreams(is_named={host}.__contains__, resolver=socket.getaddrinfo).get(other)
        )
        assert server.connections == 1


# Names


async def test_a_name_with_a_private_address_is_refused_without_telling_the_address(upstreams: Make) -> None:
    with Server(serving) as server:
        answers = set()
        for address in ("10.0.0.5", "10.9.9.9"):
            made = upstreams(is_named=unnamed, hosts={"inner.example": address})
            answers.add(await refusal(made.get(f"inner.example:{server.port}")))
        (answer,) = answers
        assert "private" in answer
        assert "10." not in answer


async def test_of_a_names_addresses_only_public_ones_are_connected_to(upstreams: Make) -> None:
    with Server(serving, host="127.0.0.2") as private, Server(serving) as public:

        def look_up(host: str, port: int, **options: object) -> list[object]:
            addresses = [(server.host, server.port) for server in (private, public)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        settings = {"two.example": reached_at("http://two.example")}
        made = upstreams(is_named=unnamed, settings=settings, resolver=look_up, classes=PUBLIC)
        await made.get("two.example").fetch_manifest("a", "1", None)
        assert (private.connections, len(public.asked)) == (0, 1)


async def test_a_name_that_comes_to_mean_a_private_address_is_judged_at_each_connection(upstreams: Make) -> None:
    """Its owner may change the answer between two questions."""
    with Server(serving, host="127.0.0.2") as private, Server(lambda asked, sock: closing(MANIFEST)) as public:
        answers = [public, private, private]

        def look_up(host: str, port: int, **options: object) -> list[object]:
            server = answers.pop(0)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (server.host, server.port))]

        settings = {"turns.example": reached_at("http://turns.example")}
        upstream = upstreams(is_named=unnamed, settings=settings, resolver=look_up, classes=PUBLIC).get("turns.example")
        await upstream.fetch_manifest("a", "1", None)
        for _ in range(2):
            assert "loopback" in await refusal(upstream)
        assert (private.connections, public.connections) == (0, 1)


def closing(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


# What it points to


@pytest.mark.parametrize("question", QUESTIONS)
async def test_its_redirects_lead_to_no_private_address(upstreams: Make, question: str) -> None:
    with Server(serving, host="127.0.0.2") as inside:
        for location in (
            f"{inside.url}/x",
            f"http://inner.example:{inside.port}/x",
            f"http://2130706434:{inside.port}/x",
        ):
            with Server(answering(Reply(307, {"Location": location}))) as server:
                made = upstreams(
                    is_named=unnamed,
                    settings={"evil.example": reached_at(server)},
                    hosts={"inner.example": inside, "2130706434": inside},
                    classes=PUBLIC,
                )
                assert "loopback" in await refusal(made.get("evil.example"), question)
        assert inside.connections == 0


async def test_it_may_redirect_to_public_addresses(upstreams: Make) -> None:
    with Server(serving, host="127.0.0.3") as content:
        with Server(lambda asked, sock: Reply(307, {"Location": f"{content.url}/x"})) as server:
            made = upstreams(
                is_named=unnamed,
                settings={"cdn.example": reached_at(server)},
                classes={**PUBLIC, "127.0.0.3": AddressClass.PUBLIC},
            )
            await made.get("cdn.example").fetch_manifest("a", "1", None)
        assert content.lines == ["GET /x"]


@pytest.mark.parametrize("question", ["manifest", "login", "blob"])
async def test_its_token_realm_is_no_private_address(upstreams: Make, question: str) -> None:
    """A realm is on the upstream's own host; whoever owns the name may let it mean something else by then."""
    with Server(lambda asked, sock: json_reply({"token": "t"}), host="127.0.0.2") as inside:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            challenge = f'Bearer realm="http://evil.example:{inside.port}/token"'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

        with Server(answer) as server:

            def look_up(host: str, port: int, **options: object) -> list[object]:
                address = (inside.host, inside.port) if port == inside.port else (server.host, server.port)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

            settings = {"evil.example": reached_at("http://evil.example")}
            made = upstreams(is_named=unnamed, settings=settings, resolver=look_up, classes=PUBLIC)
            assert "loopback" in await refusal(made.get("evil.example"), question)
            assert len(server.asked) == 1
        assert inside.connections == 0


async def test_a_token_server_leads_to_no_private_address_either(upstreams: Make) -> None:
    with Server(lambda asked, sock: json_reply({"token": "t"}), host="127.0.0.2") as inside:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            if asked.path == "/token":
                return Reply(307, {"Location": f"{inside.url}/token"})
            challenge = f'Bearer realm="http://{asked.headers["host"]}/token"'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

        with Server(answer) as server:
            made = upstreams(is_named=unnamed, settings={"evil.example": reached_at(server)}, classes=PUBLIC)
            assert "loopback" in await refusal(made.get("evil.example"))
            assert len(server.asked) == 2
        assert inside.connections == 0


# Behind a proxy


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "127.1", "10.0.0.5", "0.0.0.0"]
)
async def test_a_proxy_is_not_asked_for_a_private_address(upstreams: Make, host: str) -> None:
    with ConnectProxy(lambda name, port: (name, port)) as proxy:
        made = upstreams(is_named=unnamed, resolver=socket.getaddrinfo, environ={"HTTPS_PROXY": proxy.url})
        assert "the settings do not name" in await refusal(made.get(f"{host}:5000"))
        assert proxy.requests == []


async def test_the_proxy_itself_may_be_anywhere(upstreams: Make) -> None:
    """The settings, or the environment, name it."""
    with ConnectProxy(lambda name, port: (name, port), refuse=b"HTTP/1.1 502 Bad Gateway\r\n\r\n") as proxy:
        made = upstreams(is_named=unnamed, environ={"HTTPS_PROXY": proxy.url})
        with pytest.raises(UpstreamUnavailable, match="502"):
            await made.get("registry.example.com").fetch_manifest("a", "1", None)
        assert set(proxy.lines) == {"CONNECT registry.example.com:443"}
