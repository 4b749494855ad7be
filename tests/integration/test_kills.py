"""kill -9 under load: nothing published is lost, nothing wrong is served. `make soak` does the same for hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.chaos import BLOB_FAULTS, Kill, run_faults, run_kills

ROUNDS = 2
KILLS_A_ROUND = 10


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_kills_at_random_instants_lose_no_published_blob_and_serve_no_wrong_byte(number: int, tmp_path: Path) -> None:
    tally = run_kills(tmp_path, kills=KILLS_A_ROUND, seed=f"tests/{number}")

    assert sum(count for name, count in tally.counts.items() if name.startswith("kills ")) == KILLS_A_ROUND
    assert tally["images pulled whole"] == KILLS_A_ROUND
    assert tally["answers right"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_images_come_through_whatever_the_upstream_does_wrong(tmp_path: Path) -> None:
    tally = run_faults(tmp_path, faults=100, seed="tests")

    assert tally["faults"] >= 100
    assert tally["images pulled whole"] > 0


def test_kills_and_faults_of_every_kind_are_in_the_plan() -> None:
    assert set(Kill) == {"leader", "follower", "parent"}
    assert {"cut", "reset", "wrong byte", "stall", "500", "429"} <= BLOB_FAULTS.keys()
