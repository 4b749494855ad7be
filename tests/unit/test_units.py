"""Durations and sizes: what is read, what is refused, and that what is shown can be read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.units import (
    counted,
    format_bytes,
    format_duration,
    format_size,
    format_time,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("2s", 2),
        ("1.5s", 1.5),
        ("10m", 600),
        ("24h", 86400),
        ("7d", 604800),
        ("1h30m", 5400),
        ("1d12h30m15s500ms", 86400 + 12 * 3600 + 30 * 60 + 15.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        "1 h",
        "-1s",
        "+1s",
        "1x",
        "30m1h",
        "1m1m",
        "1h 30m",
        "1e3s",
        "１s",
        "1s ",
        " 1s",
        "never",
        "NaNs",
        "1.s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "30", "-1", "1.5"])
def test_a_bare_number_is_refused_as_a_duration_and_as_a_size(text: str) -> None:
    with pytest.raises(ValueError, match="needs a unit"):
        parse_duration(text)
    with pytest.raises(ValueError, match="needs a unit"):
        parse_size(text)


def test_words_are_accepted_only_where_the_caller_says_so() -> None:
    assert parse_duration("never", {"never": math.inf}) == math.inf
    with pytest.raises(ValueError, match="or 'always'"):
        parse_duration("never", {"always": 0.0})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0124, "12ms"),
        (2.5, "2.5s"),
        (59, "59s"),
        (60, "1m"),
        (5400, "1h30m"),
        (86400, "24h"),
        (604800, "7d"),
        (90061, "25h1m1s"),
        (math.inf, "never"),
    ],
)
def test_durations_are_shown_in_their_usual_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 10**9))
def test_whole_seconds_survive_being_shown_and_read(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 59_999))
def test_milliseconds_survive_being_shown_and_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.text())
def test_any_text_is_read_or_refused_with_a_sentence_of_its_own(text: str) -> None:
    for parse in (parse_duration, parse_size):
        try:
            ok = parse(text) >= 0
        except ValueError as error:
            ok = str(error).startswith(("is not a", "needs a unit"))
        assert ok


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0B", 0),
        ("512KiB", 512 * 1024),
        ("16MiB", 16 * 1024**2),
        ("16 MiB", 16 * 1024**2),
        ("10GB", 10**10),
        ("1TiB", 1024**4),
        ("1.5GiB", 3 * 1024**3 // 2),
        ("3kB", 3000),
        ("3KB", 3000),
    ],
)
def test_sizes_are_read(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "16mib", "16Mb", "16M", "-1GB", "1e3B", "16  MiB", "80%", "never"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@given(st.integers(0, 10**15))
def test_sizes_survive_being_shown_and_read(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1503238553, "1.4 GiB"),
        (10**18, "888.2 PiB"),
        (10**21, "888178.4 PiB"),
    ],
)
def test_bytes_are_shown_in_binary_units(size_bytes: int, text: str) -> None:
    assert format_bytes(size_bytes) == text


def test_times_are_whole_seconds_of_utc() -> None:
    assert format_time(1_764_577_800.9) == "2025-12-01T08:30:00Z"
    assert format_time(None) is None


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "blob", "1 blob"),
        (0, "blob", "0 blobs"),
        (1, "policy", "1 policy"),
        (1234, "policy", "1,234 policies"),
        (2, "key", "2 keys"),
    ],
)
def test_what_is_counted_has_its_plural(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
