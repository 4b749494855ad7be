"""One log line for any number of the same."""

from __future__ import annotations

from pullthrough.faces.http.notices import Notice


def test_the_first_is_told_at_once_and_the_others_together_a_minute_later() -> None:
    now = 0.0
    notice = Notice(lambda: now)
    assert [notice.count() for _ in range(4)] == [1, 0, 0, 0]
    now = 59.0
    assert notice.count() == 0
    now = 60.0
    assert [notice.count(), notice.count()] == [5, 0]
