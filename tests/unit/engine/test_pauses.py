"""What is left alone after a failed check, and for how long."""

from __future__ import annotations

from pullthrough.engine.pull.pauses import FAILED_CHECK_PAUSE_SECONDS, Pauses
from pullthrough.errors import UpstreamThrottled, UpstreamUnavailable


def test_a_pause_lasts_as_long_as_it_must_and_names_its_reason() -> None:
    now = 1000.0
    pauses = Pauses(lambda: now)
    pauses.begin_after("down", UpstreamUnavailable("no answer", upstream="u"))
    pauses.begin_after("limited", UpstreamThrottled("too many", upstream="u", retry_after_seconds=60))
    pauses.begin_after("hardly", UpstreamThrottled("too many", upstream="u", retry_after_seconds=1))
    assert [pauses.reason(key) for key in ("down", "limited", "hardly", "other")] == [
        "no answer",
        "too many",
        "too many",
        "",
    ]
    now += FAILED_CHECK_PAUSE_SECONDS
    assert [pauses.reason(key) for key in ("down", "limited", "hardly")] == ["", "too many", ""]
    pauses.end("limited")
    assert pauses.reason("limited") == ""


def test_clients_cannot_make_it_grow_without_end() -> None:
    pauses = Pauses(lambda: 0.0)
    for number in range(25_000):
        pauses.begin(number, "failed")
    assert len(pauses._until) <= 10_000
    assert pauses.reason(24_999) == "failed"
