"""What it costs to find out a blob's size: HEAD, its first byte where HEAD is no answer, and nothing after bad news."""

from __future__ import annotations

import socket

import pytest

from pullthrough.declaration import CredentialSource
from pullthrough.errors import (
    UpstreamDenied,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.upstream.breaker import BreakerState
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Time, one
from tests.integration.upstream.servers import Asked, Handler, Reply, Server, error_reply

BLOB = b"layer" * 1000
SIZE = len(BLOB)
DIGEST = digest_of(BLOB)
EMPTY = digest_of(b"")
FIRST_BYTE = Reply(206, {"Content-Range": f"bytes 0-0/{SIZE}"}, BLOB[:1])
CREDENTIAL = CredentialSource("acme", access_token_env="TOKEN")
HOUR = 3600

#: A head without a length, which a server that closes its connections may send.
NO_LENGTH = b"HTTP/1.1 200 OK\r\n\r\n"


class Registry:
    """Answers HEAD and GET of blobs as it is told; `cost` is what it was asked since the last look."""

    def __init__(self, head: Reply | bytes | None, get: Reply | bytes | None = FIRST_BYTE) -> None:
        self.head = head
        self.get = get
        self.server = Server(self._answer)
        self._seen = 0

    def _answer(self, asked: Asked, sock: socket.socket) -> Reply | bytes | None:
        return self.head if asked.method == "HEAD" else self.get

    @property
    def cost(self) -> list[str]:
        new = self.server.asked[self._seen :]
        self._seen += len(new)
        return [f"{asked.method} {asked.headers.get('range', '')}".rstrip() for asked in new]


HEAD, GET = ["HEAD"], ["GET bytes=0-0"]


async def size_of(upstream: Upstream, digest: Digest = DIGEST, *, wants_size: bool = True) -> int | None:
    return await upstream.find_blob("a", digest, None, wants_size=wants_size)


async def test_head_that_is_answered_is_all_that_is_asked(upstreams: Make) -> None:
    registry = Registry(Reply(200, {}, BLOB))
    with registry.server as server:
        assert await size_of(one(upstreams, server)) == SIZE
        assert registry.cost == HEAD


@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
async def test_a_registry_that_refuses_head_is_asked_for_the_first_byte_and_at_once_from_then_on(
    upstreams: Make, time: Time, status: int
) -> None:
    registry = Registry(error_reply(status, "X"))
    with registry.server as server:
        upstream = one(upstreams, server, retries=2)
        assert await size_of(upstream, wants_size=False) == SIZE
        assert registry.cost == HEAD + GET
        for wants_size in (True, False):
            assert await size_of(upstream, wants_size=wants_size) == SIZE
            assert registry.cost == GET
        time.now += HOUR
        registry.head = Reply(200, {}, BLOB)
        assert await size_of(upstream) == SIZE
        assert registry.cost == HEAD
        assert await size_of(upstream) == SIZE
        assert registry.cost == HEAD


async def test_storage_that_a_redirect_is_signed_for_by_get_refuses_head(upstreams: Make) -> None:
    def storage(asked: Asked, sock: socket.socket) -> Reply:
        return FIRST_BYTE if asked.method == "GET" else error_reply(403, "SignatureDoesNotMatch")

    with Server(storage) as content:
        registry = Registry(*[Reply(307, {"Location": f"{content.url}/x?X-Amz-Signature=s3cret"})] * 2)
        with registry.server as server:
            upstream = one(upstreams, server)
            assert await size_of(upstream) == SIZE
            assert registry.cost == HEAD + GET
            assert await size_of(upstream) == SIZE
            assert registry.cost == GET
        assert content.lines == ["HEAD /x", "GET /x", "GET /x"]


@pytest.mark.parametrize("head", [Reply(200, {}, b""), NO_LENGTH], ids=["length-0", "no-length"])
async def test_a_head_without_the_size_says_that_the_blob_is_there(upstreams: Make, head: Reply | bytes) -> None:
    registry = Registry(head)
    with registry.server as server:
        upstream = one(upstreams, server)
        assert await size_of(upstream, wants_size=False) is None
        assert registry.cost == HEAD
        # It is asked again each time: nothing says that it will name no other blob's size.
        for _ in range(2):
            assert await size_of(upstream) == SIZE
            assert registry.cost == HEAD + GET


async def test_a_404_to_head_alone_is_no_404_and_nothing_to_remember(upstreams: Make) -> None:
    """Some proxies know by HEAD of no blob that they have not fetched yet."""
    registry = Registry(error_reply(404, "BLOB_UNKNOWN"))
    with registry.server as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            assert await size_of(upstream, wants_size=False) == SIZE
            assert registry.cost == HEAD + GET
        registry.head = Reply(200, {}, BLOB)
        assert await size_of(upstream) == SIZE
        assert registry.cost == HEAD


async def test_a_404_to_both_is_one(upstreams: Make) -> None:
    registry = Registry(*[error_reply(404, "BLOB_UNKNOWN")] * 2)
    with registry.server as server:
        with pytest.raises(UpstreamNotFound):
            await size_of(one(upstreams, server, retries=2))
        assert registry.cost == HEAD + GET


async def test_a_registry_that_refuses_both_is_asked_by_head_again(upstreams: Make) -> None:
    registry = Registry(*[error_reply(401, "UNAUTHORIZED")] * 2)
    with registry.server as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            with pytest.raises(UpstreamDenied):
                await size_of(upstream)
            assert registry.cost == HEAD + GET


@pytest.mark.parametrize(
    ("head", "error"),
    [
        (error_reply(429, "TOOMANYREQUESTS", Retry_After="600"), UpstreamThrottled),
        (error_reply(500, "X"), UpstreamUnavailable),
        (error_reply(503, "X"), UpstreamUnavailable),
        (error_reply(408, "X"), UpstreamUnavailable),
        (None, UpstreamUnavailable),
        (b"HTTP/1.1 200 OK\r\nContent-Le", UpstreamUnavailable),
        (b"banana\r\n\r\n", UpstreamInvalid),
        (Reply(200, {"Content-Type": "text/html"}, b"<html>"), UpstreamInvalid),
    ],
    ids=["429", "500", "503", "408", "closed", "cut", "no-http", "web-page"],
)
async def test_what_says_nothing_of_the_blob_is_no_reason_to_ask_for_its_bytes(
    upstreams: Make, head: Reply | bytes | None, error: type[UpstreamError]
) -> None:
    registry = Registry(head)
    with registry.server as server:
        with pytest.raises(error):
            await size_of(one(upstreams, server))
        assert registry.cost == HEAD


async def test_silence_is_no_reason_either(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> None:
        server.hang()

    with Server(answer) as server:
        with pytest.raises(UpstreamUnavailable, match="did not answer within"):
            await size_of(one(upstreams, server, retries=2, first_byte_timeout_seconds=0.2))
        await server.until_asked()
        assert [asked.method for asked in server.asked] == HEAD


async def test_a_first_byte_that_fails_leaves_nothing_remembered(upstreams: Make) -> None:
    registry = Registry(error_reply(405, "UNSUPPORTED"), error_reply(503, "X"))
    with registry.server as server:
        upstream = one(upstreams, server)
        with pytest.raises(UpstreamUnavailable):
            await size_of(upstream)
        registry.get = FIRST_BYTE
        assert await size_of(upstream) == SIZE
        assert registry.cost == (HEAD + GET) * 2


@pytest.mark.parametrize(
    ("get", "size"),
    [
        (Reply(200, {}, BLOB), SIZE),
        (Reply(200, {"Transfer-Encoding": "chunked"}, b"0\r\n\r\n"), None),
        (NO_LENGTH, None),
        (Reply(206, {"Content-Range": "bytes 0-0/*"}, BLOB[:1]), None),
        (Reply(206, {}, BLOB[:1]), None),
        (Reply(206, {"Content-Range": "bytes 0-0/banana"}, BLOB[:1]), None),
        (Reply(416, {"Content-Range": f"bytes */{SIZE}"}), SIZE),
        (Reply(416), None),
    ],
)
async def test_the_size_is_the_one_of_the_whole_or_none(upstreams: Make, get: Reply | bytes, size: int | None) -> None:
    registry = Registry(error_reply(405, "UNSUPPORTED"), get)
    with registry.server as server:
        assert await size_of(one(upstreams, server)) == size
        assert registry.cost == HEAD + GET


async def test_a_whole_body_that_comes_instead_of_its_first_byte_is_not_read(upstreams: Make) -> None:
    """The blob may have gigabytes: the connection ends, and the next question has another one."""

    def answer(asked: Asked, sock: socket.socket) -> Reply | None:
        if asked.method == "HEAD":
            return error_reply(405, "UNSUPPORTED")
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nthe first bytes")
        assert sock.recv(1) == b"", "the client hangs up"
        return None

    with Server(answer) as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            assert await size_of(upstream) == 1_000_000_000
        assert [asked.connection for asked in server.asked] == [0, 0, 1]


async def test_a_first_byte_leaves_its_connection_to_the_next_question(upstreams: Make) -> None:
    registry = Registry(error_reply(405, "UNSUPPORTED"))
    with registry.server as server:
        upstream = one(upstreams, server)
        for _ in range(3):
            await size_of(upstream)
        assert server.connections == 1


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes */0"}, {}], ids=["with-range", "without"])
async def test_of_an_empty_blob_there_is_no_first_byte(upstreams: Make, headers: dict[str, str]) -> None:
    registry = Registry(error_reply(405, "UNSUPPORTED"), Reply(416, headers))
    with registry.server as server:
        assert await size_of(one(upstreams, server), EMPTY) == (0 if headers else None)
        assert registry.cost == HEAD + GET


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_an_empty_blob_may_have_the_length_0(upstreams: Make, algorithm: str) -> None:
    registry = Registry(Reply(200, {}, b""))
    with registry.server as server:
        assert await size_of(one(upstreams, server), digest_of(b"", algorithm)) == 0
        assert registry.cost == HEAD


def as_acme(head: Reply) -> Handler:
    """Wants a login by Basic for everything, and refuses HEAD of blobs even then."""

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.method == "HEAD" and "blobs" in asked.path:
            return head
        if not asked.authorization:
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="registry"')
        return FIRST_BYTE if "range" in asked.headers else Reply(200, {}, b"{}")

    return answer


async def test_a_head_that_is_refused_makes_no_credential_a_broken_one(upstreams: Make) -> None:
    """Registries lock out who keeps trying a wrong one, so that one is left alone for minutes; this one is right."""
    refusal = error_reply(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="registry"')
    with Server(as_acme(refusal)) as server:
        upstream = one(upstreams, server, environ={"TOKEN": "s3cret"})
        assert await upstream.find_blob("a", DIGEST, CREDENTIAL) == SIZE
        assert upstream.health.credential_ok
        server.asked.clear()
        assert await upstream.find_blob("a", DIGEST, CREDENTIAL) == SIZE
        await upstream.fetch_manifest("a", "1", CREDENTIAL)
        assert [(asked.method, asked.authorization[:6]) for asked in server.asked] == [("GET", "Basic ")] * 2
    assert upstream.health.breaker is BreakerState.CLOSED


async def test_a_404_beside_a_credential_that_cannot_be_read_is_nothing_to_remember(upstreams: Make) -> None:
    registry = Registry(error_reply(404, "BLOB_UNKNOWN"))
    with registry.server as server:
        upstream = one(upstreams, server, environ={})
        for _ in range(2):
            assert await upstream.find_blob("a", DIGEST, CREDENTIAL) == SIZE
            assert registry.cost == HEAD + GET
