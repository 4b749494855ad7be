"""Fills of two workers on one folder, without sockets: who leads, who follows, and who may read whose bytes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import AsyncExitStack

import pytest

from pullthrough.engine.pull.fills.course import HOLD_BACK_BYTES, LookAgain
from pullthrough.errors import DigestMismatch, DiskFull, StorageError, UpstreamUnavailable
from pullthrough.storage.bodies import State, Told
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.partials import Partial, Sidecar, is_led, look_at
from tests.owners import OWNER
from tests.unit.engine.house import (
    BODY,
    DIGEST,
    OTHER,
    FakeUpstream,
    House,
    body_of,
    end_of,
    fileno,
    own_niceness,
    target,
)
from tests.waiting import until


async def test_two_workers_make_one_transfer(house: House) -> None:
    opened = threading.Event()
    first, second = house.worker(FakeUpstream(open=opened)), house.worker(FakeUpstream(open=opened))
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: one.course.follows or two.course.follows)
    # A follower that sees nothing of the leader before the blob is published looks in the catalog again.
    house.catalog.may_publish.clear()
    opened.set()
    assert [await body_of(one), await body_of(two)] == [BODY, BODY]
    house.catalog.may_publish.set()
    assert len(first.upstream.starts) + len(second.upstream.starts) == 1
    await asyncio.gather(one.done, two.done)
    assert list(house.folder.fills_path.iterdir()) == []


async def test_a_fill_stands_behind_the_event_loop(house: House) -> None:
    worker, before = house.worker(), own_niceness()
    assert await body_of(worker.fills.join(target(), DIGEST, size_bytes=None)[0]) == BODY
    assert own_niceness() == before
    assert worker.upstream.niceness == [min(19, before + 7)]


async def test_a_reader_of_an_ended_fill_reads_on(house: House) -> None:
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await fill.done
    assert await body_of(fill) == BODY
    fill.detach()
    assert fileno(fill) == -1


async def test_a_reader_does_not_keep_the_lock_of_a_failed_fill(house: House) -> None:
    """A slow client of the old attempt must not keep the next one from leading."""
    worker = house.worker(FakeUpstream(most=200_000))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await fill.wait(0)
    fill.interrupt()
    worker.upstream.gate.set()
    with pytest.raises(UpstreamUnavailable):
        await end_of(fill)
    assert not is_led(house.partial)

    again = house.worker()
    next_fill, _ = again.fills.join(target(), DIGEST, size_bytes=None)
    assert await body_of(next_fill) == BODY
    assert again.upstream.starts == [200_000]
    fill.detach()


async def test_a_failure_of_an_earlier_attempt_is_not_believed(house: House) -> None:
    """Between a new leader's lock and its first word the file still has the last attempt's."""
    with Partial(house.partial) as leader:
        assert leader.try_lead()
        leader.write_sidecar(
            Sidecar(
                Told(OWNER, State.FAILED, error={"type": "UpstreamDenied", "message": "old"}, attempt="old"), "boot"
            )
        )
        worker = house.worker()
        fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
        await until(lambda: fill.course.follows)
        leader.write_sidecar(Sidecar(Told(OWNER, total_bytes=7, attempt="new"), "boot"))
        await until(lambda: fill.course.size_bytes == 7)
        assert not fill.done.done()
        leader.write_sidecar(
            Sidecar(Told(OWNER, State.FAILED, error={"type": "DiskFull", "message": "new"}, attempt="new"), "boot")
        )
        with pytest.raises(DiskFull, match="new"):
            await end_of(fill)


async def test_a_verified_sidecar_that_outlived_its_file_does_not_release_another_one(house: House) -> None:
    """File numbers are given out again; the size tells."""
    with Partial(house.partial) as leader:
        assert leader.try_lead()
        leader.write_sidecar(Sidecar(Told(OWNER, State.VERIFIED, len(BODY), attempt="old"), "boot"))
        worker = house.worker()
        fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
        await until(lambda: fill.course.follows)
        os.pwrite(leader.fd, BODY[:-1], 0)
        leader.write_sidecar(Sidecar(Told(OWNER, State.FILLING, len(BODY), attempt="new"), "boot"))
        await until(lambda: fill.course.arrived.end > 0)
        assert fill.course.visible_end(0) <= len(BODY) - 1 - HOLD_BACK_BYTES


async def test_a_follower_of_a_dead_leader_takes_over_where_it_was(house: House) -> None:
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY[:100_000], 0)
    leader.write_sidecar(Sidecar(Told(OWNER, attempt="a"), "boot"))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await until(lambda: fill.course.arrived.end == 100_000)
    leader.close()
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [100_000]


async def test_another_owner_has_a_fill_of_its_own_and_hangs_on_nobody(house: House) -> None:
    """The other's upstream sends what it likes, a byte a second."""
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, b"EVIL" * 50_000, 0)
    leader.write_sidecar(Sidecar(Told(OWNER, attempt="a"), "boot"))
    worker = house.worker()
    fill, begun = worker.fills.join(target("hub/other", OTHER), DIGEST, size_bytes=None)
    assert begun
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [0]
    await fill.done
    assert house.catalog.granted == {("hub/other", DIGEST)}
    assert house.partial.exists()
    leader.close()


async def test_of_two_owners_who_ends_first_is_kept_and_the_other_ends_as_well(house: House) -> None:
    opened = threading.Event()
    slow, fast = house.worker(FakeUpstream(open=opened)), house.worker()
    last, _ = slow.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: bool(slow.upstream.starts))
    first, _ = fast.fills.join(target("hub/other", OTHER), DIGEST, size_bytes=None)
    assert await body_of(first) == BODY
    await first.done
    opened.set()
    assert await body_of(last) == BODY
    await last.done
    assert house.catalog.granted == {("hub/app", DIGEST), ("hub/other", DIGEST)}
    assert BlobFiles(house.folder).size(DIGEST) == len(BODY)
    assert list(house.folder.fills_path.iterdir()) == []


async def test_another_name_of_the_same_owner_reads_along_and_may_read_it_after(house: House) -> None:
    opened = threading.Event()
    worker = house.worker(FakeUpstream(open=opened))
    fill, _ = worker.fills.join(target("hub/app"), DIGEST, size_bytes=None)
    same, begun = worker.fills.join(target("too/app"), DIGEST, size_bytes=None)
    assert (same, begun) == (fill, False)
    opened.set()
    assert await body_of(fill) == BODY
    await fill.done
    assert worker.upstream.starts == [0]
    assert house.catalog.granted == {("hub/app", DIGEST), ("too/app", DIGEST)}


@pytest.mark.parametrize("shows_certificate", [False, True])
async def test_what_a_client_certificate_opened_was_not_anybodys(house: House, shows_certificate: bool) -> None:
    worker = house.worker(FakeUpstream(shows_certificate=shows_certificate))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await fill.done
    assert house.catalog.asked_as_nobody == [not shows_certificate]


async def test_who_asks_with_another_secret_reads_nothing_along_whatever_name_is_in_it(house: House) -> None:
    opened = threading.Event()
    worker, other = house.worker(FakeUpstream(open=opened)), house.worker()
    mine, theirs = (target(f"{name}/app", secret=f"arn:{name}") for name in ("mine", "theirs"))
    fill, _ = worker.fills.join(mine, DIGEST, size_bytes=len(BODY))
    assert worker.fills.join(mine, DIGEST, size_bytes=None) == (fill, False)
    another, begun = worker.fills.join(theirs, DIGEST, size_bytes=None)
    assert begun
    await until(lambda: worker.upstream.starts == [0, 0])
    assert await other.fills.size_of(mine, DIGEST) == len(BODY)
    assert await other.fills.size_of(theirs, DIGEST) is await worker.fills.size_of(theirs, DIGEST) is None
    opened.set()
    await fill.done
    await another.done
    assert worker.upstream.starts == [0, 0]


@pytest.mark.parametrize("left", [None, (OWNER, "other boot"), (OTHER, "boot")])
async def test_leftovers_that_cannot_be_trusted_are_not_gone_on_with(
    house: House, left: tuple[str, str] | None
) -> None:
    with Partial(house.partial) as partial:
        partial.try_lead()
        os.pwrite(partial.fd, b"spoiled" * 1000, 0)
        if left:
            partial.write_sidecar(Sidecar(Told(left[0], attempt="a"), left[1]))
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    assert await body_of(fill) == BODY
    assert worker.upstream.starts == [0]


async def test_a_blob_that_another_worker_just_publishes_is_not_transferred_again(house: House) -> None:
    """The file is in the store, the row is not in the catalog yet, and the lock is still held."""
    store = BlobFiles(house.folder)
    leader = Partial(house.partial)
    leader.try_lead()
    os.pwrite(leader.fd, BODY, 0)
    store.publish(house.partial, DIGEST)
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    sidecar = house.partial.with_name(house.partial.name + ".json")
    await until(sidecar.exists)
    house.catalog.granted.add(("hub/app", DIGEST))
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)
    assert worker.upstream.starts == []
    assert list(house.folder.fills_path.iterdir()) == []


async def test_a_follower_is_done_only_when_the_catalog_knows_the_blob(house: House) -> None:
    """What waits for the end, to grant the blob to one more repository, finds its row."""
    opened = threading.Event()
    leading, following = house.worker(FakeUpstream(open=opened)), house.worker()
    house.catalog.may_publish.clear()
    leading.fills.join(target(), DIGEST, size_bytes=len(BODY))
    await until(lambda: bool(leading.upstream.starts))
    follower, _ = following.fills.join(target("too/app"), DIGEST, size_bytes=len(BODY))
    await until(lambda: follower.course.follows)
    opened.set()
    assert await body_of(follower) == BODY
    await until(lambda: BlobFiles(house.folder).size(DIGEST) is not None)
    done, _ = await asyncio.wait([follower.done], timeout=0.02)  # in which it looks a few times
    assert not done
    house.catalog.may_publish.set()
    await follower.done
    assert house.catalog.granted == {("hub/app", DIGEST), ("too/app", DIGEST)}


async def test_a_fill_that_is_published_before_anything_was_told_of_it_is_looked_up_again(house: House) -> None:
    """A small blob is filled between two looks."""
    leader = Partial(house.partial)
    leader.try_lead()
    worker = house.worker()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: fill.course.follows)
    os.pwrite(leader.fd, BODY, 0)
    BlobFiles(house.folder).publish(house.partial, DIGEST)
    house.catalog.granted.add(("hub/app", DIGEST))
    leader.close()
    with pytest.raises(LookAgain):
        await end_of(fill)


async def test_a_wrong_digest_reaches_readers_of_both_workers_and_leaves_nothing(house: House) -> None:
    opened = threading.Event()
    wrong = FakeUpstream(body=bytes(len(BODY)), open=opened)
    first, second = house.worker(wrong), house.worker(wrong)
    one, _ = first.fills.join(target(), DIGEST, size_bytes=None)
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: one.course.follows or two.course.follows)
    reading = [asyncio.ensure_future(body_of(fill)) for fill in (one, two)]
    await asyncio.sleep(0)
    opened.set()
    for reader in reading:
        with pytest.raises(DigestMismatch):
            await reader
    await until(lambda: not house.partial.exists())
    assert not BlobFiles(house.folder).path(DIGEST).exists()


async def test_a_body_stays_open_until_the_lead_is_given_up_though_its_last_reader_has_gone(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    worker = house.worker(FakeUpstream(body=bytes(len(BODY))))
    for _ in range(20):
        fill, begun = worker.fills.join(target(), DIGEST, size_bytes=None)
        with pytest.raises(DigestMismatch):
            await body_of(fill)
        assert begun, "what has ended is joined by nobody"
        await asyncio.wait((fill.done,))
        assert fileno(fill) == -1
    assert "Traceback" not in caplog.text


async def test_closing_waits_for_the_thread_that_writes_and_leaves_the_bytes(house: House) -> None:
    worker = house.worker(FakeUpstream(most=200_000))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await fill.wait(0)
    closing = asyncio.ensure_future(worker.tasks.close())
    await asyncio.sleep(0)
    worker.upstream.gate.set()
    await closing
    assert fileno(fill) == -1
    assert house.partial.read_bytes() == BODY[:200_000]
    told = json.loads(house.partial.with_name(house.partial.name + ".json").read_text())
    assert told["state"] == "filling"


async def test_a_fault_of_our_own_is_told_to_who_waits_and_leaves_nothing(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    worker = house.worker(FakeUpstream(fault=ZeroDivisionError("a fault")))
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    async with asyncio.timeout(60):
        with pytest.raises(StorageError, match="failed on our side"):
            await fill.wait(0)
        await asyncio.wait((fill.done,))
    assert "ZeroDivisionError: a fault" in caplog.text
    assert list(house.folder.fills_path.iterdir()) == []
    worker.upstream.fault = None
    assert await body_of(worker.fills.join(target(), DIGEST, size_bytes=None)[0]) == BODY


async def test_closing_leaves_no_file_of_a_fill_in_the_queue(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: fill.is_queued and bool(worker.upstream.queue))
    assert list(house.folder.fills_path.iterdir()) == []
    await worker.tasks.close()
    assert fileno(fill) == -1
    assert list(house.folder.fills_path.iterdir()) == []


async def test_closing_before_the_first_byte_leaves_nothing_and_a_follower_goes_on(house: House) -> None:
    opened = threading.Event()
    first, second = house.worker(FakeUpstream(open=opened)), house.worker()
    first.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: bool(first.upstream.starts))
    two, _ = second.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: two.course.follows)
    closing = asyncio.ensure_future(first.tasks.close())
    await asyncio.sleep(0)
    first.upstream.most = 0
    first.upstream.gate.set()
    opened.set()
    await closing
    assert await body_of(two) == BODY
    await two.done
    assert second.upstream.starts == [0]
    assert list(house.folder.fills_path.iterdir()) == []


async def test_what_is_being_filled_can_be_looked_at_from_outside(house: House) -> None:
    worker, other = house.worker(FakeUpstream(most=200_000)), house.worker()
    published = BlobFiles(house.folder).path(DIGEST)
    assert look_at(house.partial, published) is None
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    await fill.wait(0)
    told = look_at(house.partial, published)
    assert told is not None
    assert (told.owner, told.total_bytes) == (OWNER, len(BODY))
    assert await other.fills.size_of(target(), DIGEST) == await worker.fills.size_of(target(), DIGEST) == len(BODY)
    assert await other.fills.size_of(target("hub/app", OTHER), DIGEST) is None
    assert not house.partial.with_name("none").exists()


async def test_what_waits_in_the_queue_follows_when_another_worker_has_begun_it(house: House) -> None:
    busy, other = house.worker(), house.worker(FakeUpstream(most=200_000))
    busy.upstream.admits.clear()
    waiting, _ = busy.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: waiting.is_queued)
    other.fills.join(target(), DIGEST, size_bytes=None)
    await until(lambda: waiting.course.follows and waiting.course.visible_end(0) > 0)
    other.upstream.most = None
    other.upstream.gate.set()
    assert await body_of(waiting) == BODY
    assert busy.upstream.starts == []


async def test_what_nobody_waits_for_any_more_goes_behind_and_comes_ahead_again(house: House) -> None:
    worker = house.worker()
    worker.upstream.admits.clear()
    fill, _ = worker.fills.join(target(), DIGEST, size_bytes=None)
    fill.attach()
    await until(lambda: worker.upstream.queue == ["ahead"])
    fill.detach()
    await until(lambda: worker.upstream.queue == ["ahead", "behind"])
    fill.attach()
    await until(lambda: worker.upstream.queue == ["ahead", "behind", "ahead"])
    worker.upstream.admits.set()
    assert await body_of(fill) == BODY
    fill.detach()


async def test_a_turn_that_is_brought_along_is_given_back_at_the_end(house: House) -> None:
    worker = house.worker()
    given_back: list[str] = []
    admitted = AsyncExitStack()
    admitted.callback(given_back.append, "the turn")
    fill, begun = worker.fills.join(target(), DIGEST, size_bytes=None, admitted=admitted)
    assert begun
    assert await body_of(fill) == BODY
    await fill.done
    assert (worker.upstream.queue, given_back) == ([], ["the turn"])
