"""Blob bodies: every byte once, ranges as asked, and an end that is told from a break."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable

import pytest

from pullthrough.errors import UpstreamError, UpstreamInvalid, UpstreamNotFound, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import BlobBody, Upstream
from tests.integration.upstream.clients import Make, Recorder, one, over_tls
from tests.integration.upstream.conftest import Certificates
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server, error_reply

BLOB = bytes(range(256)) * 4096
DIGEST = digest_of(BLOB)
SIZE = len(BLOB)
ETAG = f'"{DIGEST}"'


def with_ranges(asked: Asked, sock: socket.socket) -> Reply:
    """A well-behaved registry."""
    wanted = asked.headers.get("range")
    if wanted is None or asked.headers.get("if-range", ETAG) != ETAG:
        return Reply(200, {"ETag": ETAG}, BLOB)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, stop = int(first), int(last) + 1 if last else SIZE
    if start >= SIZE:
        return Reply(416, {"Content-Range": f"bytes */{SIZE}"}, b"")
    part = BLOB[start:stop]
    headers = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{SIZE}", "ETag": ETAG}
    return Reply(206, headers, part)


def open_blob(upstream: Upstream, start: int = 0, stop: int | None = None, if_range: str = "") -> BlobBody:
    return upstream.open_blob("a", DIGEST, None, start=start, stop=stop, if_range=if_range, abort=AbortHandle())


def read_all(body: BlobBody, buffer_bytes: int = 65536) -> bytes:
    buffer, got = memoryview(bytearray(buffer_bytes)), bytearray()
    with body:
        while count := body.readinto(buffer):
            got += buffer[:count]
        assert body.readinto(buffer) == 0
    return bytes(got)


async def test_a_whole_blob_costs_one_request_and_says_its_size(upstreams: Make, recorder: Recorder) -> None:
    with Server(with_ranges) as server:
        body = open_blob(one(upstreams, server))
        assert (body.status, body.start, body.total_bytes, body.etag) == (200, 0, SIZE, ETAG)
        assert read_all(body) == BLOB
    (asked,) = server.asked
    assert "range" not in asked.headers
    assert asked.headers["accept-encoding"] == "identity"
    assert recorder.size_bytes["registry.example.com"] == SIZE
    assert recorder.requests == [("registry.example.com", "GET", 200)]


@pytest.mark.parametrize(
    ("start", "stop", "header"),
    [
        (100, None, "bytes=100-"),
        (0, 100, "bytes=0-99"),
        (SIZE - 1, None, f"bytes={SIZE - 1}-"),
        (SIZE - 10, SIZE + 10, f"bytes={SIZE - 10}-{SIZE + 9}"),
    ],
)
async def test_a_range_is_what_was_asked_for(upstreams: Make, start: int, stop: int | None, header: str) -> None:
    with Server(with_ranges) as server:
        body = open_blob(one(upstreams, server), start, stop, ETAG)
        assert (body.status, body.start, body.total_bytes, body.etag) == (206, start, SIZE, ETAG)
        assert read_all(body) == BLOB[start:stop]
    assert server.asked[0].headers["range"] == header
    assert server.asked[0].headers["if-range"] == ETAG


async def test_another_etag_gives_the_whole_blob_again(upstreams: Make) -> None:
    with Server(with_ranges) as server:
        body = open_blob(one(upstreams, server), 100, None, '"older"')
        assert (body.status, body.start) == (200, 0)
        assert read_all(body) == BLOB


async def test_an_upstream_that_ignores_range_is_read_from_zero(upstreams: Make) -> None:
    with Server(lambda asked, sock: Reply(200, {}, BLOB)) as server:
        body = open_blob(one(upstreams, server), 100)
        assert (body.status, body.start, body.total_bytes) == (200, 0, SIZE)
        assert read_all(body) == BLOB


@pytest.mark.parametrize(
    ("etag", "expected"), [('W/"weak"', ""), ("bare", ""), ('"a\x7f"', ""), ("", ""), ('"s"', '"s"')]
)
async def test_only_a_strong_etag_is_good_for_resuming(upstreams: Make, etag: str, expected: str) -> None:
    with (
        Server(lambda asked, sock: Reply(200, {"ETag": etag}, BLOB)) as server,
        open_blob(one(upstreams, server)) as body,
    ):
        assert body.etag == expected


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({}, 100),
        ({"Content-Range": "bytes 0-99/1000"}, 100),
        ({"Content-Range": "bytes 101-200/1000"}, 100),
        ({"Content-Range": "bytes 100-199/150"}, 100),
        ({"Content-Range": "bytes 100-299/1000"}, 200),
        ({"Content-Range": "bytes 100-150/1000"}, 51),
        ({"Content-Range": "bytes 100-199/1000"}, 99),
        ({"Content-Range": "bytes 100-99/1000"}, 0),
        ({"Content-Range": "bytes */1000"}, 100),
        ({"Content-Range": "items 100-199/1000"}, 100),
        ({"Content-Type": "multipart/byteranges; boundary=x"}, 100),
    ],
)
async def test_a_range_that_is_not_what_was_asked_for_is_invalid(
    upstreams: Make, headers: dict[str, str], length: int
) -> None:
    with Server(lambda asked, sock: Reply(206, headers, b"x" * length)) as server, pytest.raises(UpstreamInvalid):
        open_blob(one(upstreams, server), 100, 200)


async def test_a_partial_answer_to_a_whole_request_is_invalid(upstreams: Make) -> None:
    reply = Reply(206, {"Content-Range": f"bytes 0-{SIZE - 1}/{SIZE}"}, BLOB)
    with Server(lambda asked, sock: reply) as server, pytest.raises(UpstreamInvalid):
        open_blob(one(upstreams, server))


async def test_a_range_beyond_the_end_is_an_error_with_its_status(upstreams: Make) -> None:
    with Server(with_ranges) as server, pytest.raises(UpstreamInvalid) as caught:
        open_blob(one(upstreams, server), SIZE)
    assert caught.value.status == 416


async def test_a_range_of_unknown_total_is_accepted(upstreams: Make) -> None:
    reply = Reply(206, {"Content-Range": "bytes 100-199/*"}, BLOB[100:200])
    with Server(lambda asked, sock: reply) as server:
        body = open_blob(one(upstreams, server), 100, 200)
        assert body.total_bytes is None
        assert read_all(body) == BLOB[100:200]


async def test_an_empty_blob_is_a_blob(upstreams: Make) -> None:
    with Server(lambda asked, sock: Reply(200, {}, b"")) as server:
        body = open_blob(one(upstreams, server))
        assert body.total_bytes == 0
        assert read_all(body) == b""


@pytest.mark.parametrize("chunk", [1000, 100_000])
async def test_a_chunked_blob_has_no_size_and_a_clean_end(upstreams: Make, chunk: int) -> None:
    parts = [BLOB[at : at + chunk] for at in range(0, SIZE, chunk)]
    encoded = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    with Server(lambda asked, sock: Reply(200, {"Transfer-Encoding": "chunked"}, encoded)) as server:
        upstream = one(upstreams, server)
        for _ in range(2):
            body = open_blob(upstream)
            assert body.total_bytes is None
            assert read_all(body) == BLOB
        assert server.connections == 1


async def test_a_content_encoding_is_left_to_the_digest(upstreams: Make) -> None:
    with Server(lambda asked, sock: Reply(200, {"Content-Encoding": "gzip"}, BLOB)) as server:
        assert read_all(open_blob(one(upstreams, server))) == BLOB


async def test_bytes_are_given_out_as_soon_as_there_are_any(upstreams: Make, certificates: Certificates) -> None:
    for tls in (None, certificates.server()):
        go_on = threading.Semaphore(0)

        def answer(asked: Asked, sock: socket.socket, go_on: threading.Semaphore = go_on) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\n")
            for _ in range(3):
                assert go_on.acquire(timeout=STUCK_SECONDS)
                sock.sendall(b"0123456789")

        with Server(answer, tls=tls) as server:
            settings = {"localhost": over_tls(certificates.ca, endpoint=(server.url,))}
            body = open_blob(upstreams(settings=settings).get("localhost"))
            buffer = memoryview(bytearray(1 << 20))
            for _ in range(3):
                go_on.release()
                assert body.readinto(buffer) == 10
            assert body.readinto(buffer) == 0
            body.close()


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_body_that_is_cut_short_is_unavailable_and_never_a_clean_end(
    upstreams: Make, ending: str, framing: str
) -> None:
    cut = threading.Event()

    def answer(asked: Asked, sock: socket.socket) -> None:
        if framing == "length":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 100 + b"\r\n")
        assert cut.wait(STUCK_SECONDS)
        if ending == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    with Server(answer) as server:
        body = open_blob(one(upstreams, server))
        buffer = memoryview(bytearray(4096))
        assert body.readinto(buffer) == 100
        cut.set()
        with pytest.raises(UpstreamUnavailable, match="cut off"):
            body.readinto(buffer)
        body.close()


async def test_a_body_that_stalls_is_unavailable(upstreams: Make, certificates: Certificates) -> None:
    for tls in (None, certificates.server()):

        def answer(asked: Asked, sock: socket.socket) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
            server.hang()

        with Server(answer, tls=tls) as server:
            settings = {"localhost": over_tls(certificates.ca, endpoint=(server.url,), stall_timeout_seconds=0.2)}
            body = open_blob(upstreams(settings=settings).get("localhost"))
            buffer = memoryview(bytearray(4096))
            assert body.readinto(buffer) == 100
            with pytest.raises(UpstreamUnavailable, match="stalled"):
                body.readinto(buffer)


async def test_aborting_ends_a_thread_that_waits_for_bytes(upstreams: Make, certificates: Certificates) -> None:
    for tls in (None, certificates.server()):

        def answer(asked: Asked, sock: socket.socket) -> None:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
            server.hang()

        with Server(answer, tls=tls) as server:
            settings = {"localhost": over_tls(certificates.ca, endpoint=(server.url,))}
            upstream, abort = upstreams(settings=settings).get("localhost"), AbortHandle()
            errors: list[BaseException] = []
            reading = threading.Event()

            def read(
                upstream: Upstream = upstream,
                abort: AbortHandle = abort,
                reading: threading.Event = reading,
                errors: list[BaseException] = errors,
            ) -> None:
                body = upstream.open_blob("a", DIGEST, None, abort=abort)
                buffer = memoryview(bytearray(4096))
                body.readinto(buffer)
                reading.set()
                try:
                    body.readinto(buffer)
                except UpstreamUnavailable as error:
                    errors.append(error)

            thread = threading.Thread(target=read)
            thread.start()
            assert reading.wait(STUCK_SECONDS)
            abort.abort()
            thread.join(STUCK_SECONDS)
            assert not thread.is_alive()
            assert len(errors) == 1


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Connection: close"])
async def test_an_aborted_body_is_never_a_clean_end(upstreams: Make, framing: str) -> None:
    def answer(asked: Asked, sock: socket.socket) -> None:
        sock.sendall(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{'x' * 100}".encode())
        server.hang()

    with Server(answer) as server:
        abort = AbortHandle()
        body = one(upstreams, server).open_blob("a", DIGEST, None, abort=abort)
        buffer = memoryview(bytearray(4096))
        assert body.readinto(buffer) == 100
        abort.abort()
        with pytest.raises(UpstreamUnavailable, match="cancelled"):
            body.readinto(buffer)


async def test_an_aborted_handle_opens_nothing(upstreams: Make) -> None:
    abort = AbortHandle()
    abort.abort()
    with Server(with_ranges) as server:
        with pytest.raises(UpstreamUnavailable):
            one(upstreams, server).open_blob("a", DIGEST, None, abort=abort)
        assert server.asked == []


async def test_a_connection_is_kept_after_a_whole_body_and_never_after_a_part_of_one(upstreams: Make) -> None:
    with Server(with_ranges) as server:
        upstream = one(upstreams, server)
        read_all(open_blob(upstream))
        read_all(open_blob(upstream, 5, 10))
        assert server.connections == 1
        body = open_blob(upstream)
        body.readinto(memoryview(bytearray(10)))
        body.close()
        body.close()
        with pytest.raises(UpstreamUnavailable):
            body.readinto(memoryview(bytearray(10)))
        read_all(open_blob(upstream))
        assert server.connections == 2
    assert [asked.connection for asked in server.asked] == [0, 0, 0, 1]


async def test_a_kept_connection_that_the_server_closed_costs_no_error_and_no_second_request(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> bytes:
        return Reply(200, {}, BLOB).encode("GET")  # and the connection is closed, without saying so

    with Server(answer) as server:
        upstream = one(upstreams, server)
        for _ in range(3):
            assert read_all(open_blob(upstream)) == BLOB
        assert len(server.asked) == 3


async def test_a_connection_with_bytes_beyond_its_body_is_not_used_again(upstreams: Make) -> None:
    lie = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

    def answer(asked: Asked, sock: socket.socket) -> Reply | None:
        if asked.connection == 0:
            sock.sendall(lie)
            server.hang()
            return None
        return Reply(200, {}, b"right")

    with Server(answer) as server:
        upstream = one(upstreams, server)
        assert read_all(open_blob(upstream)) == b"hello"
        assert read_all(open_blob(upstream)) == b"right"


@pytest.mark.parametrize(
    ("reply", "error"),
    [(error_reply(404, "BLOB_UNKNOWN"), UpstreamNotFound), (error_reply(500, "X"), UpstreamUnavailable)],
)
async def test_opening_fails_with_the_upstreams_reason(
    upstreams: Make, reply: Reply, error: type[UpstreamError]
) -> None:
    with Server(lambda asked, sock: reply) as server, pytest.raises(error):
        open_blob(one(upstreams, server))


async def test_opening_is_tried_again_after_passing_trouble(upstreams: Make) -> None:
    replies: list[Callable[[], Reply]] = [lambda: error_reply(503, "X"), lambda: error_reply(500, "X")]

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        return replies.pop()() if replies else with_ranges(asked, sock)

    with Server(answer) as server:
        assert read_all(open_blob(one(upstreams, server, retries=2))) == BLOB
        assert len(server.asked) == 3
