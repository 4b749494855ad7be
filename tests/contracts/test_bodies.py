"""What every store of bodies promises (storage/bodies.py): published ones, those on their way in, and what clients push.

A store is made in a folder, for two workers at once. Tomorrow's second one is one more entry of `STORES`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from pullthrough.errors import UploadUnknown
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import BodyStore, GrowingKey, GrowingStore, Sight, State, Told, UploadStore
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.pushing import FileUploads
from pullthrough.storage.files.uploads import Uploads
from tests.fakes.bodies import Memory, MemoryBodies, MemoryGrowings, MemoryUploads
from tests.owners import OWNER

P = ParamSpec("P")
T = TypeVar("T")

BODY = bytes(range(256)) * 500
DIGEST = digest_of(BODY)
KEY = GrowingKey(DIGEST, OWNER)
TEAM, OTHER = RepositoryName("team/app"), RepositoryName("team/other")
FILLING = Told(OWNER, total_bytes=len(BODY), attempt="one")


@dataclass
class Worker:
    """One process's view."""

    bodies: BodyStore
    growing: GrowingStore
    uploads: UploadStore


@dataclass
class Store:
    first: Worker
    second: Worker
    #: Of everything that is stored: nothing is left behind.
    names: Callable[[], set[str]]


def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    return asyncio.get_running_loop().run_in_executor(None, partial(function, *args, **kwargs))


async def of_files(path: Path) -> AsyncIterator[Store]:
    with DataFolder.open(path / "data", boot_id="boot") as folder:
        empty = set(folder.path.rglob("*"))

        def worker() -> Worker:
            files = BlobFiles(folder)
            uploads = FileUploads(Uploads(folder.uploads_path), files, run, run)
            return Worker(FileBodies(files, run), GrowingFiles(files, run), uploads)

        def names() -> set[str]:
            return {str(found) for found in folder.path.rglob("*") if found not in empty and found.is_file()}

        yield Store(worker(), worker(), names)


async def of_memory(path: Path) -> AsyncIterator[Store]:
    memory = Memory()

    def worker() -> Worker:
        return Worker(MemoryBodies(memory), MemoryGrowings(memory), MemoryUploads(memory))

    yield Store(worker(), worker(), memory.names)


STORES = {"files": of_files, "memory": of_memory}


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async for made in request.param(tmp_path):
        yield made


async def grow(worker: Worker, body: bytes = BODY, key: GrowingKey = KEY) -> tuple[Digest, Sight]:
    """A whole body on its way in, led by this worker and published."""
    growing, sight = await worker.growing.open(key)
    write(growing.sink.write, body)
    await growing.publish(key.digest)
    await growing.release()
    growing.close()
    return key.digest, sight


def write(take: Callable[[memoryview, int], int], body: bytes, position: int = 0) -> None:
    view = memoryview(body)
    while view:
        count = take(view, position)
        view, position = view[count:], position + count


# --- published bodies -------------------------------------------------------------------------------------------------


async def test_what_is_not_here_is_none_and_costs_nothing(store: Store) -> None:
    bodies = store.first.bodies
    assert await bodies.open(DIGEST) is None
    assert await bodies.find(DIGEST) is None
    assert await bodies.delete(DIGEST) == 0
    assert [part async for part in bodies.digests()] == []
    assert await bodies.strangers() == []
    assert store.names() == set()


@pytest.mark.parametrize(("start", "count"), [(0, len(BODY)), (0, 1), (1000, 70_000), (len(BODY) - 1, 1), (0, 0)])
async def test_a_published_body_is_read_by_range_in_every_worker(store: Store, start: int, count: int) -> None:
    await grow(store.first)
    for worker in (store.first, store.second):
        body = await worker.bodies.open(DIGEST)
        assert body is not None
        assert body.size_bytes == len(BODY)
        assert await body.read(start, count) == BODY[start : start + count]
        body.close()
        body.close()


async def test_a_range_past_the_end_gives_what_there_is(store: Store) -> None:
    await grow(store.first)
    body = await store.first.bodies.open(DIGEST)
    assert body is not None
    assert await body.read(len(BODY) - 10, 100) == BODY[-10:]
    assert await body.read(len(BODY), 100) == b""
    body.close()


async def test_a_deleted_body_stays_readable_for_who_has_it_open_and_leaves_nothing(store: Store) -> None:
    await grow(store.first)
    body = await store.second.bodies.open(DIGEST)
    assert body is not None
    assert await store.first.bodies.delete(DIGEST) == len(BODY)
    assert await store.second.bodies.open(DIGEST) is None
    assert await body.read(0, len(BODY)) == BODY
    body.close()
    assert store.names() == set()


async def test_all_bodies_are_listed_once_with_their_facts(store: Store) -> None:
    digests = set()
    for number in range(5):
        body = b"%d" % number * (number + 1)
        digests.add((await grow(store.first, body, GrowingKey(digest_of(body), OWNER)))[0])
    listed = [digest for part in [part async for part in store.second.bodies.digests()] for digest in part]
    assert sorted(listed) == sorted(digests)
    facts = await store.second.bodies.find(digest_of(b"0"))
    assert facts is not None
    assert facts.size_bytes == 1
    assert 0 < facts.written_at <= facts.placed_at


async def test_publishing_again_replaces_and_takes_nothing_from_readers(store: Store) -> None:
    await grow(store.first)
    old = await store.first.bodies.open(DIGEST)
    await grow(store.second)
    assert old is not None
    assert await old.read(0, len(BODY)) == BODY
    old.close()


async def test_there_is_more_space_in_all_than_is_free(store: Store) -> None:
    space = await store.first.bodies.space()
    assert 0 <= space.free_bytes <= space.total_bytes


# --- bodies on their way in -------------------------------------------------------------------------------------------


async def test_one_worker_leads_until_it_releases_and_the_other_sees_what_comes(store: Store) -> None:
    leader, sight = await store.first.growing.open(KEY)
    assert (sight.leads, sight.is_current, sight.is_published, sight.arrived, sight.told) == (
        True,
        True,
        False,
        Spans(),
        None,
    )
    await leader.tell(FILLING)
    write(leader.sink.write, BODY[:1000])
    follower, seen = await store.second.growing.open(KEY)
    assert (seen.leads, seen.told, seen.arrived, seen.is_sound) == (False, FILLING, Spans.of_first(1000), True)
    assert store.second.growing.is_led(KEY)
    assert await store.second.growing.peek(KEY) == FILLING
    write(leader.sink.write, BODY[1000:2000], 1000)
    assert follower.look().arrived == leader.sink.arrived() == Spans.of_first(2000)
    assert await follower.read(500, 1500) == BODY[500:2000]
    await leader.release()
    leader.close()
    assert not store.second.growing.is_led(KEY)
    assert (await follower.claim()).leads
    await follower.release()
    follower.close()


async def test_another_owner_or_secret_has_another_body(store: Store) -> None:
    one, _ = await store.first.growing.open(KEY)
    other, sight = await store.second.growing.open(GrowingKey(DIGEST, OWNER, "arn:secret"))
    assert sight.leads
    for growing in (one, other):
        await growing.release()
        growing.close()
    assert store.names() == set()


async def test_what_was_left_is_gone_on_from(store: Store) -> None:
    growing, _ = await store.first.growing.open(KEY)
    await growing.tell(FILLING)
    write(growing.sink.write, BODY[:5000])
    await growing.release()
    growing.close()
    again, sight = await store.second.growing.open(KEY)
    assert (sight.leads, sight.arrived, sight.is_sound, sight.told) == (True, Spans.of_first(5000), True, FILLING)
    view = memoryview(bytearray(5000))
    assert again.sink.read(view, 0) == 5000
    assert view == BODY[:5000]
    await again.release()
    again.close()


async def test_bytes_of_which_nothing_was_told_are_not_sound(store: Store) -> None:
    growing, _ = await store.first.growing.open(KEY)
    write(growing.sink.write, b"whose")
    assert not growing.look().is_sound
    await growing.release()
    growing.close()


async def test_beginning_again_keeps_the_lead_and_the_bytes_of_who_reads(store: Store) -> None:
    leader, _ = await store.first.growing.open(KEY)
    await leader.tell(FILLING)
    write(leader.sink.write, b"old bytes")
    reader, _ = await store.second.growing.open(KEY)
    await leader.restart()
    assert leader.look().arrived == Spans()
    assert await reader.read(0, 9) == b"old bytes"
    assert not reader.look().is_current
    late = await reader.reopen()
    assert (late.leads, late.is_current, late.told) == (False, True, None)
    for growing in (reader, leader):
        await growing.release()
        growing.close()


async def test_a_discarded_body_goes_and_what_was_told_stays_until_it_is_retracted(store: Store) -> None:
    leader, _ = await store.first.growing.open(KEY)
    await leader.tell(FILLING)
    write(leader.sink.write, b"wrong")
    follower, _ = await store.second.growing.open(KEY)
    failed = Told(OWNER, State.FAILED, error={"type": "DigestMismatch", "message": "wrong"}, attempt="one")
    await leader.tell(failed)
    await leader.discard()
    seen = follower.look()
    assert (seen.is_current, seen.told) == (False, failed)
    await leader.retract("another")
    assert follower.look().told == failed
    await leader.retract("one")
    assert follower.look().told is None
    for growing in (leader, follower):
        await growing.release()
        growing.close()
    assert store.names() == set()


async def test_a_body_without_a_byte_goes_with_its_leader(store: Store) -> None:
    growing, _ = await store.first.growing.open(KEY)
    await growing.tell(FILLING)
    await growing.release()
    growing.close()
    assert store.names() == set()


async def test_publishing_is_seen_by_followers_and_can_be_done_again_and_undone(store: Store) -> None:
    leader, _ = await store.first.growing.open(KEY)
    await leader.tell(FILLING)
    write(leader.sink.write, BODY)
    follower, _ = await store.second.growing.open(KEY)
    await leader.publish(DIGEST)
    await leader.publish(DIGEST)
    seen = follower.look()
    assert (seen.is_published, seen.is_current) == (True, False)
    assert follower.is_being_published()
    assert await store.second.growing.peek(KEY) == FILLING
    await leader.withdraw(DIGEST)
    assert await store.second.bodies.open(DIGEST) is None
    assert (follower.look().is_published, follower.look().is_current) == (False, True)
    await leader.publish(DIGEST)
    await leader.release()
    assert not follower.is_being_published()
    assert await follower.read(0, len(BODY)) == BODY
    for growing in (leader, follower):
        growing.close()


async def test_abandoned_bodies_are_listed_and_removed_but_not_one_that_is_led(store: Store) -> None:
    growing, _ = await store.first.growing.open(KEY)
    await growing.tell(FILLING)
    write(growing.sink.write, BODY[:7])
    assert await store.second.growing.abandoned(float("inf")) == []
    await growing.release()
    growing.close()
    (left,) = await store.second.growing.abandoned(float("inf"))
    assert (left.digest, left.size_bytes) == (DIGEST, 7)
    assert await store.second.growing.abandoned(left.written_at) == []
    assert await store.second.growing.taken_bytes() >= 7
    assert await store.second.growing.remove(left.name) == 7
    assert await store.second.growing.remove(left.name) is None
    assert store.names() == set()


async def test_what_nothing_can_go_on_from_is_removed_and_the_rest_stays(store: Store) -> None:
    growing, _ = await store.first.growing.open(KEY)
    await growing.tell(FILLING)
    write(growing.sink.write, BODY[:7])
    await growing.release()
    growing.close()
    untold, _ = await store.first.growing.open(GrowingKey(DIGEST, OWNER, "arn:other"))
    write(untold.sink.write, b"whose")
    await untold.release()
    untold.close()
    (removed,) = await store.first.growing.remove_useless()
    assert removed.size_bytes == 5
    assert len(await store.first.growing.abandoned(float("inf"))) == 1


# --- what clients push ------------------------------------------------------------------------------------------------


async def test_an_upload_grows_over_workers_and_is_published(store: Store) -> None:
    upload_id = await store.first.uploads.begin(TEAM)
    half = len(BODY) // 2
    for worker, part in ((store.first, BODY[:half]), (store.second, BODY[half:])):
        upload = await worker.uploads.try_open(TEAM, upload_id)
        assert upload is not None
        await upload.append(part)
        await upload.close()
    assert await store.first.uploads.size(TEAM, upload_id) == len(BODY)
    upload = await store.first.uploads.try_open(TEAM, upload_id)
    assert upload is not None
    assert await upload.digest("sha256") == DIGEST
    assert await upload.digest("sha512") == digest_of(BODY, "sha512")
    await upload.publish(DIGEST)
    await upload.withdraw(DIGEST)
    await upload.publish(DIGEST)
    await upload.publish(DIGEST)
    await upload.finished()
    await upload.close()
    assert len(store.names()) == 1
    body = await store.second.bodies.open(DIGEST)
    assert body is not None
    assert await body.read(0, len(BODY)) == BODY
    body.close()


async def test_an_upload_is_for_one_request_and_one_repository(store: Store) -> None:
    upload_id = await store.first.uploads.begin(TEAM)
    upload = await store.first.uploads.try_open(TEAM, upload_id)
    assert upload is not None
    assert await store.second.uploads.try_open(TEAM, upload_id) is None
    for repository, name in ((OTHER, upload_id), (TEAM, "no-such-upload")):
        with pytest.raises(UploadUnknown):
            await store.second.uploads.try_open(repository, name)
        with pytest.raises(UploadUnknown):
            await store.second.uploads.size(repository, name)
    await upload.close()


async def test_a_discarded_upload_leaves_nothing(store: Store) -> None:
    upload_id = await store.first.uploads.begin(TEAM)
    upload = await store.first.uploads.try_open(TEAM, upload_id)
    assert upload is not None
    await upload.append(b"some")
    await upload.discard()
    await upload.close()
    with pytest.raises(UploadUnknown):
        await store.second.uploads.size(TEAM, upload_id)
    assert store.names() == set()


async def test_stale_uploads_go_but_not_one_that_is_written(store: Store) -> None:
    upload_id = await store.first.uploads.begin(TEAM)
    upload = await store.first.uploads.try_open(TEAM, upload_id)
    assert upload is not None
    await upload.append(b"some")
    assert await store.second.uploads.remove_stale(float("inf")) == []
    await upload.close()
    assert await store.second.uploads.remove_stale(0.0) == []
    assert sum(thing.size_bytes for thing in await store.second.uploads.remove_stale(float("inf"))) >= 4
    assert store.names() == set()
