"""What an upstream does not have is remembered for a while; what it merely did not tell is not."""

from __future__ import annotations

import pytest

from pullthrough.demo.images import make_image
from tests.fakes.upstream import Gate, Hang, Status
from tests.integration.lanes import Lanes, at_once, error_of, opening

IMAGE = make_image("late")


@pytest.mark.parametrize("reference", ["2", str(IMAGE.digest)], ids=["tag", "digest"])
def test_a_404_is_remembered_and_costs_no_second_request(lanes: Lanes, reference: str) -> None:
    lane = lanes("fresh")
    lane.add(make_image("there"), "1")
    first = lane.get(reference)
    assert error_of(first)[:2] == (404, "MANIFEST_UNKNOWN")
    assert first.outcome == "none"
    for method in ("GET", "HEAD"):
        again = lane.get(reference, method=method)
        assert (again.status, again.outcome) == (404, "negative")
    assert lane.force(reference).outcome == "negative", "it was asked for just now"
    assert lane.cost() == {"GET": 1}
    # What is remembered of one reference says nothing about others.
    assert lane.get("1").status == 200


def test_many_clients_on_one_missing_tag_cost_one_get(lanes: Lanes) -> None:
    lane, gate = lanes("fresh"), Gate()
    lane.add(IMAGE, "1")
    lane.script(Hang(gate))
    with opening(gate):
        answers = at_once(12, lambda: lane.get("2"))
    assert {answer.status for answer in answers} == {404}
    assert lane.cost() == {"GET": 1}


def test_a_repository_that_does_not_exist_is_remembered_tag_by_tag(lanes: Lanes) -> None:
    lane = lanes("fresh")
    assert [lane.get("1").outcome for _ in range(2)] == ["none", "negative"]
    assert [lane.list().outcome for _ in range(2)] == ["none", "negative"]
    assert (lane.cost(), lane.cost("tags")) == ({"GET": 1}, {"GET": 1})


def test_a_digest_that_came_by_its_tag_is_not_missing_any_longer(lanes: Lanes) -> None:
    lane = lanes("fresh")
    assert lane.get(IMAGE.digest).status == 404
    lane.add(IMAGE, "1")
    assert lane.get(IMAGE.digest).outcome == "negative"
    assert lane.get("1").outcome == "miss"
    assert lane.get(IMAGE.digest).outcome == "hit"


def test_a_rule_may_remember_no_404(lanes: Lanes) -> None:
    lane = lanes("forget")
    assert lane.get("1").status == lane.get("1").status == 404
    assert lane.list().status == lane.list().status == 404
    lane.add(IMAGE, "1")
    assert (lane.get("1").status, lane.list().status) == (200, 200)
    assert (lane.cost(), lane.cost("tags")) == ({"GET": 3}, {"GET": 3})


@pytest.mark.parametrize(("status", "answered"), [(401, 403), (403, 403), (500, 503), (503, 503), (418, 502)])
def test_an_answer_other_than_404_is_never_remembered(lanes: Lanes, status: int, answered: int) -> None:
    lane = lanes("fresh")
    lane.add(IMAGE, "1")
    lane.script(Status(status), nth=1)
    lane.script(Status(status), kind="tags", nth=1)
    assert (lane.get("1").status, lane.list().status) == (answered, answered)
    assert (lane.get("1").status, lane.list().status) == (200, 200)
