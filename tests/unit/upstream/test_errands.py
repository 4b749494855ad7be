"""What is left of an errand's patience, and which failures are its first."""

from __future__ import annotations

import pytest

from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.urls import parse_url


def test_patience_is_spent_once_whoever_spends_it() -> None:
    errand = Errand(30.0)
    assert [errand.spend(seconds) for seconds in (20, 11, 10, 1)] == [True, False, True, False]
    assert errand.patience_seconds == 0


@pytest.mark.parametrize(("late", "fits"), [(0.05, True), (0.5, False)])
def test_a_pause_that_ends_a_moment_late_fits_still(late: float, fits: bool) -> None:
    errand = Errand(10.0)
    assert errand.spend(10 + late) is fits
    assert errand.patience_seconds == (0 if fits else 10)


def test_an_errand_without_patience_waits_for_nothing() -> None:
    assert not Errand(0.0).spend(1.0)


def test_each_endpoint_has_one_first_failure() -> None:
    errand, one, other = Errand(1.0), parse_url("http://one"), parse_url("http://other")
    assert [errand.first_failure(url) for url in (one, one, other, one)] == [True, False, True, False]
