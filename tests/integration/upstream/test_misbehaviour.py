"""Upstreams that are no registries, or do not want to be: each ends in an error of ours, soon, and never in a crash."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from pullthrough.errors import UpstreamError, UpstreamInvalid, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from tests.integration.upstream.clients import Make, one
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server, silent

MANIFEST = b'{"schemaVersion": 2}'


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/9 banana\r\n\r\n",
        b"HTTP/1.1 banana OK\r\n\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloworld0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhello",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000,
        b"HTTP/1.1 304 Not Modified\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"\x00" * 1000,
    ],
)
async def test_what_is_no_valid_http_is_an_error_for_every_question(upstreams: Make, answer: bytes) -> None:
    digest = digest_of(b"x")
    with Server(lambda asked, sock: answer) as server:
        upstream = one(upstreams, server)
        for question in (
            upstream.fetch_manifest("a", digest, None),
            upstream.list_tags("a", None),
            upstream.fetch_referrers("a", digest, None),
        ):
            with pytest.raises((UpstreamInvalid, UpstreamUnavailable)):
                await question
        try:
            with upstream.open_blob("a", digest, None, abort=AbortHandle()) as body:
                while body.readinto(memoryview(bytearray(100))):
                    pass
        except UpstreamError:
            pass


@pytest.mark.parametrize("drip", [b"X: y\r\n", b"x"])
async def test_headers_that_drip_end_by_the_time_for_the_first_byte(upstreams: Make, drip: bytes) -> None:
    def answer(asked: Asked, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.closed.wait(0.02):
            sock.sendall(drip)

    with Server(answer) as server, pytest.raises((UpstreamUnavailable, UpstreamInvalid)):
        await one(upstreams, server, first_byte_timeout_seconds=0.4).fetch_manifest("a", "1", None)


async def test_a_silent_upstream_ends_by_the_time_for_the_first_byte(upstreams: Make) -> None:
    with silent() as server, pytest.raises(UpstreamUnavailable, match=r"within 0\.2 s"):
        await one(upstreams, server, first_byte_timeout_seconds=0.2).fetch_manifest("a", "1", None)


async def test_an_upstream_that_takes_no_connection_up_ends_by_the_connect_timeout(upstreams: Make) -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(3):
            # A full queue leaves further connections without an answer.
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        upstream = one(
            upstreams,
            f"http://127.0.0.1:{address[1]}",
            connect_timeout_seconds=0.3,
            first_byte_timeout_seconds=0.3,
            monotonic=time.monotonic,
        )
        with pytest.raises(UpstreamUnavailable, match=r"no answer within 0\.3 s"):
            await upstream.fetch_manifest("a", "1", None)


async def test_hints_before_the_answer_are_skipped(upstreams: Make) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    with Server(lambda asked, sock: hints + Reply(200, {}, MANIFEST).encode("GET")) as server:
        assert (await one(upstreams, server).fetch_manifest("a", "1", None)).body == MANIFEST


async def test_a_closed_port_and_an_unknown_name_say_so(upstreams: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UpstreamUnavailable, match=rf"127\.0\.0\.1:{port}.*refused"):
        await one(upstreams, f"http://127.0.0.1:{port}").fetch_manifest("a", "1", None)
    with pytest.raises(UpstreamUnavailable, match=r"nowhere\.example could not be resolved"):
        await one(upstreams, "http://nowhere.example").fetch_manifest("a", "1", None)


async def test_a_cancelled_question_breaks_its_connection_off_and_frees_its_place(upstreams: Make) -> None:
    gone = threading.Event()

    def answer(asked: Asked, sock: socket.socket) -> Reply | None:
        if asked.path.endswith("/2"):
            return Reply(200, {}, MANIFEST)
        assert sock.recv(1) == b""
        gone.set()
        return None

    with Server(answer) as server:
        upstream = one(upstreams, server, connections=1)
        task = asyncio.create_task(upstream.fetch_manifest("a", "1", None))
        await server.until_asked()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await upstream.fetch_manifest("a", "2", None)).body == MANIFEST
        assert await asyncio.to_thread(gone.wait, STUCK_SECONDS)


async def test_a_name_service_that_hangs_ends_by_the_time_given(upstreams: Make) -> None:
    answer = threading.Event()

    def look_up(host: str, port: int, **options: object) -> list[object]:
        assert answer.wait(STUCK_SECONDS)
        raise socket.gaierror(socket.EAI_NONAME, "too late")

    upstream = one(upstreams, "http://h.example", resolver=look_up, connect_timeout_seconds=0.2)
    try:
        with pytest.raises(UpstreamUnavailable, match=r"resolved within 0\.2 s"):
            await upstream.fetch_manifest("a", "1", None)
        with pytest.raises(UpstreamUnavailable, match=r"within 0\.1 s"):
            await upstream.fetch_manifest("a", "1", None, timeout=0.1)
    finally:
        answer.set()


async def test_a_dead_address_does_not_keep_a_good_one_from_being_used(upstreams: Make) -> None:
    with Server(lambda asked, sock: Reply(200, {}, MANIFEST)) as server, socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
        gone.close()

        def look_up(host: str, _port: int, **options: object) -> list[object]:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (port, server.port)
            ]

        upstream = one(upstreams, "http://h.example", resolver=look_up)
        assert (await upstream.fetch_manifest("a", "1", None)).body == MANIFEST


async def test_ipv6_endpoints_work(upstreams: Make) -> None:
    try:
        server = Server(lambda asked, sock: Reply(200, {}, MANIFEST), host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        await one(upstreams, f"http://[::1]:{server.port}").fetch_manifest("a", "1", None)
        assert server.asked[0].headers["host"] == f"[::1]:{server.port}"


async def test_any_sequence_of_bytes_is_an_answer_or_an_error(upstreams: Make) -> None:
    """The head of a good answer, with one byte after another replaced."""
    good = Reply(200, {"Content-Type": "application/json", "Docker-Content-Digest": digest_of(MANIFEST)}, MANIFEST)
    encoded = good.encode("GET")
    values = itertools.cycle((0, 10, 13, 255, 32))
    mutants = (encoded[:at] + bytes([next(values)]) + encoded[at + 1 :] for at in range(len(encoded)))
    with Server(lambda asked, sock: next(mutants)) as server:
        upstream = one(upstreams, server, first_byte_timeout_seconds=2, stall_timeout_seconds=2)
        for _ in encoded:
            try:
                fetched = await upstream.fetch_manifest("a", "1", None)
            except UpstreamError:
                continue
            assert fetched.digest == digest_of(fetched.body)
