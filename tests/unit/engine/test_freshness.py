"""When a tag may be served from the cache."""

from __future__ import annotations

import math

import pytest

from pullthrough.declaration import Revalidate, Rule
from pullthrough.engine.pull.freshness import Verdict, judge, may_force

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
