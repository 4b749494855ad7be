from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.shared_state import MemoryState
from pullthrough.upstream.login.budget import MAX_PAUSE_SECONDS, Budget, parse_count, parse_wait

NOW = 1_800_000_000.0


class Setting:
    def __init__(self) -> None:
        self.now = 50.0
        self.changes: list[tuple[int | None, float]] = []
        self.budget = Budget(
            MemoryState(lambda: self.now),
            "r.example",
            clock=lambda: NOW + self.now,
        )
        self.budget.tell(lambda remaining, until: self.changes.append((remaining, until)))


@pytest.fixture
def setting() -> Setting:
    return Setting()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("76", 76), ("76;w=21600", 76), (" 100, 100;w=60", 100), ("0;w=21600", 0), ("", None), ("-1", None), ("x", None)],
)
def test_counts_are_read_with_and_without_a_window(text: str, expected: int | None) -> None:
    assert parse_count(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60", 60.0),
        ("0", 1.0),
        ("1.5", 1.0),
        ("999999", MAX_PAUSE_SECONDS),
        (str(int(NOW) + 90), 90.0),
        (str(int(NOW) - 90), 1.0),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 1.0),
        ("Fri, 15 Jan 2099 07:00:00 GMT", MAX_PAUSE_SECONDS),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_waits_are_seconds_unix_times_or_dates_and_capped(text: str, expected: float | None) -> None:
    assert parse_wait(text, NOW) == expected


@given(st.text(max_size=60))
def test_any_header_is_a_bounded_wait_or_none(text: str) -> None:
    seconds = parse_wait(text, NOW)
    assert seconds is None or 1 <= seconds <= MAX_PAUSE_SECONDS


def test_retry_after_pauses_for_as_long_as_it_says(setting: Setting) -> None:
    assert setting.budget.throttled({"retry-after": "42"}) == 42
    assert setting.budget.paused_seconds == 42
    assert setting.budget.paused_until == NOW + 50 + 42
    setting.now += 42
    assert setting.budget.paused_seconds == 0
    assert setting.budget.paused_until is None


def test_a_pause_of_whole_seconds_is_one(setting: Setting) -> None:
    """Who is told them rounded up would hear of 601."""
    setting.now = 3885.619
    assert (setting.now + 600) - setting.now > 600
    setting.budget.throttled({"retry-after": "600"})
    assert setting.budget.paused_seconds == 600


def test_429_without_retry_after_pauses_longer_each_time_until_an_answer(setting: Setting) -> None:
    waits = []
    for _ in range(7):
        waits.append(setting.budget.throttled({}))
        setting.now += waits[-1]
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    setting.budget.answered({})
    assert setting.budget.throttled({}) == 10


def test_nothing_left_pauses_only_where_the_reset_is_known(setting: Setting) -> None:
    setting.budget.answered({"ratelimit-remaining": "0;w=21600", "ratelimit-limit": "100;w=21600"})
    assert (setting.budget.remaining, setting.budget.limit, setting.budget.paused_seconds) == (0, 100, 0)
    setting.budget.answered({"ratelimit-remaining": "0", "ratelimit-reset": "30"})
    assert setting.budget.paused_seconds == 30


def test_paid_accounts_that_get_no_headers_are_fine(setting: Setting) -> None:
    setting.budget.answered({"ratelimit-remaining": "", "ratelimit-limit": ""})
    assert (setting.budget.remaining, setting.budget.paused_seconds, setting.changes) == (None, 0, [])


def test_changes_are_told_once_each(setting: Setting) -> None:
    for _ in range(3):
        setting.budget.answered({"ratelimit-remaining": "76;w=21600"})
    setting.budget.throttled({"retry-after": "10"})
    assert setting.changes == [(76, 0.0), (76, NOW + 60)]


def test_a_shorter_pause_does_not_end_a_longer_one(setting: Setting) -> None:
    setting.budget.throttled({"retry-after": "100"})
    assert setting.budget.throttled({"retry-after": "5"}) == 100
