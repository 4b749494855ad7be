from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import DiskFull, FolderLocked
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.owners import Owner, upstream_owner
from pullthrough.storage.files.blobs import BlobFiles, partial_digest, writing
from pullthrough.storage.files.folder import DataFolder
from tests.owners import OWNER
from tests.waiting import no_sleep

BODY = b"a layer"
DIGEST = digest_of(BODY)


def publish(store: BlobFiles, body: bytes = BODY, algorithm: str = "sha256") -> Digest:
    digest = digest_of(body, algorithm)
    partial = store.partial_path(digest, OWNER)
    partial.write_bytes(body)
    store.publish(partial, digest)
    return digest


def read(store: BlobFiles, digest: Digest) -> bytes | None:
    descriptor = store.open(digest)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("body", [BODY, b""], ids=["some bytes", "no bytes"])
def test_a_published_blob_is_read_back_and_its_partial_file_is_gone(
    store: BlobFiles, body: bytes, algorithm: str
) -> None:
    digest = publish(store, body, algorithm)
    assert read(store, digest) == body
    assert store.size(digest) == len(body)
    assert store.path(digest).parts[-3:] == (algorithm, digest.hex[:2], digest.hex)
    assert list(store.partials()) == []


def test_a_partial_file_is_no_blob(store: BlobFiles) -> None:
    store.partial_path(DIGEST, OWNER).write_bytes(BODY)
    assert store.open(DIGEST) is None
    assert store.size(DIGEST) is None
    assert list(store.iterate()) == []


def test_publishing_again_replaces_and_leaves_readers_of_the_old_file_alone(store: BlobFiles) -> None:
    publish(store)
    old = store.open(DIGEST)
    assert old is not None
    publish(store)
    assert read(store, DIGEST) == BODY
    assert os.pread(old, 100, 0) == BODY
    os.close(old)


def test_a_removed_blob_stays_readable_for_who_has_it_open_and_can_be_published_again(store: BlobFiles) -> None:
    publish(store)
    descriptor = store.open(DIGEST)
    assert descriptor is not None
    assert store.remove(DIGEST) == len(BODY)
    assert store.remove(DIGEST) == 0
    assert store.open(DIGEST) is None
    assert os.pread(descriptor, 100, 0) == BODY
    os.close(descriptor)
    publish(store)
    assert read(store, DIGEST) == BODY


def test_iterate_gives_every_blob_and_nothing_else(store: BlobFiles, folder: DataFolder) -> None:
    digests = {publish(store, b"%d" % number): 1 for number in range(9)}
    stranger = folder.blobs_path / "sha256" / "ab" / "stranger"
    misplaced = folder.blobs_path / "sha256" / "zz" / DIGEST.hex
    for path in (stranger, misplaced):
        path.parent.mkdir(exist_ok=True)
        path.write_text("?")
    assert dict(store.iterate()) == digests
    assert set(store.foreign()) == {stranger, misplaced}


def test_descriptors_are_not_inherited(store: BlobFiles) -> None:
    publish(store)
    descriptor = store.open(DIGEST)
    assert descriptor is not None
    assert not os.get_inheritable(descriptor)
    os.close(descriptor)


def test_another_owner_or_secret_has_another_partial_file(store: BlobFiles) -> None:
    paths = {store.partial_path(DIGEST, upstream_owner("r.example", name, "joe")) for name in ("a", "b", "c")}
    paths |= {store.partial_path(DIGEST, upstream_owner("r.example", "a", "joe"), secret) for secret in ("s", "t")}
    assert len(paths) == 5
    assert {partial_digest(path) for path in paths} == {DIGEST}
    for path in paths:
        path.write_bytes(b"")
    assert set(store.partials()) == paths


@given(st.text(max_size=40))
def test_no_owner_leads_out_of_the_fills_folder(owner: str) -> None:
    store = BlobFiles(DataFolder(Path("/data"), "boot", None))
    assert store.partial_path(DIGEST, Owner(owner)).parent == Path("/data/fills")


def test_partial_bytes_count_everything_in_the_fills_folder(store: BlobFiles, folder: DataFolder) -> None:
    store.partial_path(DIGEST, OWNER).write_bytes(b"12345")
    (folder.fills_path / "temporary").write_bytes(b"123")
    assert store.partial_bytes() == 8


def test_leftovers_are_what_no_fill_can_go_on_from(store: BlobFiles, folder: DataFolder) -> None:
    def make(digest: Digest, body: bytes | None, sidecar: bool) -> Path:
        path = store.partial_path(digest, OWNER)
        if body is not None:
            path.write_bytes(body)
        if sidecar:
            path.with_name(path.name + ".json").write_text("{}")
        return path

    make(digest_of(b"resumable"), b"res", True)
    untold = make(digest_of(b"body without a sidecar"), b"body", False)
    empty = make(digest_of(b"empty body"), b"", True)
    bodiless = make(digest_of(b"sidecar without a body"), None, True)
    temporary = folder.fills_path / "whatever.new"
    temporary.write_text("")
    assert set(store.leftovers()) == {
        untold,
        empty,
        empty.with_name(empty.name + ".json"),
        bodiless.with_name(bodiless.name + ".json"),
        temporary,
    }


def test_a_partial_file_that_is_being_written_is_neither_abandoned_nor_removed(store: BlobFiles) -> None:
    partial = store.partial_path(DIGEST, OWNER)
    partial.write_bytes(b"123")
    os.utime(partial, (100, 100))
    assert list(store.abandoned(101)) == [(partial, 3, 100)]
    assert list(store.abandoned(100)) == []
    with partial.open() as writer:
        fcntl.flock(writer, fcntl.LOCK_EX)
        assert list(store.abandoned(101)) == []
        assert store.remove_partial(partial) is None
        assert partial.exists()


def test_removing_a_partial_file_takes_its_sidecar_with_it(store: BlobFiles, folder: DataFolder) -> None:
    partial = store.partial_path(DIGEST, OWNER)
    partial.write_bytes(b"123")
    partial.with_name(partial.name + ".json").write_text("{}")
    assert store.remove_partial(partial) == 3
    assert list(folder.fills_path.iterdir()) == []
    assert store.remove_partial(partial) is None


def test_the_disk_has_more_room_in_all_than_is_free(store: BlobFiles) -> None:
    disk = store.disk()
    assert 0 <= disk.free_bytes <= disk.total_bytes


def fill_up(path: Path) -> None:
    """Takes all room, for files and for their bytes."""
    for fill in (
        lambda number: (path / f"filler {number}").write_bytes(bytes(40_000)),
        lambda number: (path / f"empty {number}").touch(),
    ):
        with pytest.raises(OSError, match="No space"):
            for_each_until_it_fails(fill)


def for_each_until_it_fails(fill: Callable[[int], object]) -> None:
    for number in range(1000):
        fill(number)


def test_a_full_disk_publishes_nothing_and_works_again_once_there_is_room(small_disk: Path) -> None:
    with DataFolder.open(small_disk / "data") as folder:
        store = BlobFiles(folder)
        partial = store.partial_path(DIGEST, OWNER)
        partial.write_bytes(BODY)
        crowd = folder.path / "crowd"
        crowd.mkdir()
        fill_up(crowd)
        with pytest.raises(DiskFull, match="no room") as caught:
            store.publish(partial, DIGEST)
        assert caught.value.hint
        assert read(store, DIGEST) is None
        assert partial.read_bytes() == BODY
        for path in crowd.iterdir():
            path.unlink()
        store.publish(partial, DIGEST)
        assert read(store, DIGEST) == BODY


def test_an_engine_starts_on_a_full_disk(small_disk: Path) -> None:
    DataFolder.open(small_disk / "data").close()
    (small_disk / "data" / "lock").write_bytes(b"")
    fill_up(small_disk)
    with DataFolder.open(small_disk / "data"), pytest.raises(FolderLocked):
        DataFolder.open(small_disk / "data", sleep=no_sleep)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_and_a_full_quota_are_the_same_error(code: int) -> None:
    with pytest.raises(DiskFull), writing():
        raise OSError(code, os.strerror(code))


def test_other_errors_of_the_disk_stay_what_they_are() -> None:
    with pytest.raises(OSError, match="Input/output"), writing():
        raise OSError(errno.EIO, os.strerror(errno.EIO))
