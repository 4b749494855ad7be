"""When a cached tag is answered, when its upstream is asked, and what each case costs there: counted exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pullthrough.demo.images import Image, make_image
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Action, Close, Gate, Hang, Headers, Html, Reset, Status
from tests.integration.lanes import Lane, Lanes, at_once, error_of, open_lanes, opening

OLD, NEW = make_image("old"), make_image("new")


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes]:
    """With a check before the answer that is given up soon."""
    with open_lanes(tmp_path_factory.mktemp("lanes"), request.param, 'stale_check_timeout = "200ms"') as opened:
        yield opened


def cached(lane: Lane, image: Image = OLD) -> Lane:
    """With `image` cached as tag 1, for one GET."""
    lane.add(image, "1")
    assert lane.get("1").outcome == "miss"
    assert lane.cost() == {"GET": 1}
    return lane


def test_a_cold_tag_costs_one_get_and_a_fresh_one_nothing(lanes: Lanes) -> None:
    lane = cached(lanes("fresh"))
    for _ in range(4):
        answer = lane.get("1")
        assert (answer.status, answer.outcome, answer.body) == (200, "hit", OLD.manifest.body)
    assert lane.get("1", method="HEAD").outcome == "hit"
    assert lane.cost() == {"GET": 1}


def test_a_head_of_a_cold_tag_costs_one_get_and_pays_for_the_get_after_it(lanes: Lanes) -> None:
    lane = lanes("fresh")
    lane.add(OLD, "1")
    head = lane.get("1", method="HEAD")
    assert (head.status, head.outcome, head.body) == (200, "miss", b"")
    assert head.headers["content-length"] == str(len(OLD.manifest.body))
    assert head.headers["docker-content-digest"] == OLD.digest
    assert lane.get("1").outcome == "hit"
    assert lane.get(OLD.digest).outcome == "hit"
    assert lane.cost() == {"GET": 1}


def test_many_clients_on_one_cold_tag_cost_one_get(lanes: Lanes) -> None:
    lane, gate = lanes("fresh"), Gate()
    lane.add(OLD, "1")
    lane.script(Hang(gate))

    with opening(gate):
        answers = at_once(24, lambda: lane.get("1"))
    assert {answer.body for answer in answers} == {OLD.manifest.body}
    assert {answer.outcome for answer in answers} <= {"miss", "joined", "hit"}
    assert [answer.outcome for answer in answers].count("miss") == 1
    assert lane.cost() == {"GET": 1}


def test_a_stale_tag_is_answered_at_once_and_costs_one_head_behind_the_answer(lanes: Lanes) -> None:
    lane, gate = cached(lanes("behind")), Gate()
    lane.script(Hang(gate), method="HEAD")
    answers = at_once(6, lambda: lane.get("1"))  # answered though the upstream is not: at once
    assert {answer.outcome for answer in answers} == {"stale"}
    assert {answer.body for answer in answers} == {OLD.manifest.body}
    gate.wait_reached()
    gate.open()
    lane.wait_for_cost({"GET": 1, "HEAD": 1})


def test_a_stale_tag_that_moved_costs_one_head_and_one_get_and_is_new_afterwards(lanes: Lanes) -> None:
    lane = cached(lanes("behind"))
    lane.add(NEW, "1")
    assert lane.get("1").body == OLD.manifest.body
    lane.wait_for_cost({"GET": 2, "HEAD": 1})
    wait_for(lambda: lane.get("1").body == NEW.manifest.body, "the new manifest")
    assert lane.cost()["GET"] == 2
    # Whichever worker answers, and whatever it had in memory.
    assert {lane.get("1").headers["docker-content-digest"] for _ in range(6)} == {NEW.digest}
    assert lane.get(OLD.digest).outcome == "hit", "the old one stays, by its digest"


def test_past_all_freshness_one_head_stands_before_the_answer(lanes: Lanes) -> None:
    lane = cached(lanes("first"))
    answer = lane.get("1")
    assert (answer.outcome, answer.headers["x-cache"].endswith('reason="unchanged upstream"')) == ("revalidated", True)
    assert lane.cost() == {"GET": 1, "HEAD": 1}


def test_a_rule_may_check_before_every_answer(lanes: Lanes) -> None:
    lane = cached(lanes("before"))
    lane.add(NEW, "1")
    assert lane.get("1").body == NEW.manifest.body
    assert lane.cost() == {"GET": 2, "HEAD": 1}


def test_a_tag_that_moved_costs_a_get_and_one_that_moved_back_does_not(lanes: Lanes) -> None:
    lane = cached(lanes("first"))
    lane.add(NEW, "1")
    moved = lane.get("1")
    assert (moved.outcome, moved.body) == ("revalidated", NEW.manifest.body)
    assert "changed upstream" in moved.headers["x-cache"]
    assert lane.cost() == {"GET": 2, "HEAD": 1}
    assert lane.upstream.requests.select(repository=lane.repository)[-1].reference == NEW.digest

    lane.add(OLD, "1")
    assert lane.get("1").body == OLD.manifest.body
    assert lane.cost() == {"GET": 2, "HEAD": 2}


def test_the_check_asks_for_every_kind_of_manifest(lanes: Lanes) -> None:
    """HEAD with another Accept may name another digest, and the tag would look changed for ever."""
    lane = cached(lanes("first"))
    lane.get("1")
    get, head = (
        lane.upstream.requests.select(repository=lane.repository, method=method)[0].headers["accept"]
        for method in ("GET", "HEAD")
    )
    assert get == head


@pytest.mark.parametrize(
    "actions", [(Headers(remove=["Docker-Content-Digest"]),), (Status(405),)], ids=["no-digest", "405"]
)
def test_an_upstream_whose_head_names_no_digest_is_asked_by_get(lanes: Lanes, actions: tuple[Action, ...]) -> None:
    lane = cached(lanes("first"))
    lane.script(*actions, method="HEAD")
    answer = lane.get("1")
    assert (answer.outcome, answer.body) == ("revalidated", OLD.manifest.body)
    assert "unchanged upstream" in answer.headers["x-cache"]
    lane.add(NEW, "1")
    assert lane.get("1").body == NEW.manifest.body
    assert lane.cost() == {"GET": 3, "HEAD": 2}


@pytest.mark.parametrize(
    ("method", "action", "reason"),
    [
        ("HEAD", Status(401), "does not let us read"),
        ("HEAD", Status(403), "does not let us read"),
        ("HEAD", Status(429, retry_after=3600), "limits the rate"),
        ("HEAD", Status(500), "answered 500"),
        ("HEAD", Status(503), "answered 503"),
        ("HEAD", Reset(), ""),
        ("HEAD", Html(), "a web page"),
        ("GET", Status(401), "does not let us read"),
        ("GET", Status(404), "but does not have that"),
        ("GET", Status(429, retry_after=3600), "limits the rate"),
        ("GET", Status(502), "answered 502"),
        ("GET", Close(after_bytes=10), ""),
        ("GET", Html(), "a web page"),
    ],
)
def test_a_cached_tag_is_served_whatever_its_upstream_answers(
    lanes: Lanes, method: str, action: Action, reason: str
) -> None:
    lane = cached(lanes("first"))
    lane.add(NEW, "1")
    script = lane.script(action, method=method)
    answer = lane.get("1")
    assert (answer.status, answer.outcome, answer.body) == (200, "stale", OLD.manifest.body)
    assert reason in answer.headers["x-cache"].partition("reason=")[2]
    cost = lane.cost()
    # And the upstream is left alone for a while; each worker has to learn that by itself.
    assert {lane.get("1").outcome for _ in range(8)} == {"stale"}
    assert script.hits <= 2 * lanes.workers, "a kept connection that breaks is no answer: one is asked on another"
    assert lanes.workers > 1 or lane.cost() == cost
    script.remove()
    assert lane.force("1").body == NEW.manifest.body or action == Status(429, retry_after=3600)


def test_an_upstream_that_is_down_takes_nothing_away(impatient: Lanes) -> None:
    lane, behind = cached(impatient("first")), cached(impatient("behind"))
    impatient.upstream.stop()
    try:
        for _ in range(3):
            assert (lane.get("1").outcome, lane.get("1", method="HEAD").outcome) == ("stale", "stale")
            assert (behind.get("1").outcome, behind.force("1").outcome) == ("stale", "stale")
            assert lane.get(OLD.digest).outcome == "hit"
        status, code, message = error_of(lane.get("never-cached"))
        assert (status, code) == (503, "UNAVAILABLE")
        assert "connection refused" in message
    finally:
        impatient.upstream.start()


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_hanging_upstream_holds_no_cached_tag_up(impatient: Lanes, method: str) -> None:
    lane, gate = cached(impatient("first")), Gate()
    lane.add(NEW, "1")
    lane.script(Hang(gate), method=method)
    answers = at_once(4, lambda: lane.get("1"))
    assert {(answer.outcome, answer.body) for answer in answers} == {("stale", OLD.manifest.body)}
    assert "did not answer within 0.2 s" in answers[0].headers["x-cache"]
    assert lane.cost()["HEAD"] == 1, "one question in flight over all workers"
    # The check goes on behind, so that an upstream that is slow, but answers, is heard.
    gate.open()
    wait_for(lambda: lane.get("1").body == NEW.manifest.body, "the new manifest")
    assert lane.cost()["GET"] == 2


def test_a_forced_check_asks_once_and_then_not_again_for_a_while(lanes: Lanes) -> None:
    lane = cached(lanes("fresh"))
    lane.add(NEW, "1")
    assert lane.get("1").body == OLD.manifest.body, "a fresh tag is not checked"
    assert lane.force("1").body == NEW.manifest.body
    assert lane.cost() == {"GET": 2, "HEAD": 1}
    lane.add(OLD, "1")
    assert {lane.force("1").body for _ in range(6)} == {NEW.manifest.body}
    assert lane.cost() == {"GET": 2, "HEAD": 1}


def test_forced_checks_at_once_are_one(lanes: Lanes) -> None:
    lane, gate = cached(lanes("fresh")), Gate()
    lane.script(Hang(gate), method="HEAD")
    with opening(gate):
        answers = at_once(12, lambda: lane.force("1"))
    assert {answer.outcome for answer in answers} <= {"revalidated", "joined", "hit"}
    assert lane.cost() == {"GET": 1, "HEAD": 1}


def test_a_forced_check_that_fails_counts_and_serves_what_is_cached(lanes: Lanes) -> None:
    lane = cached(lanes("fresh"))
    lane.script(Status(500), method="HEAD")
    answer = lane.force("1")
    assert (answer.outcome, answer.body) == ("stale", OLD.manifest.body)
    assert {lane.force("1").body for _ in range(6)} == {OLD.manifest.body}
    assert lane.cost() == {"GET": 1, "HEAD": 1}


def test_a_forced_check_does_not_wait_for_a_hanging_upstream(impatient: Lanes) -> None:
    lane, gate = cached(impatient("fresh")), Gate()
    lane.script(Hang(gate), method="HEAD")
    assert [lane.force("1").outcome for _ in range(3)] == ["stale"] * 3
    assert lane.cost() == {"GET": 1, "HEAD": 1}
    gate.open()


def test_a_tag_that_is_gone_upstream_is_kept_and_marked(lanes: Lanes) -> None:
    lane = cached(lanes("first"))
    lane.upstream.remove_tag(lane.repository, "1")
    for _ in range(2):
        answer = lane.get("1")
        assert (answer.status, answer.body) == (200, OLD.manifest.body)
        assert 'reason="gone upstream"' in answer.headers["x-cache"]
    lane.add(NEW, "1")
    assert lane.get("1").body == NEW.manifest.body, "it is back"
    assert "gone" not in lane.get("1").headers["x-cache"]


def test_a_tag_that_is_gone_upstream_is_removed_where_the_rule_says_so(lanes: Lanes) -> None:
    lane = cached(lanes("remove"))
    lane.upstream.remove_tag(lane.repository, "1")
    assert error_of(lane.get("1"))[:2] == (404, "MANIFEST_UNKNOWN")
    assert lane.cost() == {"GET": 1, "HEAD": 1}
    assert lane.get("1").status == 404
    assert lane.get(OLD.digest).outcome == "hit", "by its digest it is still there"
    assert lane.cost() == {"GET": 2, "HEAD": 1}


def test_an_upstream_that_fails_removes_nothing(lanes: Lanes) -> None:
    lane = cached(lanes("remove"))
    script = lane.script(Status(401), method="HEAD")
    assert lane.get("1").outcome == "stale"
    assert script.hits == 1


def test_a_digest_is_never_checked(lanes: Lanes) -> None:
    lane = cached(lanes("first"))
    assert {lane.get(OLD.digest).outcome, lane.get(OLD.digest, headers={"Cache-Control": "no-cache"}).outcome} == {
        "hit"
    }
    assert lane.cost() == {"GET": 1}
