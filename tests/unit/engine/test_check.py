from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pullthrough.engine.keep.check import CheckReport, StoreCheck, SweepReport, no_pause, sweep
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import parse_repository_name, parse_tag
from pullthrough.oci.owners import upstream_owner
from pullthrough.operations.check import CheckAnswer
from pullthrough.operations.json_form import to_json
from pullthrough.server.storage import Upkeep
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.inventory import LOOSE_SECONDS
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.files.blobs import BlobFiles
from pullthrough.storage.files.folder import DataFolder
from tests.contracts.images import image
from tests.owners import OWNER

NGINX = parse_repository_name("docker-hub/library/nginx")
LATEST = parse_tag("latest")
LAYER, CONFIG = b"layer" * 300_000, b'{"config": true}'
IMAGE = image(CONFIG, [LAYER])


class Store:
    """One image in one repository, and everything right."""

    def __init__(self, path: Path) -> None:
        self.folder = DataFolder.open(path, boot_id="boot")
        self.catalog = Catalog.open(self.folder.catalog_path)
        self.blobs = BlobFiles(self.folder)
        self.catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
        for body in (LAYER, CONFIG):
            self.put_file(body)
            self.catalog.blobs.publish_blob(NGINX, OWNER, digest_of(body), len(body), boot_id="boot", now=1)

    def put_file(self, body: bytes, digest: Digest | None = None) -> Digest:
        digest = digest or digest_of(body)
        partial = self.blobs.partial_path(digest, OWNER)
        partial.write_bytes(body)
        self.blobs.publish(partial, digest)
        return digest

    def check(self, *, repair: bool = False) -> CheckReport:
        # A day ahead, so that no file is too young to be judged.
        return self.run_check(repair=repair, clock=lambda: time.time() + 86_400)

    def run_check(
        self,
        *,
        repair: bool = False,
        clock: Callable[[], float] = time.time,
        pause: Callable[[], Awaitable[object]] = no_pause,
    ) -> CheckReport:
        upkeep = Upkeep(self.folder, self.catalog.blobs)
        return asyncio.run(
            StoreCheck(
                self.catalog.database,
                self.catalog.blobs,
                self.catalog.manifests,
                upkeep.store,
                upkeep.growing,
                upkeep.uploads,
                upkeep.bodies,
                run=upkeep.run,
                repair=repair,
                clock=clock,
                pause=pause,
            ).run()
        )

    def sweep(self) -> SweepReport:
        upkeep = Upkeep(self.folder, self.catalog.blobs)
        return asyncio.run(sweep(upkeep.bodies, upkeep.growing))

    def assert_repaired(self, kind: str, subject: str) -> None:
        """Report only, then repair, then nothing is left to report."""
        before = self.check()
        assert [(problem.kind, problem.subject, problem.repaired) for problem in before.problems] == [
            (kind, subject, False)
        ]
        assert (before.repaired, self.check().problems) == (0, before.problems)
        after = self.check(repair=True)
        assert [(problem.kind, problem.subject, problem.repaired) for problem in after.problems] == [
            (kind, subject, True)
        ]
        assert after.repaired == 1
        assert self.check().problems == ()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data")
    yield store
    store.catalog.close()
    store.folder.close()


def test_a_sound_store_has_no_problems_and_every_byte_is_read(store: Store) -> None:
    assert json.loads(json.dumps(to_json(CheckAnswer.of(store.check())))) == {
        "blobs": 2,
        "manifests": 1,
        "bytes": len(LAYER) + len(CONFIG) + len(IMAGE.body),
        "problems": [],
        "repaired": 0,
    }


def test_a_flipped_bit_is_found_and_the_blob_forgotten_so_that_it_is_filled_again(store: Store) -> None:
    path = store.blobs.path(digest_of(LAYER))
    content = bytearray(path.read_bytes())
    content[700_000] ^= 1
    path.write_bytes(content)
    store.assert_repaired("blob_digest", digest_of(LAYER))
    record = store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(LAYER))
    assert (record.published, record.granted, record.named) == (False, False, True)
    assert store.blobs.open(digest_of(LAYER)) is None
    assert store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(CONFIG)).granted


@pytest.mark.parametrize("length", [0, 1000, len(LAYER) - 1])
def test_a_cut_off_file_is_found(store: Store, length: int) -> None:
    os.truncate(store.blobs.path(digest_of(LAYER)), length)
    store.assert_repaired("blob_digest", digest_of(LAYER))


def test_a_row_without_a_file_is_forgotten(store: Store) -> None:
    store.blobs.remove(digest_of(LAYER))
    store.assert_repaired("blob_missing", digest_of(LAYER))
    assert not store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(LAYER)).published


def test_a_right_file_without_a_row_is_taken_up_and_readable_for_nobody_yet(store: Store) -> None:
    digest = store.put_file(b"unrecorded")
    store.assert_repaired("blob_unrecorded", digest)
    record = store.catalog.blobs.find_blob(NGINX, OWNER, digest)
    assert (record.published, record.granted, record.verified_boot) == (True, False, "boot")
    assert store.catalog.usage.blob_bytes() == len(LAYER) + len(CONFIG) + len(b"unrecorded")


def test_a_wrong_file_without_a_row_is_removed(store: Store) -> None:
    digest = store.put_file(b"not what it says", digest_of(b"something else"))
    store.assert_repaired("blob_digest", digest)
    assert store.blobs.open(digest) is None


def test_a_file_that_was_renamed_just_now_is_left_to_the_engine_that_did_it(store: Store) -> None:
    store.put_file(b"about to be recorded")
    assert store.run_check().problems == ()


def test_a_wrong_size_in_the_catalog_is_put_right(store: Store) -> None:
    store.catalog.blobs.publish_blob(NGINX, OWNER, digest_of(CONFIG), 99, boot_id="boot", now=1)
    store.assert_repaired("blob_size", digest_of(CONFIG))
    assert store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(CONFIG)).size_bytes == len(CONFIG)


def test_a_changed_manifest_is_forgotten_with_its_tags(store: Store) -> None:
    edit(store, "UPDATE manifests SET body = CAST(replace(body, '2', '3') AS BLOB)")
    store.assert_repaired("manifest_digest", IMAGE.digest)
    assert store.catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert store.catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is None
    assert store.catalog.manifests.save_manifest(
        NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=2
    )


def test_who_pushes_a_changed_manifest_again_need_not_push_its_blobs(store: Store) -> None:
    pushed = Pushed(store.catalog.database)
    team = parse_repository_name("team/app")
    for body in (LAYER, CONFIG):
        pushed.publish_blob(team, digest_of(body), len(body), boot_id="boot", now=1)
    pushed.put_manifest(team, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
    edit(store, "UPDATE manifests SET body = CAST(replace(body, '2', '3') AS BLOB)")
    now = time.time()
    assert store.check(repair=True).repaired == 1
    assert pushed.collect_blobs(loose_since=now - LOOSE_SECONDS, in_use=()) == []
    pushed.put_manifest(team, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=now)


def test_a_link_to_a_manifest_that_is_missing_is_removed(store: Store) -> None:
    edit(store, "DELETE FROM manifests")
    kinds = [problem.kind for problem in store.check(repair=True).problems]
    assert kinds == ["catalog", "manifest_missing"]
    assert store.check().problems == ()
    assert store.catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None


def test_a_damaged_catalog_is_reported_not_raised(store: Store) -> None:
    for number in range(100):
        store.catalog.answers.save_listing(NGINX, OWNER, f"kind {number}", bytes(8000), now=1)
    store.catalog.close()
    path = store.folder.catalog_path
    content = bytearray(path.read_bytes())
    for page in range(120, len(content) // 4096):  # behind the schema, which opening reads
        content[page * 4096 : page * 4096 + 100] = b"\xa5" * 100
    path.write_bytes(content)
    store.catalog = Catalog.open(path)
    report = store.check(repair=True)
    assert {(problem.kind, problem.repaired) for problem in report.problems} >= {("catalog", False)}


def test_what_no_fill_can_go_on_from_is_removed_and_what_one_can_is_kept(store: Store) -> None:
    resumable = store.blobs.partial_path(digest_of(b"resumable"), OWNER)
    # As versions before this one had them.
    done = store.folder.fills_path / resumable.name.partition("@")[0]
    proof = store.blobs.partial_path(digest_of(LAYER), upstream_owner("quay.io", "acme/other"))
    temporary = store.folder.fills_path / "x.new"
    for path in (resumable, done, proof):
        path.write_bytes(b"part")
        path.with_name(path.name + ".json").write_text("{}")
    temporary.write_bytes(b"123")
    assert store.check().problems == ()  # a running engine has such files
    report = store.check(repair=True)
    assert {(problem.kind, problem.subject) for problem in report.problems} == {
        ("leftover", str(done)),
        ("leftover", f"{done}.json"),
        ("leftover", str(temporary)),
    }
    assert set(store.blobs.partials()) == {resumable, proof}
    assert len(list(store.folder.fills_path.iterdir())) == 4


def test_a_foreign_file_is_named_and_left_alone(store: Store) -> None:
    path = store.folder.blobs_path / "notes.txt"
    path.write_text("mine")
    report = store.check(repair=True)
    assert [(problem.kind, problem.subject, problem.repaired) for problem in report.problems] == [
        ("foreign_file", str(path), False)
    ]
    assert path.exists()


def test_a_file_that_cannot_be_read_is_a_problem_of_its_own(store: Store) -> None:
    path = store.blobs.path(digest_of(LAYER))
    path.unlink()
    path.mkdir()  # reading a folder fails as a bad sector does: with an error
    report = store.check()
    assert [problem.kind for problem in report.problems] == ["blob_digest"]
    assert "cannot be read" in report.problems[0].detail


def test_a_check_can_be_stopped_within_a_body(store: Store) -> None:
    async def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.run_check(pause=stop)
    assert store.check().problems == ()


def test_a_start_takes_up_what_was_renamed_but_not_recorded_and_clears_leftovers(store: Store) -> None:
    digest = store.put_file(b"unrecorded")
    (store.folder.fills_path / "x.new").write_bytes(b"123")
    report = store.sweep()
    assert (report.adopted_blobs, report.removed_files, report.removed_bytes) == (1, 1, 3)
    record = store.catalog.blobs.find_blob(NGINX, OWNER, digest)
    assert (record.published, record.granted, record.verified_boot) == (True, False, "")
    assert store.check().problems == ()
    again = store.sweep()
    assert (again.adopted_blobs, again.removed_files) == (0, 0)


def test_after_the_catalog_is_lost_the_blobs_are_taken_up_again(store: Store) -> None:
    store.catalog.close()
    for path in store.folder.path.glob("catalog.sqlite*"):
        path.unlink()
    store.catalog = Catalog.open(store.folder.catalog_path)
    assert store.sweep().adopted_blobs == 2
    store.catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=2)
    record = store.catalog.blobs.find_blob(NGINX, OWNER, digest_of(LAYER))
    assert (record.published, record.named, record.granted) == (True, True, False)
    assert store.catalog.blobs.grant_blob(NGINX, OWNER, digest_of(LAYER))


def edit(store: Store, statement: str) -> None:
    """As a damaged file or another program would: past the catalog and its foreign keys."""
    connection = sqlite3.connect(store.folder.catalog_path)
    connection.execute(statement)
    connection.commit()
    connection.close()
