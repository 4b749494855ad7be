"""The life of a body: publishing and taking away, whatever fails, and what a crash in between leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.engine.bodies import Bodies, BodyStep, publication
from pullthrough.errors import DiskFull, StorageError
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.storage.bodies import GrowingKey
from tests.fakes.bodies import Memory, MemoryBodies, MemoryGrowing, MemoryGrowings
from tests.owners import OWNER

P = ParamSpec("P")
T = TypeVar("T")

BODY = b"a layer"
DIGEST = digest_of(BODY)
ERRORS = st.sampled_from([None, None, DiskFull("full"), StorageError("broken")])


@given(st.lists(ERRORS, min_size=6, max_size=6))
def test_a_body_is_withdrawn_unless_its_row_was_written_and_room_is_made_once(
    errors: list[StorageError | None],
) -> None:
    steps, taken, results = publication(), list[BodyStep](), list[tuple[BodyStep, StorageError | None]]()
    ended: StorageError | None = None
    try:
        step = next(steps)
        for result in errors:
            taken.append(step)
            results.append((step, result))
            step = steps.send(result)
    except StopIteration:
        assert results[-1] == (BodyStep.RECORD, None)
        assert BodyStep.WITHDRAW not in taken
    except StorageError as error:
        ended = error
    if ended is not None:
        assert taken[-1] is BodyStep.WITHDRAW
        assert ended is results[-2][1]
    assert taken.count(BodyStep.MAKE_ROOM) <= 1
    assert all(taken[index - 1] is BodyStep.PLACE for index, step in enumerate(taken) if step is BodyStep.RECORD)


@dataclass
class Rows:
    """As much of a catalog as a body's life needs."""

    known: set[Digest] = field(default_factory=set)

    @property
    def inventory(self) -> Rows:
        return self

    def unknown_blobs(self, digests: Collection[Digest]) -> list[Digest]:
        return [digest for digest in digests if digest not in self.known]

    def forget_blob(self, digest: Digest) -> None:
        self.known.discard(digest)

    def verify_blob(self, digest: Digest, boot_id: str) -> None:
        assert digest in self.known

    def adopt_blobs(self, found: Iterable[tuple[Digest, int, float]], *, verified_boot: str) -> None:
        self.known |= {digest for digest, _, _ in found}


class NoLock:
    def release(self) -> None: ...
    def __enter__(self) -> NoLock:
        return self

    def __exit__(self, *_: object) -> None: ...


class Locks:
    """Of one worker alone: `busy` names those that another one holds."""

    def __init__(self) -> None:
        self.busy: set[str] = set()

    def try_lock(self, key: str) -> NoLock | None:
        return None if key in self.busy else NoLock()

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[NoLock]:
        yield NoLock()


@dataclass
class Case:
    memory: Memory = field(default_factory=Memory)
    rows: Rows = field(default_factory=Rows)
    locks: Locks = field(default_factory=Locks)
    room_made: list[int] = field(default_factory=list)

    def bodies(self) -> Bodies:
        catalog: Any = self.rows
        locks: Any = self.locks
        return Bodies(
            MemoryBodies(self.memory), catalog, locks, run=at_once, run_slow=at_once, make_room=self.make_room
        )

    async def make_room(self, needed_bytes: int) -> None:
        self.room_made.append(needed_bytes)

    async def growing(self) -> MemoryGrowing:
        growing, _ = await MemoryGrowings(self.memory).open(GrowingKey(DIGEST, OWNER))
        growing.sink.write(memoryview(BODY), 0)
        return growing


async def at_once(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


async def test_a_body_is_published_and_its_row_names_the_boot() -> None:
    case, boots = Case(), list[str]()
    await case.bodies().publish(await case.growing(), DIGEST, boots.append)
    assert (boots, list(case.memory.blobs), case.memory.growing) == (["boot"], [DIGEST], {})


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_row_that_cannot_be_written_leaves_the_body_as_it_was_unless_it_was_there(is_known: bool) -> None:
    case = Case()
    if is_known:
        case.rows.known.add(DIGEST)

    def record(_: str) -> None:
        raise StorageError("broken")

    with pytest.raises(StorageError, match="broken"):
        await case.bodies().publish(await case.growing(), DIGEST, record)
    assert (DIGEST in case.memory.blobs) is is_known
    assert (GrowingKey(DIGEST, OWNER) in case.memory.growing) is not is_known


async def test_a_full_catalog_gets_room_once() -> None:
    case, tries = Case(), list[str]()

    def record(boot_id: str) -> None:
        tries.append(boot_id)
        if len(tries) == 1:
            raise DiskFull("full")

    await case.bodies().publish(await case.growing(), DIGEST, record)
    assert (len(tries), len(case.room_made)) == (2, 1)


async def test_what_is_damaged_goes_unless_somebody_has_published_it_anew() -> None:
    case = Case()
    await case.bodies().publish(await case.growing(), DIGEST, lambda _: case.rows.known.add(DIGEST))
    assert await case.bodies().prove(DIGEST)
    case.memory.blobs[DIGEST].data[0] ^= 1
    assert not await case.bodies().prove(DIGEST)
    assert (case.memory.blobs, case.rows.known) == ({}, set())


async def test_what_is_collected_is_what_no_row_knows_and_nobody_is_publishing() -> None:
    case = Case()
    await case.bodies().publish(await case.growing(), DIGEST, lambda _: case.rows.known.add(DIGEST))
    assert await case.bodies().collect([DIGEST]) == {DIGEST: 0}
    case.rows.known.clear()
    case.locks.busy.add(f"blob:{DIGEST}")
    assert await case.bodies().collect([DIGEST]) == {DIGEST: 0}
    case.locks.busy.clear()
    assert await case.bodies().collect([DIGEST]) == {DIGEST: len(BODY)}


async def test_a_crash_between_body_and_row_leaves_a_body_that_is_taken_up() -> None:
    case = Case()

    class Killed(BaseException):
        pass

    def record(_: str) -> None:
        raise Killed

    with pytest.raises(Killed):
        await case.bodies().publish(await case.growing(), DIGEST, record)
    again = case.bodies()
    assert [part async for part in again.unrecorded()] == [[DIGEST]]
    await again.adopt([DIGEST], is_proved=False)
    assert case.rows.known == {DIGEST}
    assert [part async for part in again.unrecorded()] == []
