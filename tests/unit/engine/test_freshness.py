"""When a tag may be served from the cache."""

from __future__ import annotations

import math

import pytest

from pullthrough.declaration import Revalidate, Rule
from pullthrough.engine.pull.freshness import Validation, Verdict, decide, judge, may_force

HOUR = 3600.0


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(0, Verdict.FRESH), (24 * HOUR - 1, Verdict.FRESH), (24 * HOUR, Verdict.STALE), (25 * HOUR - 1, Verdict.STALE),
     (25 * HOUR, Verdict.CHECK), (math.inf, Verdict.CHECK)],
)  # fmt: skip
def test_by_default_a_day_then_an_hour_behind_the_answer_then_before_it(age: float, verdict: Verdict) -> None:
    assert judge(Rule("p", "r.example"), "latest", age) is verdict


def test_before_never_answers_stale_unchecked() -> None:
    rule = Rule("p", "r.example", revalidate=Revalidate.BEFORE)
    assert judge(rule, "latest", 24 * HOUR) is Verdict.CHECK


def test_patterns_override_the_rules_freshness_in_their_order() -> None:
    rule = Rule("p", "r.example", freshness_by_tag=(("latest", 600.0), ("*-stable", math.inf), ("*", 0.0)))
    assert judge(rule, "latest", 599) is Verdict.FRESH
    assert judge(rule, "latest", 600) is Verdict.STALE
    assert judge(rule, "v1-stable", 1e12) is Verdict.FRESH
    assert judge(rule, "v1", 0) is Verdict.STALE


@pytest.mark.parametrize(
    ("forced_at", "now", "allowed"), [(0, 100, True), (95, 100, False), (90, 100, True), (200, 100, True)]
)
def test_a_forced_check_is_made_once_in_ten_seconds(forced_at: float, now: float, allowed: bool) -> None:
    assert may_force(forced_at, now) is allowed


def decided(age: float, *, forced_at: float | None = 0.0, **asked: bool) -> Verdict:
    """Of an answer that is fresh for 100 s and then stale for 100 s, at 1000."""
    rule = Rule("p", "r.example", freshness_seconds=100, stale_while_revalidate_seconds=100)
    return decide(rule, "", Validation(1000.0 - age, forced_at), 1000.0, **{"paused": False, **asked})


def test_a_pause_holds_off_the_checks_of_what_is_not_fresh() -> None:
    assert [decided(age) for age in (99, 100, 200)] == [Verdict.FRESH, Verdict.STALE, Verdict.CHECK]
    assert [decided(age, paused=True) for age in (99, 100, 200)] == [Verdict.FRESH, Verdict.PAUSED, Verdict.PAUSED]


def test_a_forced_check_stands_above_pauses_only_where_those_in_vain_are_noted() -> None:
    assert decided(50, force=True, paused=True) is Verdict.FORCED
    assert decided(50, force=True, forced_at=991.0, paused=True) is Verdict.FRESH
    assert decided(50, force=True, forced_at=None) is Verdict.FORCED
    assert decided(5, force=True, forced_at=None) is Verdict.FRESH
    assert decided(50, force=True, forced_at=None, paused=True) is Verdict.PAUSED


def test_a_strict_client_gets_no_answer_after_a_check_in_vain() -> None:
    assert decided(50, force=True, strict=True, forced_at=995.0) is Verdict.REFUSED
    assert decided(5, force=True, strict=True, forced_at=995.0) is Verdict.FRESH
    assert decided(50, force=True, strict=True, forced_at=985.0) is Verdict.FORCED
