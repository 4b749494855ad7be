"""Who gets a place, and who gives way."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from pullthrough.faces.http.admission import MAX_NEW, SHARE, Admission, Place
from tests.effort import examples

LIMIT = 40
CLIENTS = ["a", "b", "c", "d"]


class House:
    """An admission, and who was closed, in order."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.admission = Admission(limit)
        self.closed: list[str] = []

    def enter(self, client: str, name: str = "") -> Place | None:
        return self.admission.admit(client, lambda: self.closed.append(name or client))

    def enter_all(self, client: str, count: int, *, works: bool = False, rests: bool = False) -> int:
        """How many got in."""
        places = [place for _ in range(count) if (place := self.enter(client))]
        for place in places:
            if works:
                place.work()
            if rests:
                place.rest()
        return len(places)


def test_there_is_a_limit_for_all_clients_together() -> None:
    house = House()
    for number in range(3 * LIMIT):
        assert house.enter(f"client {number}")
    assert house.admission.count == LIMIT
    assert house.closed == [f"client {number}" for number in range(2 * LIMIT)]


def test_who_has_not_said_anything_gives_way_first_then_who_is_between_requests() -> None:
    house = House(4)
    busy, idle, new = (house.enter("a", name) for name in ("busy", "idle", "new"))
    assert busy
    assert idle
    assert new
    busy.work()
    idle.rest()
    house.enter("b", "newer")
    for _ in range(3):
        house.enter("b", "newest")
    assert house.closed == ["new", "newer", "newest"]
    house = House(2)
    for name in ("first", "second"):
        place = house.enter("a", name)
        assert place
        place.rest()
    house.enter("b")
    assert house.closed == ["first"]


def test_few_may_say_nothing_at_a_time_however_many_places_there_are() -> None:
    house = House(1_000_000)
    idle = house.enter("a")
    assert idle
    idle.rest()
    house.enter_all("b", 5000)
    assert house.admission.new.count == MAX_NEW
    assert house.closed == ["b"] * (5000 - MAX_NEW)


def test_the_longest_idle_gives_way_not_the_oldest() -> None:
    house = House(2)
    places = [house.enter("a", name) for name in ("first", "second")]
    for place in (*places, places[0]):
        assert place
        place.rest()
    house.enter("b")
    assert house.closed == ["second"]


def test_the_client_that_has_most_gives_way_and_not_one_that_came_before_it() -> None:
    house = House()
    house.enter("quiet")
    house.enter_all("loud", 10 * LIMIT)
    assert "quiet" not in house.closed
    assert house.enter("other")
    assert set(house.closed) == {"loud"}


def test_one_client_alone_can_have_most_of_the_places_and_leaves_some() -> None:
    house = House()
    got = sum(house.enter_all("a", 1, works=True) for _ in range(2 * LIMIT))
    assert got == LIMIT * SHARE // (SHARE + 1)
    assert not house.closed
    assert house.enter_all("b", 4, works=True) == 4
    assert not house.closed


def test_who_has_its_share_may_replace_its_own() -> None:
    house = House()
    for _ in range(LIMIT):
        house.enter_all("a", 1, works=True)
    house.enter_all("b", 1)
    idle = house.enter("b", "idle of b")
    assert idle
    idle.rest()
    assert house.enter("a") is None
    assert not house.closed


def test_a_busy_one_gives_way_only_where_another_client_has_none() -> None:
    """When they all work at once, without having come so."""
    house = House()
    places = [house.enter("a", f"a {number}") for number in range(LIMIT)]
    for place in places:
        assert place
        place.work()
    first = house.enter("b")
    assert first
    assert house.closed == [f"a {LIMIT - 1}"]
    first.work()
    while (place := house.enter("b")) is not None:
        place.work()
    of_b = house.admission.busy.count_of("b")
    assert of_b == LIMIT // (SHARE + 1)
    assert house.closed == [f"a {LIMIT - 1 - number}" for number in range(of_b)]
    assert house.enter("a") is None


def test_silent_newcomers_push_out_one_busy_connection_at_most() -> None:
    house = House()
    for place in [house.enter("a") for _ in range(LIMIT)]:
        assert place
        place.work()
    for number in range(1000):
        house.enter(f"stranger {number}")
    assert house.closed.count("a") == 1


def test_where_everybody_has_one_that_works_the_newcomer_is_turned_away() -> None:
    house = House(3)
    for client in ("a", "b", "c"):
        house.enter_all(client, 1, works=True)
    assert house.enter("d") is None
    assert not house.closed


def test_what_is_told_to_close_counts_as_open_until_it_is() -> None:
    house = House(10)
    places = [house.enter("a") for _ in range(10)]
    while not house.admission.is_crowded:
        places.append(house.enter("a"))
    assert house.admission.count == 10
    for place in places[:5]:
        assert place
        place.leave()
        place.leave()
        place.rest()
    assert not house.admission.is_crowded
    assert house.admission.count == 10


class Doors(RuleBasedStateMachine):
    """Any sequence of comings, requests and goings, compared with a plain count of them."""

    places = Bundle("places")

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(12)
        self.phases: dict[int, tuple[str, str]] = {}
        self.given: list[Place] = []
        self.closed: list[int] = []

    def busy(self) -> Counter[str]:
        return Counter(client for client, phase in self.phases.values() if phase == "busy")

    @rule(target=places, client=st.sampled_from(CLIENTS))
    def enter(self, client: str) -> object:
        before, number = dict(self.phases), len(self.given)
        busy = self.busy()
        self.closed.clear()
        place = self.admission.admit(client, lambda: self.closed.append(number))
        gone = [self.phases.pop(closed) for closed in self.closed]
        assert len(gone) <= 1
        free = 12 - sum(busy.values())
        mine = [phase for who, phase in before.values() if who == client]
        if place is None:
            # Who has no place gets one, unless all work and nobody has two.
            assert mine or (not free and max(busy.values()) == 1)
            assert "new" not in mine
            assert "idle" not in mine
            assert busy[client] >= SHARE * free
            return multiple()
        for who, phase in gone:
            if phase == "busy":
                assert not free
                assert busy[who] > max(1, SHARE * busy[client])
            if phase == "idle" and busy[client] < SHARE * free:
                assert all(other != "new" for _, other in before.values())
            if busy[client] < SHARE * free:
                assert len(before) == 12
                of_phase = Counter(other for other, same in before.values() if same == phase)
                assert of_phase[who] == max(of_phase.values())
        self.phases[number] = (client, "new")
        self.given.append(place)
        return number

    @rule(number=places)
    def work(self, number: int) -> None:
        self.given[number].work()
        if number in self.phases:
            self.phases[number] = (self.phases[number][0], "busy")

    @rule(number=places)
    def rest(self, number: int) -> None:
        self.given[number].rest()
        if number in self.phases:
            self.phases[number] = (self.phases[number][0], "idle")

    @rule(number=consumes(places))
    def leave(self, number: int) -> None:
        self.given[number].leave()
        self.phases.pop(number, None)

    @invariant()
    def counts_are_right(self) -> None:
        admission = self.admission
        assert admission.count == len(self.phases) <= admission.limit
        for phase, line in (("new", admission.new), ("idle", admission.idle), ("busy", admission.busy)):
            of_clients = Counter(client for client, same in self.phases.values() if same == phase)
            assert line.count == sum(of_clients.values())
            assert line.most == max(of_clients.values(), default=0)
            assert {client: line.count_of(client) for client in CLIENTS if line.count_of(client)} == of_clients


TestDoors = Doors.TestCase
TestDoors.settings = settings(max_examples=examples(100), stateful_step_count=60)
