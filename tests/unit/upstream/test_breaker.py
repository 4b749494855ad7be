from __future__ import annotations

import pytest

from pullthrough.shared_state import MemoryState
from pullthrough.upstream.breaker import FIRST_OPEN_SECONDS, MAX_OPEN_SECONDS, OPEN_AFTER, Breaker, BreakerState, Permit


class Setting:
    def __init__(self) -> None:
        self.now = 0.0
        self.breaker = Breaker(MemoryState(lambda: self.now), "r.example")

    def state(self) -> BreakerState:
        return self.breaker.state

    def permit(self) -> Permit:
        permit = self.breaker.permit()
        assert permit is not None
        return permit

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            self.permit().failed("it is down")


@pytest.fixture
def setting() -> Setting:
    return Setting()


def test_it_opens_after_five_failures_in_a_row(setting: Setting) -> None:
    setting.fail(OPEN_AFTER - 1)
    assert setting.state() is BreakerState.CLOSED
    setting.fail()
    assert setting.state() is BreakerState.OPEN
    assert setting.breaker.permit() is None
    assert setting.breaker.blocked_seconds() == FIRST_OPEN_SECONDS
    assert setting.breaker.reason == "it is down"


def test_an_answer_starts_the_count_anew(setting: Setting) -> None:
    setting.fail(OPEN_AFTER - 1)
    setting.permit().succeeded()
    setting.fail(OPEN_AFTER - 1)
    assert setting.state() is BreakerState.CLOSED


def test_one_probe_at_a_time_decides(setting: Setting) -> None:
    setting.fail(OPEN_AFTER)
    setting.now += FIRST_OPEN_SECONDS
    probe = setting.permit()
    assert setting.state() is BreakerState.HALF_OPEN
    assert setting.breaker.permit() is None
    assert setting.breaker.blocked_seconds() > 0
    probe.succeeded()
    assert setting.state() is BreakerState.CLOSED
    assert setting.breaker.blocked_seconds() == 0


def test_failed_probes_double_the_time_up_to_a_limit(setting: Setting) -> None:
    setting.fail(OPEN_AFTER)
    waits = []
    for _ in range(5):
        waits.append(setting.breaker.blocked_seconds())
        setting.now += waits[-1]
        setting.fail()
    assert waits == [15, 30, 60, 120, MAX_OPEN_SECONDS]


def test_a_probe_that_was_cancelled_lets_the_next_one_go(setting: Setting) -> None:
    setting.fail(OPEN_AFTER)
    setting.now += FIRST_OPEN_SECONDS
    setting.permit().release()
    setting.permit().succeeded()
    assert setting.state() is BreakerState.CLOSED


def test_a_permit_counts_once(setting: Setting) -> None:
    permit = setting.permit()
    for _ in range(OPEN_AFTER):
        permit.failed("again")
    assert setting.state() is BreakerState.CLOSED


def test_failures_of_requests_that_began_before_it_opened_do_not_prolong_it(setting: Setting) -> None:
    late = [setting.permit() for _ in range(3)]
    setting.fail(OPEN_AFTER)
    for permit in late:
        permit.failed("late")
    assert setting.breaker.blocked_seconds() == FIRST_OPEN_SECONDS
