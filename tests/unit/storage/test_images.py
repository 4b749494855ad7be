"""Images as the API sees them: pages, look-ups, deletion, the archive, and lifecycle decisions carried out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from pullthrough.errors import ImageArchived, RepositoryUnknown
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import Tag, parse_repository_name
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.catalog.records import Failure, ImageDetail, ImageId, ImageState
from pullthrough.storage.catalog.referrers import Referrers
from pullthrough.storage.registry.images import Deletion, Filter, Group, Images
from pullthrough.storage.registry.lifecycles import COMPLETE, IN_PROGRESS, Lifecycles, Preview, PreviewResult
from pullthrough.storage.registry.repositories import Repositories
from tests.contracts.images import Sample, image, index, sample
from tests.effort import examples
from tests.owners import OWNER

APP = parse_repository_name("acme/app")
OTHER = parse_repository_name("acme/other")
ALL = Filter(archived=None)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    yield catalog
    catalog.close()


@pytest.fixture
def images(catalog: Catalog) -> Images:
    return Images(catalog.database)


def numbered(number: int) -> Sample:
    return image(b"%d" % number, [b"layer"])


def referrer(subject: Sample, kind: str = "application/spdx+json") -> Sample:
    return sample(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": kind,
            "config": {"digest": digest_of(b"{}"), "size": 2, "mediaType": "application/vnd.oci.empty.v1+json"},
            "layers": [],
            "subject": {
                "digest": subject.digest,
                "size": len(subject.body),
                "mediaType": subject.manifest.media_type,
            },
        }
    )


def save(catalog: Catalog, what: Sample, *tags: str, now: float = 1, repository: str = APP) -> Sample:
    for tag in tags or (None,):
        catalog.manifests.save_manifest(
            parse_repository_name(repository),
            OWNER,
            what.digest,
            what.body,
            what.manifest,
            tag=None if tag is None else Tag(tag),
            now=now,
        )
    return what


def wish(what: Sample | None = None, tag: str | None = None) -> ImageId:
    return ImageId(what.digest if what else None, Tag(tag) if tag else None)


def digests(details: Sequence[ImageDetail]) -> set[Digest]:
    return {detail.digest for detail in details}


def everything(images: Images) -> list[ImageDetail]:
    return images.page(APP, ALL, after="", limit=1000)


def one(images: Images, image_id: ImageId) -> ImageDetail:
    (found,) = images.find(APP, [image_id])
    assert isinstance(found, ImageDetail)
    return found


def state(images: Images, what: Sample) -> ImageState:
    (found,) = [state for state in images.states(APP) if state.digest == what.digest]
    return found


# Pages


def test_an_image_is_described_as_it_was_stored(catalog: Catalog, images: Images) -> None:
    saved = save(catalog, image(b"config", [b"base", b"top"]), "v1", "latest", now=5)
    catalog.inventory.record_pulls({(APP, saved.digest): 9}, {})
    (found,) = everything(images)
    assert found == ImageDetail(
        image_id=found.image_id,
        digest=saved.digest,
        tags=(Tag("latest"), Tag("v1")),
        media_type=media_types.OCI_MANIFEST,
        artifact_type="application/vnd.oci.image.config.v1+json",
        size_bytes=len(b"config") + len(b"base") + len(b"top"),
        pushed_at=5,
        pulled_at=9,
        subject="",
        archived_at=None,
        activated_at=None,
    )


def test_an_index_is_as_large_as_its_largest_stored_child(catalog: Catalog, images: Images) -> None:
    small, large, absent = image(b"s", []), image(b"l", [b"x" * 50]), image(b"a", [b"x" * 500])
    both = save(catalog, index([small, large, absent]), "v1")
    assert one(images, wish(both)).size_bytes == 0
    save(catalog, small)
    save(catalog, large)
    assert one(images, wish(both)).size_bytes == 51


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_hold_every_image_once_and_only_those_of_the_repository(
    catalog: Catalog, images: Images, limit: int
) -> None:
    saved = {save(catalog, numbered(number), f"v{number}").digest for number in range(7)}
    save(catalog, numbered(99), "v99", repository=OTHER)
    seen: list[Digest] = []
    while part := images.page(APP, ALL, after=seen[-1] if seen else "", limit=limit):
        assert len(part) <= limit
        seen += [detail.digest for detail in part]
    assert seen == sorted(saved)


@given(counts=st.lists(st.integers(0, 3), max_size=6), limit=st.integers(1, 5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(20))
def test_pages_of_names_hold_each_tag_and_each_untagged_image_once(
    catalog: Catalog, images: Images, counts: list[int], limit: int
) -> None:
    repository = parse_repository_name(f"acme/example-{len(Repositories(catalog.database).names('', 1000))}")
    save(catalog, numbered(1001), repository=repository)  # so that there is one
    expected: list[tuple[Digest, str | None]] = [(numbered(1001).digest, None)]
    for number, count in enumerate(counts):
        names = [f"v{number}-{at}" for at in range(count)]
        digest = save(catalog, numbered(number), *names, repository=repository).digest
        expected += [(digest, name) for name in names] or [(digest, None)]
    after = ("", "")
    seen: list[tuple[Digest, Tag | None]] = []
    while part := images.names_page(repository, Filter(), after=after, limit=limit):
        seen += part
        after = (part[-1][0], part[-1][1] or "")
    assert seen == sorted(expected, key=lambda entry: (entry[0], entry[1] or ""))


def test_filters_choose_by_tag_and_by_archive(catalog: Catalog, images: Images) -> None:
    tagged, bare, gone = save(catalog, numbered(1), "v1"), save(catalog, numbered(2)), save(catalog, numbered(3))
    images.archive(APP, wish(gone), now=2)
    page = [
        digests(images.page(APP, wanted, after="", limit=10))
        for wanted in (Filter(), Filter(tagged=True), Filter(tagged=False), Filter(archived=True), ALL)
    ]
    assert page == [
        {tagged.digest, bare.digest},
        {tagged.digest},
        {bare.digest},
        {gone.digest},
        {tagged.digest, bare.digest, gone.digest},
    ]
    names = [
        images.names_page(APP, wanted, after=("", ""), limit=10)
        for wanted in (Filter(tagged=True), Filter(tagged=False), Filter(archived=True))
    ]
    assert names == [[(tagged.digest, Tag("v1"))], [(bare.digest, None)], [(gone.digest, None)]]


def test_a_repository_that_is_not_there_is_unknown(images: Images, catalog: Catalog) -> None:
    lifecycles = Lifecycles(catalog.database)
    asked: list[Callable[[], object]] = [
        lambda: images.page(APP, ALL, after="", limit=1),
        lambda: images.names_page(APP, ALL, after=("", ""), limit=1),
        lambda: images.find(APP, []),
        lambda: images.layers(APP, None, []),
        lambda: images.states(APP),
        lambda: images.delete(APP, [], now=1),
        lambda: images.archive(APP, wish(tag="a"), now=1),
        lambda: images.restore(APP, wish(tag="a"), now=1),
        lambda: images.carry_out(APP, [], now=1),
        lambda: lifecycles.policy(APP),
        lambda: lifecycles.set_policy(APP, "{}"),
        lambda: lifecycles.begin_preview(APP, "{}"),
        lambda: lifecycles.preview(APP),
        lambda: lifecycles.preview_page(APP, tagged=None, after="", limit=1),
    ]
    for ask in asked:
        with pytest.raises(RepositoryUnknown):
            ask()


# By name


def test_images_are_found_by_digest_by_tag_and_by_both(catalog: Catalog, images: Images) -> None:
    first, second = save(catalog, numbered(1), "v1"), save(catalog, numbered(2), "v2")
    asked = [wish(first), wish(tag="v2"), wish(first, "v1"), wish(first, "v2"), wish(tag="v3"), wish(numbered(3))]
    found = images.find(APP, asked)
    assert [entry if isinstance(entry, Failure) else entry.digest for entry in found] == [
        first.digest,
        second.digest,
        first.digest,
        Failure.MISMATCH,
        Failure.NOT_FOUND,
        Failure.NOT_FOUND,
    ]


def test_layers_are_known_by_what_names_them_and_by_what_was_filled(catalog: Catalog, images: Images) -> None:
    save(catalog, image(b"config", [b"named"]), "v1")
    catalog.blobs.publish_blob(APP, OWNER, digest_of(b"loose"), 5, boot_id="", now=1)
    catalog.blobs.publish_blob(OTHER, OWNER, digest_of(b"other's"), 5, boot_id="", now=1)
    wanted = [digest_of(body) for body in (b"named", b"loose", b"other's", b"absent")]
    found = images.layers(APP, None, wanted)
    assert set(found) == set(wanted[:2])
    named, loose = found[wanted[0]], found[wanted[1]]
    assert (named.named, named.granted, named.size_bytes) == (True, False, 5)
    assert (loose.named, loose.granted, loose.size_bytes, loose.media_type) == (False, True, 5, "")


def test_a_layer_is_archived_when_all_its_images_are(catalog: Catalog, images: Images) -> None:
    first, second = save(catalog, numbered(1), "v1"), save(catalog, numbered(2), "v2")
    shared = digest_of(b"layer")
    images.archive(APP, wish(first), now=2)
    assert not images.layers(APP, None, [shared])[shared].archived
    images.archive(APP, wish(second), now=2)
    assert images.layers(APP, None, [shared])[shared].archived


# Deletion


def removed(deletions: Sequence[Deletion]) -> list[tuple[Failure | None, list[str | None]]]:
    return [(deletion.failure, [entry.tag for entry in deletion.removed]) for deletion in deletions]


def test_by_tag_the_image_goes_with_its_last_tag(catalog: Catalog, images: Images) -> None:
    saved = save(catalog, numbered(1), "a", "b")
    assert removed(images.delete(APP, [wish(tag="a")], now=2)) == [(None, ["a"])]
    assert one(images, wish(saved)).tags == ("b",)
    assert removed(images.delete(APP, [wish(saved, "b")], now=2)) == [(None, ["b"])]
    assert everything(images) == []


def test_by_digest_the_image_goes_with_all_its_tags(catalog: Catalog, images: Images) -> None:
    saved, bare = save(catalog, numbered(1), "a", "b"), save(catalog, numbered(2))
    assert removed(images.delete(APP, [wish(saved), wish(bare)], now=2)) == [(None, ["a", "b"]), (None, [None])]
    assert everything(images) == []
    assert catalog.manifests.find_manifest(APP, OWNER, saved.digest) is None
    assert Repositories(catalog.database).is_there(APP, OWNER)


def test_what_cannot_be_deleted_says_why_and_the_rest_goes(catalog: Catalog, images: Images) -> None:
    saved = save(catalog, numbered(1), "a")
    wishes = [wish(tag="none"), wish(numbered(9)), wish(numbered(9), "a"), wish(tag="a")]
    assert removed(images.delete(APP, wishes, now=2)) == [
        (Failure.NOT_FOUND, []),
        (Failure.NOT_FOUND, []),
        (Failure.MISMATCH, []),
        (None, ["a"]),
    ]
    assert saved.digest not in digests(everything(images))


def test_a_child_stays_while_its_index_does(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1))
    both = save(catalog, index([child]), "v1")
    (refused,) = images.delete(APP, [wish(child)], now=2)
    assert (refused.failure, refused.indexes) == (Failure.REFERENCED, (both.digest,))
    assert digests(everything(images)) == {child.digest, both.digest}


def test_a_child_and_its_index_go_together_in_whatever_order(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1))
    inner = save(catalog, index([child]))
    outer = save(catalog, index([inner]), "v1")
    assert removed(images.delete(APP, [wish(child), wish(inner), wish(outer)], now=2)) == [
        (None, [None]),
        (None, [None]),
        (None, ["v1"]),
    ]
    assert everything(images) == []


def test_the_last_tag_of_a_child_goes_without_the_child(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1), "v1-arm64")
    save(catalog, index([child]), "v1")
    assert removed(images.delete(APP, [wish(tag="v1-arm64")], now=2)) == [(None, ["v1-arm64"])]
    assert one(images, wish(child)).tags == ()


# The archive


def test_an_archived_image_is_not_pulled_until_it_is_restored(catalog: Catalog, images: Images) -> None:
    saved = save(catalog, numbered(1), "v1")
    archived = images.archive(APP, wish(tag="v1"), now=5)
    assert isinstance(archived, ImageDetail)
    assert archived.archived_at == 5
    for ask in (
        lambda: catalog.manifests.find_tag(APP, OWNER, Tag("v1")),
        lambda: catalog.manifests.find_manifest(APP, OWNER, saved.digest),
    ):
        with pytest.raises(ImageArchived):
            ask()
    restored = images.restore(APP, wish(saved), now=7)
    assert isinstance(restored, ImageDetail)
    assert (restored.archived_at, restored.activated_at) == (None, 7)
    assert catalog.manifests.find_tag(APP, OWNER, Tag("v1")) is not None


def test_tags_of_archived_images_are_not_listed_for_who_pulls(catalog: Catalog, images: Images) -> None:
    save(catalog, numbered(1), "kept")
    save(catalog, numbered(2), "v1", "v2")
    images.archive(APP, wish(tag="v1"), now=5)
    assert catalog.manifests.tags(APP, OWNER) == ["kept"]
    images.restore(APP, wish(tag="v1"), now=6)
    assert catalog.manifests.tags(APP, OWNER) == ["kept", "v1", "v2"]


def test_the_second_time_changes_nothing(catalog: Catalog, images: Images) -> None:
    save(catalog, numbered(1), "v1")
    first = images.archive(APP, wish(tag="v1"), now=5)
    assert images.archive(APP, wish(tag="v1"), now=6) == first
    back = images.restore(APP, wish(tag="v1"), now=7)
    assert images.restore(APP, wish(tag="v1"), now=8) == back


def test_an_index_is_archived_with_what_belongs_to_it_alone(catalog: Catalog, images: Images) -> None:
    mine, shared, tagged = save(catalog, numbered(1)), save(catalog, numbered(2)), save(catalog, numbered(3), "arm")
    both = save(catalog, index([mine, shared, tagged]), "v1")
    other = save(catalog, index([shared]), "v2")
    signature = save(catalog, referrer(mine))
    images.archive(APP, wish(both), now=5)
    archived = digests(images.page(APP, Filter(archived=True), after="", limit=10))
    assert archived == {both.digest, mine.digest, signature.digest}
    images.archive(APP, wish(other), now=6)
    images.restore(APP, wish(both), now=7)
    assert digests(images.page(APP, Filter(archived=True), after="", limit=10)) == {other.digest}


def test_the_child_of_an_active_index_is_not_archived_alone(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1))
    save(catalog, index([child]), "v1")
    assert images.archive(APP, wish(child), now=5) is Failure.REFERENCED
    assert images.archive(APP, wish(tag="none"), now=5) is Failure.NOT_FOUND
    assert images.restore(APP, wish(tag="none"), now=5) is Failure.NOT_FOUND


def test_a_fill_of_an_archived_image_leaves_it_there(catalog: Catalog, images: Images) -> None:
    saved = save(catalog, numbered(1), "v1")
    images.archive(APP, wish(saved), now=5)
    with pytest.raises(ImageArchived):
        save(catalog, numbered(1), "v2")
    assert one(images, wish(saved)).tags == ("v1", "v2")
    with pytest.raises(ImageArchived):
        catalog.manifests.find_tag(APP, OWNER, Tag("v2"))


def test_who_pushes_an_archived_image_again_restores_it(catalog: Catalog, images: Images) -> None:
    empty = image(b"{}", [])
    pushed = Pushed(catalog.database)
    pushed.publish_blob(APP, digest_of(b"{}"), 2, boot_id="", now=1)
    pushed.put_manifest(APP, empty.digest, empty.body, empty.manifest, tag=Tag("v1"), now=1)
    images.archive(APP, wish(empty), now=5)
    pushed.put_manifest(APP, empty.digest, empty.body, empty.manifest, tag=Tag("v2"), now=8)
    found = one(images, wish(empty))
    assert (found.archived_at, found.activated_at, found.tags) == (None, 8, ("v1", "v2"))


def test_archived_referrers_are_listed_apart(catalog: Catalog, images: Images) -> None:
    subject = save(catalog, numbered(1), "v1")
    active, old = save(catalog, referrer(subject)), save(catalog, referrer(subject, "application/old"))
    images.archive(APP, wish(old), now=5)
    listed = Referrers(catalog.database)
    found = {
        archived: [each.descriptor["digest"] for each in listed.page(APP, subject.digest, archived=archived).referrers]
        for archived in (False, True, None)
    }
    assert found == {False: [active.digest], True: [old.digest], None: sorted([active.digest, old.digest])}


# Lifecycle


def test_states_say_what_hangs_together(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1), now=3)
    both = save(catalog, index([child, numbered(2)]), "b", "a", now=4)
    signature = save(catalog, referrer(both), now=5)
    assert set(state(images, both).children) == {child.digest, numbered(2).digest}
    assert state(images, both).tags == ("a", "b")
    assert state(images, signature).subject == both.digest
    assert (state(images, child).pushed_at, state(images, child).children) == (3, ())


def test_groups_are_carried_out(catalog: Catalog, images: Images) -> None:
    child = save(catalog, numbered(1))
    both, old = save(catalog, index([child]), "v1"), save(catalog, numbered(2), "old")
    kept = save(catalog, numbered(3), "kept")
    groups = [
        Group(expired=(state(images, both), state(images, child))),
        Group(archived=(state(images, old),)),
    ]
    assert images.carry_out(APP, groups, now=9) == groups
    assert digests(images.page(APP, Filter(), after="", limit=10)) == {kept.digest}
    assert one(images, wish(old)).archived_at == 9


def _tag_again(catalog: Catalog, images: Images, what: Sample) -> None:
    save(catalog, what, "wanted")


def _name_in_an_index(catalog: Catalog, images: Images, what: Sample) -> None:
    save(catalog, index([what]), "new")


def _delete(catalog: Catalog, images: Images, what: Sample) -> None:
    images.delete(APP, [wish(what)], now=5)


@pytest.mark.parametrize("change", [_tag_again, _name_in_an_index, _delete])
@pytest.mark.parametrize("expires", [True, False], ids=["expire", "archive"])
def test_what_changed_since_it_was_judged_is_left_alone_with_its_group(
    catalog: Catalog, images: Images, change: Callable[[Catalog, Images, Sample], None], expires: bool
) -> None:
    first, second, third = (save(catalog, numbered(number), f"v{number}") for number in range(3))
    pair = (state(images, first), state(images, second))
    alone = (state(images, third),)
    groups = [Group(expired=pair) if expires else Group(archived=pair), Group(expired=alone)]
    change(catalog, images, first)
    assert images.carry_out(APP, groups, now=9) == groups[1:]
    left = {detail.digest: detail.archived_at for detail in everything(images)}
    assert left[second.digest] is None
    assert third.digest not in left


def test_what_came_out_of_the_archive_since_it_was_judged_is_left_alone(catalog: Catalog, images: Images) -> None:
    restored, again = save(catalog, numbered(1), "v1"), save(catalog, numbered(2), "v2")
    for what in (restored, again):
        images.archive(APP, wish(what), now=2)
    groups = [Group(expired=(state(images, what),)) for what in (restored, again)]
    for what in (restored, again):
        images.restore(APP, wish(what), now=3)
    images.archive(APP, wish(again), now=4)
    assert images.carry_out(APP, groups, now=9) == []
    assert digests(everything(images)) == {restored.digest, again.digest}


def test_policies_are_due_until_they_are_evaluated(catalog: Catalog) -> None:
    lifecycles = Lifecycles(catalog.database)
    save(catalog, numbered(1), "v1")
    save(catalog, numbered(1), "v1", repository=OTHER)
    assert lifecycles.due(100) == []
    assert lifecycles.set_policy(APP, "one").text is None
    assert lifecycles.due(0) == [(APP, "one")]
    lifecycles.note_evaluated(APP, 50)
    assert lifecycles.due(49) == []
    assert lifecycles.due(50) == [(APP, "one")]
    before = lifecycles.set_policy(APP, "one")
    assert (before.text, before.evaluated_at) == ("one", 50)
    assert lifecycles.due(49) == []
    lifecycles.set_policy(APP, "two")
    assert lifecycles.due(0) == [(APP, "two")]
    assert lifecycles.set_policy(APP, None).text == "two"
    assert lifecycles.policy(APP).text is None


def test_a_preview_replaces_the_one_before(catalog: Catalog) -> None:
    lifecycles = Lifecycles(catalog.database)
    save(catalog, numbered(1), "v1")
    assert lifecycles.preview(APP) is None
    lifecycles.begin_preview(APP, "policy")
    assert lifecycles.preview(APP) == Preview("policy", IN_PROGRESS, 0, 0)
    results = [PreviewResult(f"sha256:{n}", ("v",) * (n % 2), n, "EXPIRE", 1, False) for n in range(4)]
    lifecycles.end_preview(APP, Preview("policy", COMPLETE, 4, 0), results)
    assert lifecycles.preview(APP) == Preview("policy", COMPLETE, 4, 0)
    page = lifecycles.preview_page(APP, tagged=None, after="sha256:0", limit=2)
    assert page == results[1:3]
    assert lifecycles.preview_page(APP, tagged=True, after="", limit=9) == [results[1], results[3]]
    assert lifecycles.preview_page(APP, tagged=False, after="", limit=9) == [results[0], results[2]]
    assert lifecycles.preview_page(APP, tagged=None, after="", limit=9, digests=["sha256:3"]) == [results[3]]
    lifecycles.begin_preview(APP, "another")
    assert lifecycles.preview_page(APP, tagged=None, after="", limit=9) == []


# Speed

QUESTIONS: dict[str, Callable[[Images], object]] = {
    "page": lambda images: images.page(APP, Filter(), after="sha256:5", limit=10),
    "page of tagged": lambda images: images.page(APP, Filter(tagged=True), after="", limit=10),
    "page of names": lambda images: images.names_page(APP, Filter(tagged=False), after=("sha256:5", "a"), limit=10),
    "find": lambda images: images.find(APP, [wish(numbered(1)), wish(tag="v2")]),
    "layers": lambda images: images.layers(APP, None, [digest_of(b"layer")]),
    "states": lambda images: images.states(APP),
    "delete": lambda images: images.delete(APP, [wish(numbered(1)), wish(tag="v2")], now=2),
    "archive": lambda images: images.archive(APP, wish(index([numbered(1)])), now=2),
    "carry out": lambda images: images.carry_out(APP, [Group(expired=tuple(images.states(APP)))], now=2),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_reads_more_than_its_repository(catalog: Catalog, tmp_path: Path, name: str) -> None:
    for number in range(3):
        save(catalog, numbered(number), f"v{number}")
    save(catalog, index([numbered(1)]), "both")
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        asked.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    QUESTIONS[name](Images(catalog.database))
    event.remove(Engine, "before_cursor_execute", note)
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    for statement, parameters in asked:
        if not statement.startswith(("BEGIN", "PRAGMA")):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert not [step for step in plan if step.startswith("SCAN")], f"{statement}\n{plan}"
    connection.close()


def test_a_first_page_asks_the_same_of_a_large_repository(catalog: Catalog) -> None:
    """Steps of SQLite's machine: they do not depend on the machine that runs the test."""

    def steps(count: int) -> int:
        repository = parse_repository_name(f"acme/of-{count}")
        for number in range(count):
            save(catalog, numbered(number), f"v{number}", repository=repository)
        taken = 0

        def tick() -> int:
            nonlocal taken
            taken += 1
            return 0

        def watch(_c: object, cursor: Any, *_: object) -> None:
            cursor.connection.set_progress_handler(tick, 1)

        event.listen(Engine, "before_cursor_execute", watch)
        Images(catalog.database).page(repository, Filter(), after="", limit=11)
        event.remove(Engine, "before_cursor_execute", watch)
        return taken

    few, many = steps(20), steps(120)
    assert 0 < many < 1.2 * few
