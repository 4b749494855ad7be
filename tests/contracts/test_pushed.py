"""What is pushed and deleted: who has what afterwards, what collection takes, and what eviction leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import select

from pullthrough.errors import (
    BlobUnknown,
    ImageArchived,
    ManifestBlobUnknown,
    ManifestUnknown,
    StillReferenced,
    TagImmutable,
)
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName, parse_repository_name, parse_tag
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.image_rows import delete_images
from pullthrough.storage.catalog.inventory import LOOSE_SECONDS
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.referrers import MAX_REFERRER_BYTES, Referrers
from pullthrough.storage.registry.repositories import Repositories, RepositorySettings
from pullthrough.storage.sql.schema import repository_manifests
from tests.contracts.images import Sample, image, index, sample
from tests.owners import OWNER

TEAM, OTHER = parse_repository_name("team/app"), parse_repository_name("team/other")
ONE, TWO = parse_tag("1"), parse_tag("2")
CONFIG, LAYER = b'{"config": 1}', b"layer"
IMAGE = image(CONFIG, [LAYER])
DAY = LOOSE_SECONDS


class Store:
    def __init__(self, path: Path) -> None:
        self.catalog = Catalog.open(path)
        self.pushed = Pushed(self.catalog.database)
        self.repositories = Repositories(self.catalog.database)

    def blob(self, body: bytes, repository: RepositoryName = TEAM, now: float = 1.0) -> Digest:
        digest = digest_of(body)
        self.pushed.publish_blob(repository, digest, len(body), boot_id="boot", now=now)
        return digest

    def put(self, what: Sample, tag: str = "", repository: RepositoryName = TEAM, now: float = 2.0) -> None:
        self.pushed.put_manifest(
            repository, what.digest, what.body, what.manifest, tag=parse_tag(tag) if tag else None, now=now
        )

    def push(self, tag: str = "1", repository: RepositoryName = TEAM) -> None:
        for body in (CONFIG, LAYER):
            self.blob(body, repository)
        self.put(IMAGE, tag, repository)

    def may_read(self, digest: Digest, repository: RepositoryName = TEAM) -> bool:
        record = self.catalog.blobs.find_blob(repository, None, digest)
        return record.published and record.granted

    def referrers(self, subject: Digest, types: Sequence[str] = ()) -> dict[str, dict[str, object]]:
        page = Referrers(self.catalog.database).page(TEAM, subject, types=types)
        assert not page.last
        return {each.descriptor["digest"]: each.descriptor for each in page.referrers}

    def collect(self, now: float) -> list[Digest]:
        return [blob.digest for blob in self.pushed.collect_blobs(loose_since=now - DAY, in_use=())]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "catalog.sqlite")
    yield opened
    opened.catalog.close()


def referring(subject: Digest, number: int = 0, **more: object) -> Sample:
    return sample(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": {"digest": digest_of(CONFIG), "size": len(CONFIG), "mediaType": "application/x.config"},
            "layers": [],
            "subject": {"digest": subject, "size": 1, "mediaType": media_types.OCI_MANIFEST},
            "annotations": {"number": str(number)},
            **more,
        }
    )


# Manifests


def test_a_manifest_is_taken_when_its_repository_has_all_of_it(store: Store) -> None:
    store.blob(CONFIG)
    store.blob(LAYER, OTHER)
    with pytest.raises(ManifestBlobUnknown, match="push the blobs first") as caught:
        store.put(IMAGE, "1")
    assert (caught.value.blobs, caught.value.manifests) == ((digest_of(LAYER),), ())
    assert store.catalog.manifests.find_tag(TEAM, None, ONE) is None
    store.blob(LAYER)
    store.put(IMAGE, "1")
    assert (tag := store.catalog.manifests.find_tag(TEAM, None, ONE))
    assert tag.manifest.body == IMAGE.body


def test_an_index_is_taken_when_its_repository_has_its_children(store: Store) -> None:
    store.push(repository=OTHER)
    with pytest.raises(ManifestBlobUnknown, match="push its manifests first") as caught:
        store.put(index([IMAGE]), "2")
    assert (caught.value.blobs, caught.value.manifests) == ((), (IMAGE.digest,))
    assert not Repositories(store.catalog.database).is_there(TEAM, None), "a refused push makes no repository"
    store.push()
    store.put(index([IMAGE]), "2")


def test_a_subject_and_a_layer_that_is_not_distributed_may_be_missing(store: Store) -> None:
    store.blob(CONFIG)
    elsewhere = {
        "digest": digest_of(b"elsewhere"),
        "size": 9,
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    }
    store.put(referring(digest_of(b"nowhere"), layers=[elsewhere]), "1")
    # Somebody else's blob does not become readable by being named like that.
    store.blob(b"elsewhere", OTHER)
    assert not store.pushed.grant_named(TEAM, digest_of(b"elsewhere"))
    assert not store.may_read(digest_of(b"elsewhere"))


def test_a_right_that_was_lost_with_a_damaged_file_comes_back_with_the_blob(store: Store) -> None:
    store.push()
    store.catalog.blobs.forget_blob(digest_of(LAYER))
    assert not store.pushed.grant_named(TEAM, digest_of(LAYER))
    store.blob(LAYER, OTHER)
    assert store.pushed.grant_named(TEAM, digest_of(LAYER))
    assert store.may_read(digest_of(LAYER))


def test_a_tag_moves_unless_its_repository_is_immutable(store: Store) -> None:
    store.push()
    second = image(CONFIG, [LAYER, LAYER + b"2"])
    store.blob(LAYER + b"2")
    for _ in range(2):
        store.put(second, "1")
        tag = store.catalog.manifests.find_tag(TEAM, None, ONE)
        assert tag is not None
        assert tag.manifest.digest == second.digest
    store.repositories.set_mutability(TEAM, "IMMUTABLE", ())
    with pytest.raises(TagImmutable, match=r"^The image tag '1' already exists in the 'team/app' repository"):
        store.put(IMAGE, "1")
    store.put(second, "1")
    store.put(IMAGE, "2")


def test_a_pushed_repository_stays_when_it_is_empty(store: Store) -> None:
    store.push()
    store.pushed.delete_manifest(TEAM, IMAGE.digest, now=3)
    store.collect(10 * DAY)
    assert Repositories(store.catalog.database).is_there(TEAM, None)


# Deletion


def test_deleting_takes_only_what_nothing_is_made_of(store: Store) -> None:
    store.push("1")
    listed = index([IMAGE])
    store.put(listed, "2")
    with pytest.raises(StillReferenced, match=f"the image team/app@{IMAGE.digest}: delete that first"):
        store.pushed.delete_blob(TEAM, digest_of(LAYER))
    with pytest.raises(StillReferenced, match=f"the index team/app@{listed.digest}: delete that first"):
        store.pushed.delete_manifest(TEAM, IMAGE.digest, now=3)
    assert store.pushed.delete_manifest(TEAM, listed.digest, now=3).tags == (TWO,)
    assert store.pushed.delete_manifest(TEAM, IMAGE.digest, now=3).tags == (ONE,)
    store.pushed.delete_blob(TEAM, digest_of(LAYER))
    for missing in (IMAGE.digest, listed.digest):
        with pytest.raises(ManifestUnknown):
            store.pushed.delete_manifest(TEAM, missing, now=3)
    with pytest.raises(BlobUnknown):
        store.pushed.delete_blob(TEAM, digest_of(LAYER))


def test_a_deleted_tag_leaves_its_manifest(store: Store) -> None:
    store.push("1")
    assert store.pushed.delete_tag(TEAM, ONE).digest == IMAGE.digest
    assert store.catalog.manifests.find_tag(TEAM, None, ONE) is None
    assert store.catalog.manifests.find_manifest(TEAM, None, IMAGE.digest)
    for repository in (TEAM, OTHER):
        with pytest.raises(ManifestUnknown):
            store.pushed.delete_tag(repository, ONE)


def test_what_one_repository_deletes_another_keeps(store: Store) -> None:
    store.push(repository=TEAM)
    store.push(repository=OTHER)
    store.pushed.delete_manifest(TEAM, IMAGE.digest, now=3)
    store.pushed.delete_blob(TEAM, digest_of(LAYER))
    assert store.catalog.manifests.find_manifest(OTHER, None, IMAGE.digest)
    assert store.may_read(digest_of(LAYER), OTHER)
    assert store.collect(10 * DAY) == []


# Referrers


def test_referrers_are_described_whether_or_not_their_subject_is_here(store: Store) -> None:
    store.blob(CONFIG)
    subject = digest_of(b"not here")
    first, second = referring(subject, 1), referring(subject, 2, artifactType="application/x.two")
    store.put(first)
    store.put(second, "2")
    store.blob(CONFIG, OTHER)
    store.put(referring(subject, 3), repository=OTHER)
    assert store.referrers(subject) == {
        first.digest: {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": first.digest,
            "size": len(first.body),
            "artifactType": "application/x.config",
            "annotations": {"number": "1"},
        },
        second.digest: {
            "mediaType": media_types.OCI_MANIFEST,
            "digest": second.digest,
            "size": len(second.body),
            "artifactType": "application/x.two",
            "annotations": {"number": "2"},
        },
    }
    assert list(store.referrers(subject, types=["application/x.two", "application/x.three"])) == [second.digest]
    assert store.referrers(first.digest) == {}
    assert Referrers(store.catalog.database).page(parse_repository_name("nobody/nothing"), subject).referrers == ()
    store.pushed.delete_manifest(TEAM, first.digest, now=3)
    assert list(store.referrers(subject)) == [second.digest]


def test_pages_of_referrers_are_all_of_them_once_however_many_or_large_they_are(store: Store) -> None:
    store.blob(CONFIG)
    subject = digest_of(b"not here")
    large = "x" * (MAX_REFERRER_BYTES // 3)
    made = [referring(subject, annotations={"number": str(number), "large": large}) for number in range(7)]
    for manifest in made:
        store.put(manifest)
    for most, sizes in ((2, [2, 2, 2, 1]), (7, [2, 2, 2, 1]), (1, [1] * 7)):
        pages: list[list[str]] = []
        after = ""
        while True:
            page = Referrers(store.catalog.database).page(TEAM, subject, after=after, most=most)
            pages.append([referrer.descriptor["digest"] for referrer in page.referrers])
            if not (after := page.last):
                break
        assert [len(page) for page in pages] == sizes
        assert [digest for page in pages for digest in page] == sorted(manifest.digest for manifest in made)


# Mounting


def test_a_mount_gives_what_the_other_repository_has(store: Store) -> None:
    digest = store.blob(LAYER, OTHER)
    assert store.pushed.holders(digest) == [OTHER]
    assert not store.pushed.mount_blob(TEAM, digest_of(CONFIG), source=OTHER, owner=None, now=1)
    assert not store.pushed.mount_blob(TEAM, digest, source=parse_repository_name("nobody/nothing"), owner=None, now=1)
    assert not Repositories(store.catalog.database).is_there(TEAM, None)
    assert store.pushed.mount_blob(TEAM, digest, source=OTHER, owner=None, now=1)
    assert store.may_read(digest)
    assert store.pushed.holders(digest) == [TEAM, OTHER]


# Collection


def test_a_blob_that_no_manifest_comes_to_name_is_collected_after_a_day(store: Store) -> None:
    store.push()
    loose = store.blob(b"loose", now=5.0)
    assert store.collect(5.0 + DAY - 1) == []
    assert store.may_read(loose)
    assert store.collect(5.0 + DAY) == [loose]
    assert not store.may_read(loose)
    assert store.may_read(digest_of(LAYER))


def test_the_blobs_of_a_deleted_image_are_collected_a_day_later(store: Store) -> None:
    store.push()
    store.blob(LAYER, OTHER, now=3 * DAY)
    store.pushed.delete_manifest(TEAM, IMAGE.digest, now=2 * DAY)
    assert store.collect(3 * DAY - 1) == []
    assert store.collect(3 * DAY) == [digest_of(CONFIG)], "the layer is another repository's as well"
    assert not store.may_read(digest_of(LAYER))
    assert store.may_read(digest_of(LAYER), OTHER)


def test_blobs_that_a_fill_brought_are_left_to_eviction(store: Store) -> None:
    hub = parse_repository_name("docker-hub/library/app")
    store.catalog.blobs.publish_blob(hub, OWNER, digest_of(LAYER), len(LAYER), boot_id="boot", now=1)
    assert store.collect(100 * DAY) == []
    store.catalog.manifests.save_manifest(hub, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=ONE, now=1)
    with store.catalog.database.reading() as connection:
        ids = list(connection.execute(repository_manifests.select()).scalars())
    store.catalog.database.write(delete_images, ids, now=2)
    assert store.collect(100 * DAY) == [digest_of(LAYER)], "somebody deleted its image"


def test_what_is_in_use_is_not_collected(store: Store) -> None:
    loose = store.blob(b"loose")
    assert store.pushed.collect_blobs(loose_since=5.0, in_use={loose}) == []


# Creation


def test_strict_registries_ask_whether_a_push_may_make_the_repository(store: Store) -> None:
    assert not store.pushed.may_create(TEAM)
    store.repositories.create(TEAM, RepositorySettings(), now=1)
    assert store.pushed.may_create(TEAM)


def test_what_is_pushed_again_comes_out_of_the_archive(store: Store) -> None:
    store.push()
    store.put(index([IMAGE]), "2")
    archived = repository_manifests.update().values(archived_at=5.0)
    store.catalog.database.write(lambda connection: connection.execute(archived))
    with pytest.raises(ImageArchived):
        store.catalog.manifests.find_tag(TEAM, None, TWO)
    store.put(index([IMAGE]), "2", now=6.0)
    assert store.catalog.manifests.find_tag(TEAM, None, TWO)
    assert store.catalog.manifests.find_manifest(TEAM, None, IMAGE.digest)
    with store.catalog.database.reading() as connection:
        assert set(connection.execute(select(repository_manifests.c.activated_at)).scalars()) == {6.0}
