"""Which requests the fast path takes, and that it takes no other."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.access.authorization import Authorizer
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.pull.manifests.manifests import Manifests
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.errors import RepositoryUnknown
from pullthrough.faces.distribution.fast_path import FastPath, parse_plain

PLAIN = b"GET /v2/docker-hub/library/nginx/manifests/1.27 HTTP/1.1\r\nHost: 127.0.0.1:5000\r\nUser-Agent: skopeo/1.9\r\n\r\n"


def test_a_plain_request_is_recognised() -> None:
    request = parse_plain(PLAIN)
    assert request is not None
    assert (request.is_head, request.route.name, request.route.reference) == (False, "docker-hub/library/nginx", "1.27")
    assert (request.target, request.agent) == ("/v2/docker-hub/library/nginx/manifests/1.27", "skopeo/1.9")


def test_head_and_ns_are_recognised() -> None:
    request = parse_plain(PLAIN.replace(b"GET", b"HEAD").replace(b"1.27 ", b"1.27?ns=docker.io "))
    assert request is not None
    assert (request.is_head, request.query.ns, request.target[-12:]) == (True, "docker.io", "ns=docker.io")


@pytest.mark.parametrize(
    "line",
    [b"Range: bytes=0-1", b"If-None-Match: *", b"Cache-Control: no-cache", b"Connection: close", b"Content-Length: 0",
     b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: h2c", b"Authorization: x",
     b"Host: other", b"hOST: other", b" folded", b"Bad Name: x", b"User-Agent: \x00", b"X: y", b"no colon"],
)  # fmt: skip
def test_any_header_that_may_change_the_answer_is_left_to_the_ordinary_path(line: bytes) -> None:
    assert parse_plain(PLAIN[:-2] + line + b"\r\n\r\n") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PLAIN[:-1],
        PLAIN + PLAIN,
        PLAIN + b"x",
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN.replace(b"GET", b"get"),
        PLAIN.replace(b"GET", b"POST"),
        PLAIN.replace(b"GET /", b"GET http://a/"),
        PLAIN.replace(b"manifests", b"blobs"),
        PLAIN.replace(b"manifests/1.27", b"tags/list"),
        PLAIN.replace(b"library/nginx", b"library%2Fnginx"),
        PLAIN.replace(b"library/nginx", b"../nginx"),
        PLAIN.replace(b"Host: 127.0.0.1:5000\r\n", b""),
        PLAIN.replace(b"1.27 ", b"1.27?n=x "),
        PLAIN.replace(b"1.27 ", b"1.27#x "),
    ],
)
def test_whatever_is_not_one_plain_manifest_request_is_left_to_the_ordinary_path(data: bytes) -> None:
    assert parse_plain(data) is None


@given(at=st.integers(0, len(PLAIN)), junk=st.binary(max_size=6))
def test_no_bytes_raise_anything(at: int, junk: bytes) -> None:
    parse_plain(PLAIN[:at] + junk + PLAIN[at:])
    parse_plain(junk)


def kept_of(requests: list[bytes], *, open_pulls: bool) -> int:
    """Bytes that the fast path still has of requests that it was shown."""

    def resolve(*_: object, **__: object) -> None:
        raise RepositoryUnknown("none")

    rules = SimpleNamespace(resolve=resolve)
    fast = FastPath(
        configuration=cast("Configuration", SimpleNamespace(is_current=True, rules=rules)),
        manifests=cast("Manifests", None),
        pull_times=cast("PullTimes", None),
        authorizer=cast("Authorizer", SimpleNamespace(open_pulls=open_pulls)),
        server_name="x",
        record=lambda entry: None,
        clock=lambda: 0.0,
    )
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for request in requests:
        assert fast.answer(bytes(bytearray(request)), "192.0.2.1", None) is None
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept


def test_nothing_is_kept_of_what_strangers_send() -> None:
    plain = [PLAIN.replace(b"1.27", b"%d" % number).replace(b"skopeo", b"a" * 1800) for number in range(1000)]
    other = [b"%d" % number + bytes(2000) for number in range(1000)]
    assert kept_of(plain, open_pulls=False) < 100_000
    assert kept_of(other, open_pulls=False) < 100_000
    # Where everybody may pull, so many are.
    assert 1_000_000 < kept_of(plain, open_pulls=True) < 6_000_000
    assert (
        kept_of(plain + [PLAIN.replace(b"1.27", b"x%d" % number) for number in range(5000)], open_pulls=True)
        < 12_000_000
    )
