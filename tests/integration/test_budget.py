"""An upstream's rate limit: cold pulls queue for it, warm pulls never notice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream, Status
from tests.integration.conftest import StartEngine
from tests.integration.lanes import at_once, error_of, sample

IMAGES = [make_image(f"image {number}") for number in range(4)]
PATH = "/v2/docker-hub/acme/app-{}/manifests/1"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """One pull in six hours."""
    with ScriptedUpstream(rate_limit=1) as registry:
        for number, image in enumerate(IMAGES):
            registry.add(f"acme/app-{number}", image, "1")
        yield registry


def test_over_the_limit_cold_pulls_are_told_when_to_come_back_and_warm_ones_are_served(
    start_engine: StartEngine, upstream: ScriptedUpstream, workers: int
) -> None:
    engine = start_engine(rule='freshness = "always"\nstale_while_revalidate = "never"')
    assert engine.get(PATH.format(0)).outcome == "miss"
    assert sample(engine.metrics(), "pullthrough_rate_limit_remaining") == 0

    answers = at_once(6, lambda: engine.get(PATH.format(1)))
    for answer in answers:
        assert error_of(answer)[:2] == (429, "TOOMANYREQUESTS")
        assert 3_500 < int(answer.headers["retry-after"]) <= 21_600
    # Nobody asks again before the time, for whatever there is.
    refused = upstream.requests.count(status=429)
    assert 1 <= refused <= workers
    assert {engine.get(PATH.format(number)).status for number in (1, 2, 3)} == {429}
    assert upstream.requests.count(status=429) <= workers
    # What is cached is served, stale at most; a HEAD is not counted by the limit, but by the abuse limit.
    for _ in range(4):
        answer = engine.get(PATH.format(0))
        assert (answer.status, answer.body) == (200, IMAGES[0].manifest.body)
        assert answer.outcome in ("stale", "revalidated")
    state = _state(engine)
    assert state["remaining"] in (0, 1)
    assert {_state(engine)["healthy"] for _ in range(4)} == {True}, "a limit is no outage"


def test_a_short_pause_is_waited_for(start_engine: StartEngine, upstream: ScriptedUpstream, workers: int) -> None:
    engine = start_engine()
    upstream.set_pulls_left(4)
    script = upstream.script(Status(429, retry_after=1), kind="manifest", nth=1)
    answers = at_once(4, lambda: engine.get(PATH.format(0)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, IMAGES[0].manifest.body)}
    assert script.hits == 1
    assert upstream.requests.count(kind="manifest", status=200) <= workers


def test_a_pause_longer_than_the_queue_is_not_waited_for(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine(reach='queue_timeout = "1s"')
    upstream.script(Status(429, retry_after=30), kind="manifest")
    answer = engine.get(PATH.format(0))
    assert error_of(answer)[:2] == (429, "TOOMANYREQUESTS")
    assert 1 < int(answer.headers["retry-after"]) <= 30


def _state(engine: Engine) -> dict[str, object]:
    found: dict[str, object] = {"remaining": 0, "healthy": True}
    found |= json.loads(engine.get("/readyz").body)["upstreams"].get("registry-1.docker.io", {})
    if found["remaining"] is None:  # a worker that has asked nothing yet
        found["remaining"] = 0
    return found
