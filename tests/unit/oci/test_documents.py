"""JSON of other people: objects, in UTF-8, of no more values than it takes a moment to read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.oci.documents import MAX_VALUES, parse_object


def test_an_object_is_read() -> None:
    assert parse_object(b'\xef\xbb\xbf{"a": [1, "\xc3\xbc"]}') == {"a": [1, "ü"]}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "it is not JSON in UTF-8"),
        (b"[1]", "it is not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "it is not JSON in UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "it is not JSON in UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "it is not JSON in UTF-8"),
        (b'{"a": [' + b"[]," * MAX_VALUES + b"1]}", f"it has more than {MAX_VALUES:,} values"),
        (b"{" * (MAX_VALUES + 1), f"it has more than {MAX_VALUES:,} values"),
    ],
)
def test_what_cannot_be_read_says_why(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        parse_object(body)


@given(st.binary(max_size=40))
def test_nothing_else_comes_out(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_object(body), dict)
