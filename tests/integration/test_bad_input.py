"""Whatever is sent to the listener gets a clear error in the specification's form, and hurts nobody else."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.integration.lanes import Lanes, error_of, exchange, open_lanes

IMAGE = make_image("app")
DIGEST = IMAGE.digest
NAME = "fresh-0/acme/app"
PATH = f"/v2/{NAME}/manifests/1"


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    with open_lanes(tmp_path_factory.mktemp("lanes"), request.param) as opened:
        opened.upstream.add("acme/app", IMAGE, "1")
        yield opened


@pytest.fixture(scope="module")
def engine(lanes: Lanes) -> Engine:
    return lanes.engine


@pytest.fixture(autouse=True)
def _unharmed(lanes: Lanes) -> Iterator[None]:
    """After each test it serves, and nothing of it was told to the upstream."""
    lanes.upstream.requests.clear()
    yield
    assert lanes.upstream.requests.count() == 0
    assert lanes.engine.get(PATH).body == IMAGE.manifest.body
    assert "Traceback" not in lanes.engine.log.read_text()
    lanes.upstream.requests.clear()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 404, "UNSUPPORTED"),
        ("/v1/_ping", 404, "UNSUPPORTED"),
        ("/v2", 200, ""),
        ("/v2x", 404, "UNSUPPORTED"),
        ("/v2//", 404, "UNSUPPORTED"),
        ("/v2/" + NAME, 404, "UNSUPPORTED"),
        (f"/v2/{NAME}/manifests", 404, "UNSUPPORTED"),
        (f"/v2/{NAME}/manifests/", 400, "MANIFEST_UNKNOWN"),
        (f"/v2/{NAME}/manifests/.1", 400, "MANIFEST_UNKNOWN"),
        (f"/v2/{NAME}/manifests/{'t' * 129}", 400, "MANIFEST_UNKNOWN"),
        (f"/v2/{NAME}/manifests/sha256:abc", 400, "DIGEST_INVALID"),
        (f"/v2/{NAME}/manifests/sha256:{'A' * 64}", 400, "DIGEST_INVALID"),
        (f"/v2/{NAME}/manifests/md5:{'a' * 32}", 400, "DIGEST_INVALID"),
        (f"/v2/{NAME}/blobs/latest", 400, "DIGEST_INVALID"),
        (f"/v2/{NAME}/blobs/sha256-{'a' * 64}", 400, "DIGEST_INVALID"),
        (f"/v2/{NAME}/referrers/1", 400, "DIGEST_INVALID"),
        ("/v2/Upper/Case/manifests/1", 400, "NAME_INVALID"),
        ("/v2//fresh-0/app/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0//app/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0/../fresh-0/app/manifests/1", 400, "NAME_INVALID"),
        ("/v2/../../etc/passwd/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0/acme/app/manifests/../../x/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0%2Facme%2Fapp/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0/%2e%2e/app/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0/acme/app%00/manifests/1", 400, "NAME_INVALID"),
        ("/v2/fresh-0/acme/app/manifests/1%0d%0aX-Evil:1", 400, "NAME_INVALID"),
        (f"/v2/fresh-0/{'n' * 256}/manifests/1", 400, "NAME_INVALID"),
        (f"/v2/fresh-0/{'n/' * 200}n/manifests/1", 400, "NAME_INVALID"),
        (f"{PATH}?{'&'.join(f'x{n}=1' for n in range(100))}", 400, "NAME_INVALID"),
        (f"/v2/{NAME}/tags/list?n=many", 400, "NAME_INVALID"),
        ("/metrics/../v2/", 404, "UNSUPPORTED"),
    ],
)
def test_bad_paths(engine: Engine, path: str, status: int, code: str) -> None:
    answer = engine.get(path)
    assert answer.status == status, answer.body
    if code:
        assert error_of(answer)[1] == code
        assert engine.get(path, method="HEAD").status == status


def test_an_encoded_colon_in_a_digest_is_a_colon(engine: Engine) -> None:
    assert engine.get(PATH).status == 200
    for colon in ("%3A", "%3a"):
        assert engine.get(f"/v2/{NAME}/manifests/{str(DIGEST).replace(':', colon)}").body == IMAGE.manifest.body
    engine_requests = engine.get(PATH)
    assert engine_requests.outcome == "hit"


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_whoever_wants_to_change_something_has_to_log_in(engine: Engine, method: str) -> None:
    uploads = f"/v2/{NAME}/blobs/uploads/"
    for path in (PATH, uploads, f"{uploads}1", f"/v2/{NAME}/blobs/{DIGEST}", f"/v2/{NAME}/tags/list", "/v2/", "/v2x"):
        answer = engine.get(path, method=method)
        status, code, _ = error_of(answer)
        assert (status, code) == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert engine.get(uploads).status == 401
    for path in ("/healthz", "/readyz", "/metrics"):
        assert engine.get(path, method=method).status == 405


BOMB = b"b" * 40_000


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"GET /" + BOMB + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 414}),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Bomb: " + BOMB + b"\r\n\r\n", {400, 431}),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + BOMB + b": 1\r\n\r\n", {400, 431}),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"X-Many: 1\r\n" * 5000 + b"\r\n", {400, 431}),
        (BOMB, {400}),
        (b"\r\n\r\n\r\nnonsense\r\n\r\n", {400}),
        (b"GET /v2/\r\n\r\n", {505}),
        (b"GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n", {400, 505}),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", {400}),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", {400}),
        (
            b"POST /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            {400, 405},
        ),
        (b"GET /v2/ HTTP/1.1\r\nHost: x\r\n X-Folded: 1\r\n\r\n", {400}),
        (b"GET /v2/ HTTP/1.1\r\nHost : x\r\n\r\n", {400}),
        (b"GET /v2/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", {400}),
        ("GET /v2/ünïcode/x/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n".encode(), {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 404, 405, 505}),
    ],
    ids=range(16),
)
def test_what_is_not_http_or_too_large_gets_an_error_in_json(engine: Engine, data: bytes, statuses: set[int]) -> None:
    head, _, body = exchange(engine, data).partition(b"\r\n\r\n")
    assert int(head.split()[1]) in statuses, head
    assert json.loads(body)["errors"][0]["code"]


def test_a_head_has_64_kib_in_all_its_lines(engine: Engine) -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"v" * 15_000) for number in range(4))
    request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines
    assert exchange(engine, request + b"\r\n").startswith(b"HTTP/1.1 200")
    head, _, body = exchange(engine, request + lines + b"\r\n").partition(b"\r\n\r\n")
    assert head.split()[1] == b"431"
    assert "65,536 bytes" in json.loads(body)["errors"][0]["message"]


UPLOADS = f"/v2/{NAME}/blobs/uploads/"
REQUESTS = [
    ("GET", "/healthz", 200),
    ("GET", "/nothing", 404),
    ("GET", "/v2/", 200),
    ("HEAD", "/v2/", 200),
    ("GET", PATH, 200),
    ("GET", f"/v2/{NAME}/tags/list?n=many", 400),
    ("DELETE", PATH, 401),
    ("PUT", PATH, 401),
    ("POST", UPLOADS, 401),
    ("PATCH", UPLOADS + "1", 401),
    ("PUT", f"{UPLOADS}1?digest={DIGEST}", 401),
    ("PUT", "/healthz", 405),
]


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
def test_a_body_that_nobody_reads_may_be_anything(engine: Engine, method: str, path: str, status: int) -> None:
    for encoding in ("gzip", "deflate", "br", "zstd", "nonsense", "gzip, gzip"):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: {encoding}\r\n"
        for body in ("Content-Length: 4\r\n\r\nabcd", "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"):
            received = exchange(engine, (head + body).encode())
            assert int(received.split()[1]) == status
            assert received.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in REQUESTS] + [("POST", "/")])
@pytest.mark.parametrize(
    "body",
    [
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        f"Transfer-Encoding: chunked\r\n\r\n{'f' * 17}\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
        "Transfer-Encoding: gzip, chunked, gzip\r\n\r\nabc",
        "Transfer-Encoding: gzip\r\n\r\nabc",
        "Content-Length: 3x\r\n\r\nabc",
        "Content-Length: 3\r\n\r\nabcdefgh",
    ],
    ids=range(9),
)
def test_a_body_that_is_not_as_it_is_framed_is_400_on_every_path(
    engine: Engine, method: str, path: str, body: str
) -> None:
    received = exchange(engine, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{body}".encode())
    statuses = [int(part[2:5]) for part in received.split(b"HTTP/1.")[1:]]
    assert statuses[-1] == 400
    # What follows a body of the right length is no request.
    assert len(statuses) == (2 if "abcdefgh" in body else 1)


def test_tls_on_the_plain_port_ends_at_once(engine: Engine) -> None:
    url = urlsplit(engine.url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((str(url.hostname), url.port or 80), timeout=60) as plain,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(plain),
    ):
        pass


def test_pipelined_requests_are_answered_in_their_order(engine: Engine) -> None:
    engine.get(PATH)
    requests = [("GET", "/v2/"), ("GET", PATH), ("HEAD", PATH), ("GET", f"/v2/{NAME}/manifests/none!"), ("GET", PATH)]
    data = b"".join(
        f"{method} {path} HTTP/1.1\r\nHost: x\r\n{'Connection: close' if n == 4 else 'X-N: 1'}\r\n\r\n".encode()
        for n, (method, path) in enumerate(requests)
    )
    received = exchange(engine, data)
    statuses = [int(part.split()[0]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 400, 200]
    assert received.count(IMAGE.manifest.body) == 2
    assert received.endswith(IMAGE.manifest.body)


def test_a_body_that_comes_with_a_get_is_not_taken_for_a_request(engine: Engine) -> None:
    hidden = b"GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n"
    data = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(hidden)}\r\n\r\n".encode() + hidden
    received = exchange(engine, data + b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"repositories" not in received
    assert received.startswith(b"HTTP/1.1 200")


def test_http_1_0_gets_a_length_and_the_end_of_the_connection(engine: Engine) -> None:
    engine.get(PATH)
    received = exchange(engine, f"GET {PATH} HTTP/1.0\r\n\r\n".encode())
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200") or head.startswith(b"HTTP/1.1 200")
    assert b"chunked" not in head.lower()
    assert body == IMAGE.manifest.body


def test_clients_that_send_their_headers_for_ever_hold_nobody_up(engine: Engine) -> None:
    url = urlsplit(engine.url)
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection((str(url.hostname), url.port or 80), timeout=60))
            for _ in range(150)
        ]
        for number, connection in enumerate(slow):
            connection.sendall(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nX-{number}".encode())
        assert {engine.get(PATH).status for _ in range(20)} == {200}


def test_a_client_that_vanishes_at_any_point_does_no_harm(engine: Engine) -> None:
    url = urlsplit(engine.url)
    request = f"GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    for cut in (0, 1, len(request) // 2, len(request)):
        with socket.create_connection((str(url.hostname), url.port or 80), timeout=60) as connection:
            connection.sendall(request[:cut])


def test_a_client_cannot_write_lines_or_headers_of_its_own(engine: Engine, lanes: Lanes) -> None:
    answer = engine.get(f'{PATH}?ns=a"%0d%0aX-Evil:%201', headers={"User-Agent": 'x", "status": 999, "a": "é\\'})
    assert answer.status == 404
    assert "x-evil" not in answer.headers
    assert answer.headers["x-cache"].isprintable()
