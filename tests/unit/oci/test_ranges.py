"""Range arithmetic, against a model that slices a real body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import RangeNotSatisfiable
from pullthrough.oci.ranges import ByteRange, parse_range

BODY = bytes(range(100))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-1000", (90, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("BYTES= 5-6 ", (5, 7)),
    ],
)
def test_ranges_that_are_served(header: str, expected: tuple[int, int]) -> None:
    wanted = parse_range(header, 100)
    assert wanted is not None
    assert (wanted.start, wanted.stop) == expected


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=0--1",
     "bytes=1" + "0" * 30 + "-", "bytes=0x1-", "bytes=0-1;x", "bytes=١-٢"],
)  # fmt: skip
def test_what_is_no_single_byte_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=5-4"])
def test_a_range_without_a_byte_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, 100)
    assert caught.value.size_bytes == 100


def test_no_range_fits_an_empty_body() -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)


@given(first=st.integers(0, 150), length=st.none() | st.integers(0, 150), size=st.integers(0, 100))
def test_a_range_is_a_slice(first: int, length: int | None, size: int) -> None:
    last = "" if length is None else str(first + length)
    body = BODY[:size]
    expected = body[first:] if length is None else body[first : first + length + 1]
    try:
        wanted = parse_range(f"bytes={first}-{last}", size)
    except RangeNotSatisfiable:
        assert expected == b""
        return
    assert wanted is not None
    assert body[wanted.start : wanted.stop] == expected
    assert wanted.content_range(size) == f"bytes {first}-{first + len(expected) - 1}/{size}"


@given(suffix=st.integers(0, 150), size=st.integers(0, 100))
def test_a_suffix_is_a_slice_from_the_end(suffix: int, size: int) -> None:
    body = BODY[:size]
    expected = body[-suffix:] if suffix else b""
    try:
        wanted = parse_range(f"bytes=-{suffix}", size)
    except RangeNotSatisfiable:
        assert expected == b""
        return
    assert wanted is not None
    assert body[wanted.start : wanted.stop] == expected


@given(st.text(max_size=40))
def test_no_header_raises_anything_else(header: str) -> None:
    try:
        wanted = parse_range(header, 10)
    except RangeNotSatisfiable:
        return
    assert wanted is None or isinstance(wanted, ByteRange)
