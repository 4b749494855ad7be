"""Where a request's head and body end, however their bytes come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.faces.http.framing import MAX_HEAD_BYTES, ChunkedBody, CountedBody, Head

TEXT = st.text(alphabet="a\r\n", max_size=30).map(str.encode)


@given(data=TEXT, cuts=st.lists(st.integers(0, 30), max_size=6))
def test_it_ends_behind_the_first_empty_line_however_the_bytes_come(data: bytes, cuts: list[int]) -> None:
    expected = data.find(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else len(data)
    head, taken, at = Head(), 0, 0
    for cut in (*sorted(cuts), len(data)):
        piece = data[at : min(cut, len(data))]
        at += len(piece)
        count = head.take(piece)
        assert count <= len(piece)
        taken += count
        if count < len(piece) or data[:taken].endswith(b"\r\n\r\n"):
            break
    assert taken == expected == head.size_bytes


def test_it_goes_on_behind_empty_lines_before_the_request() -> None:
    head, data = Head(), b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nrest"
    assert head.take(data) == 4
    assert head.take(data[4:]) == len(data) - 8
    assert head.size_bytes == len(data) - 4


def test_it_is_too_large_beyond_the_limit() -> None:
    head = Head()
    head.take(bytes(MAX_HEAD_BYTES))
    assert not head.is_too_large
    head.take(b"x")
    assert head.is_too_large


CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4)
TRAILERS = st.lists(st.sampled_from([b"A: b\r\n", b"Digest: x\r\n"]), max_size=2)


@given(chunks=CHUNKS, trailers=TRAILERS, behind=st.binary(max_size=20), cuts=st.lists(st.integers(0, 150), max_size=8))
def test_a_body_in_chunks_ends_where_it_does(
    chunks: list[bytes], trailers: list[bytes], behind: bytes, cuts: list[int]
) -> None:
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    body += b"0\r\n" + b"".join(trailers) + b"\r\n"
    data, framing, taken = body + behind, ChunkedBody(), 0
    for cut in (*sorted(cuts), len(data)):
        taken += framing.take(data[taken : min(cut, len(data))])
        assert framing.is_over is (taken == len(body))
    assert taken == len(body)
    assert framing.take(behind) == 0
    assert not framing.is_too_large


@given(st.lists(st.binary(max_size=30)))
def test_no_chunks_do_harm(pieces: list[bytes]) -> None:
    framing = ChunkedBody()
    for piece in pieces:
        count = framing.take(piece)
        assert count == len(piece) or framing.is_over


@pytest.mark.parametrize("line", [b"A: b\r\n", b"A" * 1000])
def test_the_lines_of_a_body_in_chunks_are_limited(line: bytes) -> None:
    framing = ChunkedBody()
    framing.take(b"3\r\nabc\r\n0\r\n")
    taken = 0
    while not framing.is_too_large:
        taken += framing.take(line)
    assert taken <= MAX_HEAD_BYTES + len(line)
    assert framing.take(line) == 0


def test_a_body_of_a_size_ends_there() -> None:
    framing = CountedBody(5)
    assert [framing.take(b"abc"), framing.is_over, framing.take(b"defg"), framing.is_over, framing.take(b"h")] == [
        *(3, False, 2, True, 0)
    ]
