"""What every catalog backend promises."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import RepositoryName, Tag, parse_repository_name, parse_tag
from pullthrough.oci.owners import OWN, Owner, source_at, source_of, upstream_owner
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.claims import RepositoryOwned
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.registry.repositories import Repositories, RepositorySettings
from pullthrough.storage.sql import schema
from tests.contracts.conftest import Clock, OpenCatalog
from tests.contracts.images import CONFIG, LAYER, image, index, sample
from tests.effort import examples
from tests.owners import OWNER

NGINX = parse_repository_name("docker-hub/library/nginx")
OTHER = parse_repository_name("quay/acme/other")
LATEST = parse_tag("latest")
BASE, TOP, CONFIGURATION = b"base layer", b"top layer", b'{"config": true}'
IMAGE = image(CONFIGURATION, [BASE, TOP])
SECOND = image(b'{"second": true}', [BASE])


def save(
    catalog: Catalog,
    what: object = IMAGE,
    *,
    repository: RepositoryName = NGINX,
    tag: Tag | None = LATEST,
    now: float = 1,
) -> bool:
    assert isinstance(what, type(IMAGE))
    return catalog.manifests.save_manifest(repository, OWNER, what.digest, what.body, what.manifest, tag=tag, now=now)


def publish(catalog: Catalog, body: bytes, *, repository: RepositoryName = NGINX, now: float = 1) -> Digest:
    digest = digest_of(body)
    catalog.blobs.publish_blob(repository, OWNER, digest, len(body), boot_id="boot", now=now)
    return digest


# Manifests and tags


def test_a_tag_gives_the_bytes_the_media_type_and_the_digest_that_were_saved(catalog: Catalog) -> None:
    save(catalog, now=5)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.manifest.body, found.manifest.digest) == (IMAGE.body, digest_of(IMAGE.body))
    assert found.manifest.media_type == IMAGE.manifest.media_type
    assert (found.tag, found.validated_at, found.forced_at, found.gone_at) == (LATEST, 5, 0, None)


def test_what_a_tag_gives_its_digest_gives_too(catalog: Catalog) -> None:
    save(catalog)
    by_tag = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert by_tag is not None
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) == by_tag.manifest


def test_a_manifest_saved_by_digest_alone_has_no_tag(catalog: Catalog) -> None:
    assert save(catalog, tag=None) is False
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is not None
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert catalog.usage.totals().tags == 0


def test_an_index_is_found_though_none_of_its_children_is_stored(catalog: Catalog) -> None:
    both = index([IMAGE, SECOND])
    save(catalog, both)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.manifest.digest, found.manifest.body) == (both.digest, both.body)
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is None


def test_an_index_that_lists_one_child_twice_is_stored(catalog: Catalog) -> None:
    save(catalog, index([IMAGE, IMAGE]))
    save(catalog, IMAGE, tag=None)
    assert len(catalog.inventory.families()) == 1


def test_an_artifact_whose_config_is_its_layer_too_is_stored(catalog: Catalog) -> None:
    save(catalog, image(b"{}", [b"{}", b"signature"]))
    assert catalog.blobs.find_blob(NGINX, OWNER, digest_of(b"{}")).kind == "config"


def test_a_manifest_of_one_repository_is_not_found_in_another(catalog: Catalog) -> None:
    save(catalog)
    assert catalog.manifests.find_manifest(OTHER, OWNER, IMAGE.digest) is None
    assert catalog.manifests.find_tag(OTHER, OWNER, LATEST) is None


def test_one_body_is_stored_once_for_all_repositories(catalog: Catalog) -> None:
    save(catalog)
    save(catalog, repository=OTHER)
    assert (catalog.usage.totals().manifests, catalog.usage.totals().tags) == (1, 2)


def test_a_media_type_from_one_upstream_does_not_change_what_another_repository_serves(catalog: Catalog) -> None:
    document: dict[str, object] = {"schemaVersion": 2, "layers": []}
    as_oci = sample(document, "application/vnd.oci.image.manifest.v1+json")
    as_docker = sample(document, "application/vnd.docker.distribution.manifest.v2+json")
    assert as_oci.digest == as_docker.digest
    save(catalog, as_oci)
    save(catalog, as_docker, repository=OTHER)
    found = catalog.manifests.find_manifest(NGINX, OWNER, as_oci.digest)
    assert found is not None
    assert found.media_type == "application/vnd.oci.image.manifest.v1+json"


def test_saving_says_whether_the_tag_moved(catalog: Catalog) -> None:
    assert save(catalog, IMAGE) is True
    assert save(catalog, IMAGE) is False
    assert save(catalog, SECOND) is True


def test_a_moved_tag_gives_the_new_manifest_and_the_old_one_stays_by_digest(catalog: Catalog) -> None:
    save(catalog, IMAGE)
    save(catalog, SECOND)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert found.manifest.digest == SECOND.digest
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is not None


def test_validating_a_tag_moves_its_time_and_takes_the_mark_of_being_gone_away(catalog: Catalog) -> None:
    save(catalog, now=1)
    catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=2, forced=False)
    catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=3, forced=False)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.validated_at, found.forced_at, found.gone_at) == (3, 0, None)


def test_a_forced_check_is_remembered_through_later_ones(catalog: Catalog) -> None:
    save(catalog, now=1)
    catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=2, forced=True)
    catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=3, forced=False)
    save(catalog, SECOND, now=4)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.validated_at, found.forced_at) == (4, 2)


def test_gone_keeps_the_time_of_the_first_such_answer_and_the_tag_is_still_served(catalog: Catalog) -> None:
    save(catalog, now=1)
    catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=2, forced=False)
    catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=3, forced=True)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.gone_at, found.validated_at, found.forced_at) == (2, 3, 3)
    assert found.manifest.body == IMAGE.body


def test_a_tag_that_comes_back_is_gone_no_more(catalog: Catalog) -> None:
    save(catalog)
    catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=2, forced=False)
    save(catalog)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert found.gone_at is None


def test_removing_a_tag_keeps_its_manifest(catalog: Catalog) -> None:
    save(catalog)
    catalog.manifests.remove_tag(NGINX, OWNER, LATEST)
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is not None


def test_changing_a_tag_that_is_not_there_makes_nothing(catalog: Catalog) -> None:
    catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=1, forced=True)
    catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=1, forced=True)
    catalog.manifests.remove_tag(NGINX, OWNER, LATEST)
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert not Repositories(catalog.database).is_there(NGINX, OWNER)


# Blobs


def test_an_unknown_blob_has_a_record_that_says_so(catalog: Catalog) -> None:
    record = catalog.blobs.find_blob(NGINX, OWNER, digest_of(b"never seen"))
    assert (record.published, record.granted, record.named, record.kind) == (False, False, False, "")
    assert (record.size_bytes, record.verified_boot) == (None, "")


def test_a_named_blob_has_the_size_and_kind_that_its_manifest_gives(catalog: Catalog) -> None:
    save(catalog)
    layer, config = (
        catalog.blobs.find_blob(NGINX, OWNER, digest_of(TOP)),
        catalog.blobs.find_blob(NGINX, OWNER, digest_of(CONFIGURATION)),
    )
    assert (layer.size_bytes, layer.kind, layer.named, layer.published) == (len(TOP), "layer", True, False)
    assert (config.size_bytes, config.kind, config.named) == (len(CONFIGURATION), "config", True)


def test_a_published_blob_is_granted_to_the_repository_it_was_filled_under_only(catalog: Catalog) -> None:
    save(catalog, repository=OTHER)
    digest = publish(catalog, TOP)
    mine, other = catalog.blobs.find_blob(NGINX, OWNER, digest), catalog.blobs.find_blob(OTHER, OWNER, digest)
    assert (mine.published, mine.granted, mine.named, mine.verified_boot) == (True, True, False, "boot")
    assert (other.published, other.granted, other.named) == (True, False, True)


def test_what_others_have_tells_a_repository_no_size(catalog: Catalog) -> None:
    digest = digest_of(TOP)
    catalog.blobs.publish_blob(NGINX, OWNER, digest, 300, boot_id="boot", now=1)
    assert catalog.blobs.find_blob(OTHER, OWNER, digest).size_bytes is None
    save(catalog, repository=OTHER)
    assert catalog.blobs.find_blob(OTHER, OWNER, digest).size_bytes == len(TOP), "as its own manifest says"
    catalog.blobs.grant_blob(OTHER, OWNER, digest)
    assert catalog.blobs.find_blob(OTHER, OWNER, digest).size_bytes == 300


def test_a_grant_lets_a_second_repository_read(catalog: Catalog) -> None:
    digest = publish(catalog, TOP)
    save(catalog, repository=OTHER)
    assert catalog.blobs.grant_blob(OTHER, OWNER, digest) is True
    assert catalog.blobs.find_blob(OTHER, OWNER, digest).granted


def test_a_grant_makes_no_repository(catalog: Catalog) -> None:
    """It may have been deleted while its upstream was asked."""
    digest = publish(catalog, TOP)
    assert catalog.blobs.grant_blob(OTHER, OWNER, digest) is False
    assert not Repositories(catalog.database).is_there(OTHER, OWNER)


def test_a_blob_whose_repository_was_deleted_meanwhile_belongs_to_none(catalog: Catalog) -> None:
    digest = digest_of(TOP)
    assert not catalog.blobs.find_blob(OTHER, OWNER, digest).repository_known
    catalog.blobs.publish_blob(OTHER, OWNER, digest, len(TOP), boot_id="boot", now=1, makes_repository=False)
    record = catalog.blobs.find_blob(OTHER, OWNER, digest)
    assert (record.published, record.granted, record.repository_known) == (True, False, False)
    assert not Repositories(catalog.database).is_there(OTHER, OWNER)
    save(catalog, repository=OTHER)
    catalog.blobs.publish_blob(OTHER, OWNER, digest, len(TOP), boot_id="boot", now=1, makes_repository=False)
    record = catalog.blobs.find_blob(OTHER, OWNER, digest)
    assert (record.granted, record.repository_known) == (True, True)


def test_a_blob_that_is_gone_cannot_be_granted(catalog: Catalog) -> None:
    assert catalog.blobs.grant_blob(OTHER, OWNER, digest_of(TOP)) is False
    assert not Repositories(catalog.database).is_there(OTHER, OWNER)


def test_a_forgotten_blob_is_neither_published_nor_granted_until_it_is_filled_again(catalog: Catalog) -> None:
    save(catalog)
    save(catalog, repository=OTHER)
    digest = publish(catalog, TOP)
    catalog.blobs.grant_blob(OTHER, OWNER, digest)
    catalog.blobs.forget_blob(digest)
    record = catalog.blobs.find_blob(NGINX, OWNER, digest)
    assert (record.published, record.granted, record.named) == (False, False, True)
    publish(catalog, TOP)
    assert catalog.blobs.find_blob(NGINX, OWNER, digest).granted
    assert not catalog.blobs.find_blob(OTHER, OWNER, digest).granted


def test_a_verified_blob_names_the_boot(catalog: Catalog) -> None:
    digest = publish(catalog, TOP)
    catalog.blobs.verify_blob(digest, "next boot")
    assert catalog.blobs.find_blob(NGINX, OWNER, digest).verified_boot == "next boot"


def test_an_empty_blob_and_a_sha512_one_are_kept(catalog: Catalog) -> None:
    empty, long = publish(catalog, b""), digest_of(b"long", "sha512")
    catalog.blobs.publish_blob(NGINX, OWNER, long, 4, boot_id="boot", now=1)
    assert catalog.blobs.find_blob(NGINX, OWNER, empty).size_bytes == 0
    assert catalog.blobs.find_blob(NGINX, OWNER, long).published


def test_stored_bytes_count_a_shared_blob_once(catalog: Catalog) -> None:
    digest = publish(catalog, TOP)
    publish(catalog, BASE, repository=OTHER)
    catalog.blobs.grant_blob(OTHER, OWNER, digest)
    assert catalog.usage.blob_bytes() == len(TOP) + len(BASE)
    assert catalog.usage.stored_bytes() == catalog.usage.blob_bytes() + catalog.usage.content_bytes()
    totals = catalog.usage.totals()
    assert (totals.blobs, totals.stored_bytes, totals.repositories) == (2, catalog.usage.stored_bytes(), 2)


# Whose it is

THEIRS = upstream_owner("other.example.com", "acme/app")
ANN = upstream_owner("registry.example.com", "acme/app", "ann")
ANNS_OTHER = upstream_owner("registry.example.com", "acme/other", "ann")
BOB = upstream_owner("registry.example.com", "acme/app", "bob@corp/x")


@pytest.mark.parametrize("other", [THEIRS, ANN, OWN])
def test_what_one_owner_stored_another_does_not_find(catalog: Catalog, other: Owner, clock: Clock) -> None:
    catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
    publish(catalog, TOP)
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[]", now=1)
    catalog.answers.save_negative(NGINX, OWNER, "2", clock() + 60)
    assert catalog.manifests.find_tag(NGINX, other, LATEST) is None
    assert catalog.manifests.find_manifest(NGINX, other, IMAGE.digest) is None
    found = catalog.blobs.find_blob(NGINX, other, digest_of(TOP))
    assert (found.granted, found.named, found.repository_known, found.size_bytes) == (False, False, False, None)
    assert catalog.blobs.siblings(NGINX, other, digest_of(TOP)) == ()
    assert catalog.answers.find_listing(NGINX, other, "tags") is None
    assert catalog.answers.find_listing_time(NGINX, other, "tags") is None
    assert catalog.answers.find_negative(NGINX, other, "2") is None
    assert catalog.manifests.tags(NGINX, other) == []
    assert not Repositories(catalog.database).is_there(NGINX, other)
    assert not catalog.blobs.grant_blob(NGINX, other, digest_of(TOP))
    assert catalog.manifests.find_tag(NGINX, None, LATEST) == catalog.manifests.find_tag(NGINX, OWNER, LATEST)


def test_a_manifest_of_another_owner_takes_the_place_of_all_that_was_there(catalog: Catalog, clock: Clock) -> None:
    catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
    publish(catalog, TOP)
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[]", now=1)
    catalog.answers.save_negative(NGINX, OWNER, "2", clock() + 60)
    catalog.manifests.save_manifest(NGINX, THEIRS, SECOND.digest, SECOND.body, SECOND.manifest, tag=LATEST, now=2)
    tag = catalog.manifests.find_tag(NGINX, THEIRS, LATEST)
    assert tag is not None
    assert tag.manifest.digest == SECOND.digest
    for owner in (THEIRS, OWNER):
        assert catalog.manifests.find_manifest(NGINX, owner, IMAGE.digest) is None
        assert not catalog.blobs.find_blob(NGINX, owner, digest_of(TOP)).granted
        assert catalog.answers.find_listing(NGINX, owner, "tags") is None
        assert catalog.answers.find_negative(NGINX, owner, "2") is None
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert catalog.database.find_damage() == []


@pytest.mark.parametrize("owner", [THEIRS, ANN])
def test_a_blob_of_a_late_fill_does_not_take_a_repository_over(catalog: Catalog, owner: Owner) -> None:
    """Its rule leads elsewhere by now; only what somebody asks for by name does."""
    catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
    catalog.blobs.publish_blob(NGINX, owner, digest_of(TOP), len(TOP), boot_id="boot", now=2)
    assert not catalog.blobs.find_blob(NGINX, owner, digest_of(TOP)).granted
    assert not catalog.blobs.find_blob(NGINX, OWNER, digest_of(TOP)).granted
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is not None


def test_what_was_pushed_is_taken_over_by_nobody(catalog: Catalog) -> None:
    pushed = Pushed(catalog.database)
    pushed.publish_blob(NGINX, digest_of(TOP), len(TOP), boot_id="boot", now=1)
    with pytest.raises(RepositoryOwned):
        catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=2)
    catalog.blobs.publish_blob(NGINX, OWNER, digest_of(BASE), len(BASE), boot_id="boot", now=2)
    assert Repositories(catalog.database).find_owner(NGINX) == OWN
    assert catalog.manifests.find_manifest(NGINX, None, IMAGE.digest) is None
    assert not catalog.blobs.find_blob(NGINX, None, digest_of(BASE)).granted
    assert catalog.blobs.find_blob(NGINX, None, digest_of(TOP)).granted


def test_an_empty_repository_is_whose_content_comes_first(catalog: Catalog) -> None:
    repositories = Repositories(catalog.database)
    for name, owner in ((NGINX, OWNER), (OTHER, OWN)):
        repositories.create(name, RepositorySettings(), now=1)
        assert Repositories(catalog.database).find_owner(name) == ""
        assert not Repositories(catalog.database).is_there(name, OWNER)
        if owner is OWN:
            Pushed(catalog.database).publish_blob(name, digest_of(TOP), len(TOP), boot_id="boot", now=2)
        else:
            catalog.manifests.save_manifest(name, owner, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=2)
        assert Repositories(catalog.database).find_owner(name) == owner
    assert Repositories(catalog.database).find_owner(parse_repository_name("nobody/nothing")) is None


@pytest.mark.parametrize(
    ("fetched_by", "asker", "is_shared"),
    [
        (OWNER, THEIRS, True),  # without an account: whoever asks may have it
        (OWNER, ANN, True),
        (ANN, ANN, True),
        (ANN, ANNS_OTHER, True),  # the same account of the same upstream
        (ANN, BOB, False),
        (ANN, OWNER, False),
        (ANN, upstream_owner("other.example.com", "acme/app", "ann"), False),
        (BOB, BOB, True),
        (None, OWNER, False),  # clients pushed it
    ],
)
def test_whether_a_word_of_the_upstream_is_enough(
    catalog: Catalog, fetched_by: Owner | None, asker: Owner, is_shared: bool
) -> None:
    if fetched_by is None:
        Pushed(catalog.database).publish_blob(OTHER, digest_of(TOP), len(TOP), boot_id="boot", now=1)
    else:
        catalog.blobs.publish_blob(OTHER, fetched_by, digest_of(TOP), len(TOP), boot_id="boot", now=1)
    assert catalog.blobs.find_blob(NGINX, asker, digest_of(TOP)).is_shared == is_shared
    # Who has had it whole from his own upstream has proved it for the next time.
    catalog.blobs.publish_blob(NGINX, asker, digest_of(TOP), len(TOP), boot_id="boot", now=2)
    assert catalog.blobs.find_blob(NGINX, asker, digest_of(TOP)).is_shared
    catalog.blobs.forget_blob(digest_of(TOP))
    assert not catalog.blobs.find_blob(NGINX, asker, digest_of(TOP)).is_shared, (
        "nor does anybody who had a file that is gone"
    )


def test_what_was_asked_for_with_no_account_but_not_as_nobody_is_for_that_upstream_only(catalog: Catalog) -> None:
    catalog.blobs.publish_blob(OTHER, OWNER, digest_of(TOP), len(TOP), boot_id="boot", now=1, asked_as_nobody=False)
    other = upstream_owner("other.example.com", "acme/app")
    shared = {owner: catalog.blobs.find_blob(NGINX, owner, digest_of(TOP)).is_shared for owner in (OWNER, other, ANN)}
    assert shared == {OWNER: True, other: False, ANN: False}


def test_absent_names_are_kept_by_account(catalog: Catalog) -> None:
    """A private name that one account does not see another one may."""
    catalog.answers.save_absent_name(source_of(ANN), "acme/app", 5)
    assert catalog.answers.find_absent_name(source_of(ANN), "acme/app") == 5
    assert catalog.answers.find_absent_name(source_of(BOB), "acme/app") is None
    assert catalog.answers.find_absent_name(source_of(OWNER), "acme/app") is None


def test_a_page_of_tags_begins_after_the_last_one(catalog: Catalog) -> None:
    for tag in ("a", "b", "c", "d"):
        catalog.manifests.save_manifest(
            NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=parse_tag(tag), now=1
        )
    assert catalog.manifests.tags(NGINX, OWNER, after="a", most=2) == ["b", "c"]
    assert catalog.manifests.tags(NGINX, OWNER, after="d") == []


# Siblings


def test_siblings_of_a_layer_are_the_other_blobs_of_its_image_in_order(catalog: Catalog) -> None:
    save(catalog)
    named = catalog.blobs.siblings(NGINX, OWNER, digest_of(BASE))
    assert [(blob.digest, blob.size_bytes, blob.media_type) for blob in named] == [
        (digest_of(CONFIGURATION), len(CONFIGURATION), CONFIG),
        (digest_of(TOP), len(TOP), LAYER),
    ]


def test_a_config_has_no_siblings(catalog: Catalog) -> None:
    save(catalog)
    assert catalog.blobs.siblings(NGINX, OWNER, digest_of(CONFIGURATION)) == ()


def test_siblings_leave_out_what_this_repository_can_read_already(catalog: Catalog) -> None:
    save(catalog)
    publish(catalog, CONFIGURATION)
    publish(catalog, TOP, repository=OTHER)
    assert [blob.digest for blob in catalog.blobs.siblings(NGINX, OWNER, digest_of(BASE))] == [digest_of(TOP)]


def test_siblings_come_from_the_image_stored_last(catalog: Catalog) -> None:
    save(catalog, SECOND, now=1)
    save(catalog, IMAGE, now=2)
    assert digest_of(TOP) in [blob.digest for blob in catalog.blobs.siblings(NGINX, OWNER, digest_of(BASE))]
    save(catalog, SECOND, now=3)
    assert digest_of(TOP) not in [blob.digest for blob in catalog.blobs.siblings(NGINX, OWNER, digest_of(BASE))]


def test_siblings_are_never_those_of_another_repository(catalog: Catalog) -> None:
    save(catalog)
    assert catalog.blobs.siblings(OTHER, OWNER, digest_of(BASE)) == ()


# Listings and absences


def test_a_listing_is_given_back_and_replaced(catalog: Catalog) -> None:
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[1]", now=1)
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[2]", now=2)
    found = catalog.answers.find_listing(NGINX, OWNER, "tags")
    assert found is not None
    assert (found.body, found.validated_at) == (b"[2]", 2)
    assert catalog.answers.find_listing(NGINX, OWNER, f"referrers:{IMAGE.digest}") is None
    assert catalog.answers.find_listing(OTHER, OWNER, "tags") is None


def test_a_negative_holds_until_its_end(catalog: Catalog, clock: Clock) -> None:
    catalog.answers.save_negative(NGINX, OWNER, "absent", clock.now + 60)
    assert catalog.answers.find_negative(NGINX, OWNER, "absent") == clock.now + 60
    assert catalog.answers.find_negative(OTHER, OWNER, "absent") is None
    clock.now += 60
    assert catalog.answers.find_negative(NGINX, OWNER, "absent") is None


def test_saving_a_manifest_ends_what_was_remembered_as_absent(catalog: Catalog, clock: Clock) -> None:
    for reference in (LATEST, IMAGE.digest, "another"):
        catalog.answers.save_negative(NGINX, OWNER, reference, clock.now + 60)
    save(catalog)
    assert catalog.answers.find_negative(NGINX, OWNER, LATEST) is None
    assert catalog.answers.find_negative(NGINX, OWNER, IMAGE.digest) is None
    assert catalog.answers.find_negative(NGINX, OWNER, "another") is not None


def test_absent_names_are_kept_by_upstream(catalog: Catalog) -> None:
    catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 7)
    catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 8)
    assert catalog.answers.find_absent_name(source_at("quay.io"), "acme/app") == 8
    assert catalog.answers.find_absent_name(source_at("ghcr.io"), "acme/app") is None


def test_asking_for_what_is_not_there_makes_no_repository(catalog: Catalog, clock: Clock) -> None:
    catalog.blobs.find_blob(NGINX, OWNER, IMAGE.digest)
    catalog.answers.save_negative(NGINX, OWNER, LATEST, clock.now + 60)
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[]", now=1)
    catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 1)
    catalog.pins.pin(NGINX, LATEST, 1)
    assert not Repositories(catalog.database).is_there(NGINX, OWNER)
    assert Repositories(catalog.database).names("", 10) == []


@pytest.mark.parametrize("limited", ["listings", "negatives", "absent_names"])
def test_what_clients_can_make_us_remember_has_an_end(catalog: Catalog, clock: Clock, limited: str) -> None:
    # The limits are too high to be reached here; the rule is the same with a lower one.
    table = getattr(schema, limited)
    columns = {"listings": ("owner", "kind"), "negatives": ("owner", "reference")}
    first, second = columns.get(limited, ("source", "name"))
    values: dict[str, object] = {
        "listings": {"repository": "a", "validated_at": 1.0, "body": b""},
        "negatives": {"repository": "a", "until": clock.now + 60},
        "absent_names": {"seen_at": 1.0},
    }[limited]  # type: ignore[assignment]  # the three differ in their values' types
    for number in range(8):
        catalog.answers._remember(table, {first: OWNER if first == "owner" else "a", second: f"n{number}"}, values, 3)
    find: Callable[[str], object] = {
        "listings": lambda name: catalog.answers.find_listing(RepositoryName("a"), OWNER, name),
        "negatives": lambda name: catalog.answers.find_negative(RepositoryName("a"), OWNER, name),
        "absent_names": lambda name: catalog.answers.find_absent_name(source_at("a"), name),
    }[limited]
    assert [number for number in range(8) if find(f"n{number}") is not None] == [5, 6, 7]


# Use, repositories, pins


def test_a_later_pull_is_recorded_and_an_earlier_one_changes_nothing(catalog: Catalog) -> None:
    save(catalog)
    digest = publish(catalog, TOP)
    catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 50.0}, {digest: 60.0})
    catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 40.0}, {digest: 40.0})
    assert [use.pulled_at for use in catalog.inventory.images()] == [50.0]
    assert [blob.last_used_at for blob in catalog.blobs.stored_blobs()] == [60.0]


def test_a_pull_counts_for_its_repository_only(catalog: Catalog) -> None:
    save(catalog)
    save(catalog, repository=OTHER)
    catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 50.0}, {})
    assert {use.repository: use.pulled_at for use in catalog.inventory.images()} == {NGINX: 50.0, OTHER: None}


def test_pulls_of_what_has_gone_meanwhile_are_ignored(catalog: Catalog) -> None:
    catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 50.0}, {digest_of(TOP): 50.0})
    assert catalog.inventory.images() == []


def test_more_pulls_than_one_transaction_takes_are_all_recorded(catalog: Catalog) -> None:
    digests = [publish(catalog, b"%d" % number) for number in range(3)]
    never = {f"sha256:{number:064x}": 1.0 for number in range(2_500)}
    catalog.inventory.record_pulls({}, {**never, **dict.fromkeys(digests, 70.0)})
    assert {blob.last_used_at for blob in catalog.blobs.stored_blobs()} == {70.0}


def test_repositories_are_paged_in_order(catalog: Catalog) -> None:
    names = [parse_repository_name(f"docker-hub/n{number}") for number in (3, 1, 2)]
    for name in names:
        save(catalog, repository=name)
    assert Repositories(catalog.database).names("", 2) == sorted(names)[:2]
    assert Repositories(catalog.database).names(sorted(names)[1], 2) == sorted(names)[2:]
    assert Repositories(catalog.database).is_there(names[0], OWNER)


def test_pins_are_listed_and_taken_back(catalog: Catalog) -> None:
    catalog.pins.pin(NGINX, LATEST, 1)
    catalog.pins.pin(NGINX, LATEST, 2)
    catalog.pins.pin(NGINX, IMAGE.digest, 3)
    assert catalog.pins.all() == [(NGINX, LATEST), (NGINX, IMAGE.digest)]
    assert catalog.pins.unpin(NGINX, LATEST) is True
    assert catalog.pins.unpin(NGINX, LATEST) is False
    assert catalog.pins.all() == [(NGINX, IMAGE.digest)]


# Transactions


def test_what_one_worker_commits_another_sees_at_once(open_catalog: OpenCatalog) -> None:
    one, other = open_catalog(), open_catalog()
    assert other.manifests.find_tag(NGINX, OWNER, LATEST) is None
    save(one)
    assert other.manifests.find_tag(NGINX, OWNER, LATEST) is not None


def test_every_change_of_an_answer_moves_the_generation(catalog: Catalog, generation: Generation) -> None:
    digest = digest_of(TOP)
    changes: list[Callable[[], object]] = [
        lambda: save(catalog),
        lambda: catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=2, forced=False),
        lambda: catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=2, forced=False),
        lambda: catalog.manifests.remove_tag(NGINX, OWNER, LATEST),
        lambda: publish(catalog, TOP),
        lambda: catalog.blobs.grant_blob(OTHER, OWNER, digest),
        lambda: catalog.blobs.verify_blob(digest, "other boot"),
        lambda: catalog.blobs.forget_blob(digest),
    ]
    for number, change in zip(count(), changes, strict=False):
        before = generation.read()
        change()
        assert generation.read() != before, f"change {number}"


def test_what_no_worker_keeps_in_memory_leaves_the_generation_alone(
    catalog: Catalog, generation: Generation, clock: Clock
) -> None:
    save(catalog)
    digest = publish(catalog, TOP)
    before = generation.read()
    catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 50.0}, {digest: 60.0})
    catalog.pins.pin(NGINX, LATEST, 1)
    catalog.pins.unpin(NGINX, LATEST)
    catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    # Clients choose what is asked for in vain: that must not empty the memory of every worker.
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"", now=1)
    catalog.answers.save_negative(NGINX, OWNER, "absent", clock.now + 60)
    catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 1)
    assert generation.read() == before


def test_what_was_saved_is_there_after_opening_again(open_catalog: OpenCatalog) -> None:
    first = open_catalog()
    save(first)
    publish(first, TOP)
    first.close()
    again = open_catalog()
    assert again.manifests.find_tag(NGINX, OWNER, LATEST) is not None
    assert again.blobs.find_blob(NGINX, OWNER, digest_of(TOP)).granted


# A model: whatever is done in whatever order, the catalog answers as a few dictionaries would.

_repositories = st.sampled_from([NGINX, OTHER])
_bodies = st.sampled_from([BASE, TOP, CONFIGURATION])
_operations = st.one_of(
    st.tuples(st.just("publish"), _repositories, _bodies),
    st.tuples(st.just("grant"), _repositories, _bodies),
    st.tuples(st.just("forget"), _repositories, _bodies),
    st.tuples(st.just("save"), _repositories, st.sampled_from([IMAGE, SECOND])),
    st.tuples(st.just("untag"), _repositories, st.none()),
)


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(_operations, max_size=12))
def test_grants_and_tags_follow_a_simple_model(
    open_catalog: OpenCatalog, operations: list[tuple[str, RepositoryName, object]]
) -> None:
    catalog = open_catalog()
    for body in (BASE, TOP, CONFIGURATION):
        catalog.blobs.forget_blob(digest_of(body))
    for repository in (NGINX, OTHER):
        save(catalog, SECOND, repository=repository)  # so that it is there
        catalog.manifests.remove_tag(repository, OWNER, LATEST)
    grants: dict[bytes, set[str]] = {}
    tags: dict[str, Digest] = {}
    for name, repository, what in operations:
        if isinstance(what, bytes):
            if name == "publish":
                publish(catalog, what, repository=repository)
                grants.setdefault(what, set()).add(repository)
            elif name == "grant":
                assert catalog.blobs.grant_blob(repository, OWNER, digest_of(what)) == (what in grants)
                if what in grants:
                    grants[what].add(repository)
            else:
                catalog.blobs.forget_blob(digest_of(what))
                grants.pop(what, None)
        elif isinstance(what, type(IMAGE)):
            assert save(catalog, what, repository=repository) == (tags.get(repository) != what.digest)
            tags[repository] = what.digest
        else:
            catalog.manifests.remove_tag(repository, OWNER, LATEST)
            tags.pop(repository, None)
    for repository in (NGINX, OTHER):
        for body in (BASE, TOP, CONFIGURATION):
            record = catalog.blobs.find_blob(repository, OWNER, digest_of(body))
            assert (record.published, record.granted) == (body in grants, repository in grants.get(body, ()))
        found = catalog.manifests.find_tag(repository, OWNER, LATEST)
        assert (found.manifest.digest if found else None) == tags.get(repository)
    catalog.close()
