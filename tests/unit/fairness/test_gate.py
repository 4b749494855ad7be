"""A gate's slots: never too many, none lost, none for a share that wants them all while others want one."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pullthrough.fairness.gate import MAX_JOINED, Gate, Line
from pullthrough.fairness.queue import FairQueue, QueueFull, one_each, thresholds


class Users:
    """Tasks that hold a slot until they are told to leave. A name's first letter is its share, unless one is given."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.leave: dict[str, asyncio.Event] = {}

    async def enter(
        self,
        *names: str,
        shares: tuple[Hashable, ...] | None = None,
        behind: bool = False,
        line: Line | None = None,
    ) -> None:
        for name in names:
            self.leave[name] = asyncio.Event()
            is_open = self.gate.is_open(*(shares or (name[0],)))
            self.tasks[name] = asyncio.create_task(self._use(name, shares or (name[0],), behind, line))
            await settle()
            assert (name in self.inside) is is_open, "what the gate said before"

    async def go(self, *names: str) -> None:
        for name in names:
            self.leave[name].set()
            await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _use(self, name: str, shares: tuple[Hashable, ...], behind: bool, line: Line | None) -> None:
        async with self.gate.hold(*shares, behind=behind, line=line):
            self.inside.append(name)
            await self.leave[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_are_given_in_the_order_of_asking_and_never_too_many() -> None:
    users = Users(Gate(FairQueue(2)))
    await users.enter("a1", "a2", "a3", "a4")
    assert users.inside == ["a1", "a2"]
    await users.go("a2", "a1")
    assert users.inside == ["a1", "a2", "a3", "a4"]


async def test_who_waits_behind_comes_when_nobody_else_does() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a")
    await users.enter("prefetch", behind=True)
    await users.enter("b")
    await users.go("a")
    assert users.inside == ["a", "b"]
    await users.go("b")
    assert users.inside == ["a", "b", "prefetch"]


async def test_a_cancelled_waiter_leaves_its_turn_to_the_next() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a1", "a2", "a3")
    await users.cancel("a2")
    assert users.gate.waiting == 1
    await users.go("a1")
    assert users.inside == ["a1", "a3"]


async def test_a_slot_given_in_the_moment_of_cancellation_is_not_lost() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a1", "a2", "a3")
    users.leave["a1"].set()
    await asyncio.sleep(0)
    users.tasks["a2"].cancel()
    await settle()
    assert users.inside == ["a1", "a3"]


async def test_a_cancelled_user_gives_its_slot_back() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a", "b")
    await users.cancel("a")
    assert users.inside == ["a", "b"]


async def test_refusing_ends_all_who_wait_and_nobody_else() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a", "b", "c")
    users.gate.refuse(lambda: RuntimeError("no"))
    await settle()
    for name in "bc":
        with pytest.raises(RuntimeError, match="no"):
            await users.tasks[name]
    await users.go("a")
    await users.tasks["a"]
    await users.enter("d")
    assert users.inside == ["a", "d"]
    assert users.gate.waiting == 0


# Shares


async def test_the_share_that_holds_the_fewest_comes_first() -> None:
    users = Users(Gate(FairQueue(2)))
    await users.enter("a1", "a2", "a3", "a4", "b1")
    await users.go("a1")
    assert users.inside == ["a1", "a2", "b1"]
    await users.go("a2")
    assert users.inside == ["a1", "a2", "b1", "a3"]


async def test_shares_that_hold_as_few_take_turns() -> None:
    users = Users(Gate(FairQueue(1)))
    await users.enter("a1", "a2", "a3", "b1", "c1", "b2")
    for name in ("a1", "a2", "b1", "c1", "a3"):
        await users.go(name)
    assert users.inside == ["a1", "a2", "b1", "c1", "a3", "b2"]


async def test_a_share_leaves_slots_free_for_others() -> None:
    users = Users(Gate(FairQueue(8, thresholds(1.5))))
    await users.enter(*(f"a{number}" for number in range(8)))
    assert len(users.inside) == 5, "a sixth is for whoever holds fewer than 1.5 times the three that are free"
    await users.enter("b1", "b2", "b3")
    assert users.inside[5:] == ["b1", "b2"], "the last one is for a third"
    await users.enter("c1")
    assert users.inside[7:] == ["c1"]
    await users.go("b1")
    assert users.inside[8:] == ["b3"], "b holds one, and one is free"
    await users.go("b2")
    assert users.inside[9:] == [], "b waits for none, and a holds more than its share"
    await users.enter("d1")
    assert users.inside[9:] == ["d1"]


async def test_shares_have_shares() -> None:
    """A client with two images: the second one does not wait for all of the first, nor another client for both."""
    users = Users(Gate(FairQueue(8, thresholds(6.0, 1.5))))
    for number in range(8):
        await users.enter(f"big{number}", shares=("me", "big"))
    assert len(users.inside) == 5
    for number in range(3):
        await users.enter(f"small{number}", shares=("me", "small"))
    assert users.inside[5:] == ["small0", "small1"], "the last one is for another client"
    await users.enter("other", shares=("you", "bigger"))
    assert users.inside[7:] == ["other"]


async def test_who_joins_a_wait_has_the_slot_that_is_left_for_others() -> None:
    users, line = Users(Gate(FairQueue(4, thresholds(1)))), Line()
    await users.enter("a1", "a2")  # and no third one while two are free
    await users.enter("a3", line=line)
    assert users.inside == ["a1", "a2"]
    line.join("d")
    await settle()
    assert users.inside == ["a1", "a2", "a3"]


@pytest.mark.parametrize("is_early", [True, False])
async def test_who_joins_a_wait_brings_the_turn_of_its_own_share(is_early: bool) -> None:
    users, line = Users(Gate(FairQueue(4, thresholds(1)))), Line()
    await users.enter("a1", "a2", "b1", "c1")
    if is_early:
        line.join("d")
    await users.enter("a3", line=line)
    if not is_early:
        line.join("d")
    await users.go("b1")
    assert users.inside[-1] == "a3"
    # It is d's slot now: d holds one, and a as many as before.
    await users.go("a1")
    await users.enter("d1")
    assert "d1" not in users.inside
    await users.go("a3")
    assert users.inside[-1] == "d1"


async def test_a_wait_that_was_joined_leaves_nothing_behind() -> None:
    for end in ("cancelled", "refused", "had"):
        users, line = Users(gate := Gate(FairQueue(1))), Line()
        await users.enter("a1")
        await users.enter("a2", line=line)
        for share in range(2 * MAX_JOINED):
            line.join(share)
        assert gate.waiting == 1
        if end == "cancelled":
            await users.cancel("a2")
        elif end == "refused":
            gate.refuse(QueueFull)
            await settle()
        else:
            await users.go("a1")
            assert users.inside == ["a1", "a2"]
        assert gate.waiting == 0
        await users.go("a1", "a2")
        await users.enter("b1")
        assert users.inside[-1] == "b1"
        await users.go("b1")
        await asyncio.gather(*users.tasks.values(), return_exceptions=True)


async def test_each_share_has_one_though_all_are_taken_where_that_is_guaranteed() -> None:
    users = Users(Gate(FairQueue(2, one_each)))
    await users.enter("a1", "a2", "a3", "b1", "b2", "c1")
    assert users.inside == ["a1", "a2", "b1", "c1"]
    await users.go("b1")
    assert users.inside[4:] == ["b2"]
    await users.go("a1", "a2")
    assert users.inside[5:] == ["a3"]


async def test_more_than_may_wait_are_refused_and_one_share_leaves_room_for_others() -> None:
    users = Users(Gate(FairQueue(1, places=8)))
    await users.enter(*(f"a{number}" for number in range(10)))
    assert users.gate.waiting == 4
    for number in range(5, 10):
        with pytest.raises(QueueFull):
            await users.tasks[f"a{number}"]
    await users.enter("b1", "b2", "b3", "c1", "d1")
    assert users.gate.waiting == 8
    with pytest.raises(QueueFull):
        await users.tasks["b3"]
    await users.enter("e1", "e2")
    assert not users.tasks["e1"].done(), "everybody may wait with one"
    with pytest.raises(QueueFull):
        await users.tasks["e2"]
    for name, task in users.tasks.items():
        if not task.done():
            users.leave[name].set()
    await asyncio.gather(*users.tasks.values(), return_exceptions=True)
    assert users.gate.waiting == 0


@dataclass
class User:
    """Who wants a slot, and whether it holds one."""

    client: str
    image: str
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    holds: bool = False

    async def use(self, gate: Gate, behind: bool) -> None:
        async with gate.hold(self.client, self.image, behind=behind):
            self.holds = True
            await self.leave.wait()


class GateMachine(RuleBasedStateMachine):
    """Whatever comes and goes: the limit holds, and no slot is free while somebody waits who may have it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.slots = 4
        self.gate = Gate(FairQueue(self.slots, thresholds(3.0, 1.0)))
        self.users: dict[asyncio.Task[None], User] = {}

    @rule(client=st.sampled_from("xyz"), image=st.sampled_from("ab"), behind=st.booleans())
    def come(self, client: str, image: str, behind: bool) -> None:
        user = User(client, image)
        self.runner.run(settle())
        self.users[self.runner.get_loop().create_task(user.use(self.gate, behind))] = user
        self.runner.run(settle())

    @precondition(lambda machine: machine.users)
    @rule(which=st.integers(min_value=0, max_value=50), is_cancelled=st.booleans())
    def go(self, which: int, is_cancelled: bool) -> None:
        task = list(self.users)[which % len(self.users)]
        user = self.users.pop(task)
        if user.holds and not is_cancelled:
            user.leave.set()
        else:
            task.cancel()
        self.runner.run(settle())
        assert task.done()

    @invariant()
    def never_too_many(self) -> None:
        assert sum(user.holds for user in self.users.values()) <= self.slots

    @invariant()
    def a_newcomer_finds_one_while_one_is_free(self) -> None:
        if sum(user.holds for user in self.users.values()) < self.slots:
            clients = {user.client for user in self.users.values() if user.holds}
            images = {user.image for user in self.users.values() if user.holds}
            for user in self.users.values():
                assert user.holds or user.client in clients or user.image in images, "a free slot is for it"

    @invariant()
    def who_waits_is_counted(self) -> None:
        assert self.gate.waiting == sum(not user.holds for user in self.users.values())

    def teardown(self) -> None:
        for task in self.users:
            task.cancel()
        self.runner.run(settle())
        self.runner.close()


TestGateMachine = GateMachine.TestCase


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_everybody_gets_a_slot_in_the_end(order: list[str]) -> None:
    async def run() -> int:
        gate, done = Gate(FairQueue(2, thresholds(1.0))), 0

        async def use(share: str) -> None:
            nonlocal done
            async with gate.hold(share):
                await asyncio.sleep(0)
                done += 1

        await asyncio.gather(*(use(share) for share in order))
        return done

    assert asyncio.run(run()) == len(order)
