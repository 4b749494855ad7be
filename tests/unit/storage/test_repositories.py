"""Repositories: made, set up, tagged, deleted; templates at work; immutable tags."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, event, insert, select

from pullthrough.errors import AlreadyExists, LimitReached, NotEmpty
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import RepositoryName, parse_repository_name, parse_tag
from pullthrough.oci.owners import OWN
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.claims import claim_repository
from pullthrough.storage.catalog.image_rows import is_immutable
from pullthrough.storage.catalog.templates import CreationTemplate
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.registry.repositories import Repositories, RepositorySettings
from pullthrough.storage.sql.resource_tags import MAX_RESOURCE_TAGS
from pullthrough.storage.sql.schema import manifests, repository_manifests, resource_tags
from pullthrough.storage.sql.schema import repositories as repository_table
from tests.contracts.images import image, index
from tests.owners import OWNER
from tests.unit.storage.parts import RegistryParts

NGINX = parse_repository_name("docker-hub/library/nginx")
OTHER = parse_repository_name("quay/acme/other")
LATEST = parse_tag("latest")
IMAGE, SECOND = image(b"{}", [b"layer"]), image(b'{"second":1}', [b"layer"])
POLICY = '{"Statement":[]}'


@pytest.fixture
def repositories(catalog: Catalog) -> Repositories:
    return Repositories(catalog.database)


def save(catalog: Catalog, what: Any = IMAGE, name: RepositoryName = NGINX, now: float = 1) -> bool:
    return catalog.manifests.save_manifest(name, OWNER, what.digest, what.body, what.manifest, tag=LATEST, now=now)


def tagged(catalog: Catalog, name: RepositoryName = NGINX) -> str | None:
    found = catalog.manifests.find_tag(name, OWNER, LATEST)
    return found.manifest.digest if found else None


# Made and described


def test_a_repository_is_made_with_what_was_asked_for(repositories: Repositories) -> None:
    settings = RepositorySettings(
        tag_mutability="IMMUTABLE_WITH_EXCLUSION",
        mutability_filters=[{"filterType": "WILDCARD", "filter": "latest*"}],
        encryption={"encryptionType": "KMS", "kmsKey": "alias/mine"},
        scan_on_push=True,
        tags={"team": "a"},
    )
    made = repositories.create(NGINX, settings, 7)
    assert repositories.find(NGINX) == made
    assert (made.name, made.created_at, made.tag_mutability, made.scan_on_push) == (
        *(NGINX, 7),
        "IMMUTABLE_WITH_EXCLUSION",
        True,
    )
    assert list(made.mutability_filters) == settings.mutability_filters
    assert made.encryption == settings.encryption
    assert repositories.tags(NGINX) == {"team": "a"}


def test_a_repository_that_is_there_cannot_be_made_even_if_a_pull_made_it(
    repositories: Repositories, catalog: Catalog
) -> None:
    save(catalog)
    with pytest.raises(AlreadyExists):
        repositories.create(NGINX, RepositorySettings(), 7)


def test_pages_go_by_name_and_named_ones_leave_out_what_is_not_there(repositories: Repositories) -> None:
    names = [parse_repository_name(f"r/{number}") for number in range(5)]
    for name in reversed(names):
        repositories.create(name, RepositorySettings(), 1)
    assert [record.name for record in repositories.page("", 2)] == names[:2]
    assert [record.name for record in repositories.page(names[1], 9)] == names[2:]
    assert [record.name for record in repositories.find_all([names[3], NGINX, names[0]])] == [names[0], names[3]]


def test_settings_replace_each_other_and_keep_the_repository(repositories: Repositories, catalog: Catalog) -> None:
    save(catalog)
    assert repositories.set_mutability(NGINX, "IMMUTABLE", []) is not None
    changed = repositories.set_scan_on_push(NGINX, True)
    assert changed is not None
    assert (changed.tag_mutability, changed.scan_on_push) == ("IMMUTABLE", True)
    catalog.manifests.forget_manifest(IMAGE.digest, now=1)
    assert repositories.find(NGINX) == changed


def test_settings_of_a_repository_that_is_not_there_are_none(repositories: Repositories) -> None:
    assert repositories.set_mutability(NGINX, "IMMUTABLE", []) is None
    assert repositories.set_scan_on_push(NGINX, True) is None
    assert repositories.set_policy(NGINX, POLICY) is None
    assert repositories.take_policy(NGINX) is None
    assert repositories.tags(NGINX) is None
    assert not repositories.tag(NGINX, {"a": "b"})
    assert not repositories.untag(NGINX, ["a"])


def test_a_policy_is_told_to_all_workers(repositories: Repositories, configuration: Generation) -> None:
    repositories.create(NGINX, RepositorySettings(), 1)
    before = configuration.read()
    repositories.set_policy(NGINX, POLICY)
    between = configuration.read()
    assert repositories.policies() == {NGINX: POLICY}
    taken = repositories.take_policy(NGINX)
    assert taken is not None
    assert taken.policy == POLICY
    assert repositories.policies() == {}
    assert len({before, between, configuration.read()}) == 3


# AWS's tags


def test_tags_are_added_replaced_and_taken_away(repositories: Repositories) -> None:
    repositories.create(NGINX, RepositorySettings(tags={"b": "1"}), 1)
    assert repositories.tag(NGINX, {"a": "2", "b": "3"})
    assert repositories.tags(NGINX) == {"a": "2", "b": "3"}
    assert repositories.untag(NGINX, ["b", "never"])
    assert repositories.tags(NGINX) == {"a": "2"}


def test_the_tags_of_all_repositories_are_those_of_no_secret(repositories: Repositories, catalog: Catalog) -> None:
    repositories.create(NGINX, RepositorySettings(tags={"b": "1", "a": "2"}), 1)
    repositories.create(OTHER, RepositorySettings(tags={"a": "3"}), 1)
    repositories.create(parse_repository_name("plain"), RepositorySettings(), 1)
    rows = [{"resource": f"{kind}/x", "key": "k", "value": "v"} for kind in ("secret", "repositories")]
    catalog.database.write(lambda connection: connection.execute(insert(resource_tags), rows))
    assert repositories.all_tags() == {NGINX: {"b": "1", "a": "2"}, OTHER: {"a": "3"}}


def test_a_repository_has_fifty_tags_at_most(repositories: Repositories) -> None:
    full = {f"k{number}": "v" for number in range(MAX_RESOURCE_TAGS)}
    repositories.create(NGINX, RepositorySettings(tags=full), 1)
    with pytest.raises(LimitReached):
        repositories.tag(NGINX, {"one more": "v"})
    assert repositories.tag(NGINX, {"k0": "changed"})
    assert repositories.tags(NGINX) == full | {"k0": "changed"}


# Deleted


def test_a_repository_with_images_is_deleted_by_force_only(repositories: Repositories, catalog: Catalog) -> None:
    save(catalog)
    with pytest.raises(NotEmpty):
        repositories.delete(NGINX, force=False)
    assert tagged(catalog) == IMAGE.digest
    deleted = repositories.delete(NGINX, force=True)
    assert deleted is not None
    assert deleted.name == NGINX
    assert repositories.find(NGINX) is None
    assert tagged(catalog) is None
    assert catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest) is None
    assert catalog.usage.totals().manifests == 0
    assert repositories.delete(NGINX, force=True) is None


def test_deleting_one_repository_leaves_what_another_has(repositories: Repositories, catalog: Catalog) -> None:
    both = index([IMAGE, SECOND])
    for name in (NGINX, OTHER):
        save(catalog, IMAGE, name)
        save(catalog, both, name)
        catalog.blobs.publish_blob(name, OWNER, digest_of(b"layer"), 5, boot_id="boot", now=1)
    repositories.delete(NGINX, force=True)
    assert tagged(catalog, OTHER) == both.digest
    assert catalog.manifests.find_manifest(OTHER, OWNER, IMAGE.digest) is not None
    assert catalog.blobs.find_blob(OTHER, OWNER, digest_of(b"layer")).granted
    # Made anew, it has nothing of what it had.
    repositories.create(NGINX, RepositorySettings(), 1)
    assert not catalog.blobs.find_blob(NGINX, OWNER, digest_of(b"layer")).granted
    assert not catalog.blobs.find_blob(NGINX, OWNER, digest_of(b"layer")).named


def test_many_images_are_deleted_in_several_transactions(repositories: Repositories, catalog: Catalog) -> None:
    fill(repositories, catalog, 1_200)
    steps = [1_200, *map(len, left_at_each_commit(catalog, lambda: repositories.delete(NGINX, force=True))), 0]
    assert max(before - after for before, after in pairwise(steps)) <= 500
    assert images_left(catalog) == []
    assert not Repositories(catalog.database).is_there(NGINX, OWNER)


def test_a_crash_among_them_leaves_no_index_without_its_images(repositories: Repositories, catalog: Catalog) -> None:
    """What an index names was pushed before it: the newest go first."""
    fill(repositories, catalog, 1_200)
    everything = images_left(catalog)
    for left in left_at_each_commit(catalog, lambda: repositories.delete(NGINX, force=True)):
        assert left == everything[: len(left)]


def fill(repositories: Repositories, catalog: Catalog, count: int) -> None:
    """Make the repository, with so many images."""
    repositories.create(NGINX, RepositorySettings(), 1)
    mine = [digest_of(b"%d" % number) for number in range(count)]

    def add(connection: Connection) -> None:
        connection.execute(insert(manifests), [{"digest": digest, "body": b"{}"} for digest in mine])
        (repository_id,) = connection.execute(select(repository_table.c.id)).scalars()
        row = {"repository_id": repository_id, "media_type": "", "stored_at": 1}
        connection.execute(insert(repository_manifests), [{**row, "digest": digest} for digest in mine])

    catalog.database.write(add)


def images_left(catalog: Catalog) -> list[int]:
    with catalog.database.reading() as connection:
        return list(connection.execute(select(repository_manifests.c.id).order_by("id")).scalars())


def left_at_each_commit(catalog: Catalog, deed: Callable[[], object]) -> list[list[int]]:
    """What a crash right before each of its commits would leave."""
    left: list[list[int]] = []

    def note(_: Connection) -> None:
        left.append(images_left(catalog))

    event.listen(Engine, "commit", note)
    try:
        assert deed() is not None
    finally:
        event.remove(Engine, "commit", note)
    return left


def test_what_belonged_to_a_deleted_repository_goes_with_it(repositories: Repositories, catalog: Catalog) -> None:
    repositories.create(NGINX, RepositorySettings(tags={"a": "b"}), 1)
    repositories.set_policy(NGINX, POLICY)
    catalog.answers.save_negative(NGINX, OWNER, "gone", until=1000)
    catalog.answers.save_listing(NGINX, OWNER, "tags", b"[]", now=1)
    assert repositories.delete(NGINX, force=False) is not None
    assert catalog.answers.find_negative(NGINX, OWNER, "gone") is None
    assert catalog.answers.find_listing(NGINX, OWNER, "tags") is None
    assert repositories.policies() == {}
    repositories.create(NGINX, RepositorySettings(), 1)
    assert repositories.tags(NGINX) == {}


def test_a_blob_of_a_deleted_repository_is_left_for_eviction(repositories: Repositories, catalog: Catalog) -> None:
    save(catalog)
    catalog.blobs.publish_blob(NGINX, OWNER, digest_of(b"layer"), 5, boot_id="boot", now=1)
    repositories.delete(NGINX, force=True)
    assert [blob.digest for blob in catalog.inventory.unnamed_blobs(unused_since=1000)] == [digest_of(b"layer")]


# Templates


def use_template(
    registry: RegistryParts, prefix: str = "docker-hub", scenario: str = "PULL_THROUGH_CACHE", **more: Any
) -> None:
    registry.templates.create(CreationTemplate(prefix, {"appliedFor": [scenario], **more}, 1, 1))


FULL: dict[str, Any] = {
    "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
    "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "dev-*"}],
    "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "arn:aws:kms:us-east-1:123456789012:key/k"},
    "repositoryPolicy": POLICY,
    "lifecyclePolicy": '{"rules":[]}',
    "resourceTags": [{"Key": "team", "Value": "a"}],
}

FILLS: dict[str, Callable[[Catalog], object]] = {
    "manifest": save,
    "blob": lambda catalog: catalog.blobs.publish_blob(NGINX, OWNER, digest_of(b"layer"), 5, boot_id="boot", now=1),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS.keys())
def test_a_repository_that_a_fill_makes_is_as_its_template_says(
    repositories: Repositories, registry: RegistryParts, catalog: Catalog, fill: Callable[[Catalog], object]
) -> None:
    use_template(registry, **FULL)
    fill(catalog)
    made = repositories.find(NGINX)
    assert made is not None
    assert (
        made.tag_mutability,
        list(made.mutability_filters),
        made.encryption,
        made.policy,
        made.lifecycle_policy,
    ) == (
        FULL["imageTagMutability"],
        FULL["imageTagMutabilityExclusionFilters"],
        FULL["encryptionConfiguration"],
        FULL["repositoryPolicy"],
        FULL["lifecyclePolicy"],
    )
    assert repositories.tags(NGINX) == {"team": "a"}


def test_without_a_template_a_repository_has_the_defaults(repositories: Repositories, catalog: Catalog) -> None:
    save(catalog)
    made = repositories.find(NGINX)
    assert made is not None
    assert (made.tag_mutability, made.encryption, made.policy, made.lifecycle_policy, made.scan_on_push) == (
        *("MUTABLE", {"encryptionType": "AES256"}),
        *(None, None, False),
    )
    assert repositories.tags(NGINX) == {}


def test_a_template_never_changes_a_repository_that_is_there(
    repositories: Repositories, registry: RegistryParts, catalog: Catalog
) -> None:
    save(catalog)
    use_template(registry, **FULL)
    save(catalog, SECOND)
    made = repositories.find(NGINX)
    assert made is not None
    assert made.tag_mutability == "MUTABLE"


def test_a_template_is_applied_for_its_scenario_only(
    repositories: Repositories, registry: RegistryParts, catalog: Catalog
) -> None:
    use_template(registry, scenario="CREATE_ON_PUSH", imageTagMutability="IMMUTABLE")
    save(catalog)
    catalog.database.write(claim_repository, "docker-hub/pushed", OWN, 1, "CREATE_ON_PUSH")
    mutability = {record.name: record.tag_mutability for record in repositories.page("", 10)}
    assert mutability == {NGINX: "MUTABLE", "docker-hub/pushed": "IMMUTABLE"}


def test_a_policy_of_a_template_is_told_to_all_workers_and_nothing_else_is(
    registry: RegistryParts, catalog: Catalog, configuration: Generation
) -> None:
    use_template(registry, "docker-hub", repositoryPolicy=POLICY)
    use_template(registry, "quay", imageTagMutability="IMMUTABLE")
    before = configuration.read()
    save(catalog, name=OTHER)
    assert configuration.read() == before
    save(catalog, name=NGINX)
    assert configuration.read() != before
    before = configuration.read()
    save(catalog, SECOND, name=NGINX)
    assert configuration.read() == before


def test_a_repository_made_by_a_template_stays_when_its_last_image_goes(
    repositories: Repositories, registry: RegistryParts, catalog: Catalog
) -> None:
    use_template(registry, **FULL)
    save(catalog)
    save(catalog, name=OTHER)
    catalog.manifests.forget_manifest(IMAGE.digest, now=1)
    assert [record.name for record in repositories.page("", 10)] == [NGINX]
    assert repositories.tags(NGINX) == {"team": "a"}


# Immutable tags


@pytest.mark.parametrize(
    ("mutability", "filters", "tag", "immutable"),
    [
        ("MUTABLE", [], "latest", False),
        ("IMMUTABLE", [], "latest", True),
        ("IMMUTABLE_WITH_EXCLUSION", ["latest*"], "latest-1", False),
        ("IMMUTABLE_WITH_EXCLUSION", ["latest*"], "v1", True),
        ("IMMUTABLE_WITH_EXCLUSION", ["dev", "*-rc*"], "v1-rc2", False),
        ("IMMUTABLE_WITH_EXCLUSION", ["dev"], "dev2", True),
        ("IMMUTABLE_WITH_EXCLUSION", ["v1.0"], "v1x0", True),
        ("IMMUTABLE_WITH_EXCLUSION", ["Latest"], "latest", True),
        ("MUTABLE_WITH_EXCLUSION", ["v*"], "v1", True),
        ("MUTABLE_WITH_EXCLUSION", ["v*"], "latest", False),
    ],
)
def test_which_tags_may_not_move(mutability: str, filters: list[str], tag: str, immutable: bool) -> None:
    given_filters = [{"filterType": "WILDCARD", "filter": text} for text in filters]
    assert is_immutable(mutability, given_filters, tag) is immutable


@given(st.from_regex(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}", fullmatch=True), st.integers(0, 20), st.integers(0, 20))
def test_a_filter_made_of_a_tag_by_wildcards_exempts_it(tag: str, start: int, end: int) -> None:
    pattern = f"{tag[:start]}*{tag[max(start, end) :]}"
    assert not is_immutable("IMMUTABLE_WITH_EXCLUSION", [{"filterType": "WILDCARD", "filter": pattern}], tag)


def test_a_fill_sets_an_immutable_tag_once_and_never_moves_it(repositories: Repositories, catalog: Catalog) -> None:
    repositories.create(NGINX, RepositorySettings(tag_mutability="IMMUTABLE"), 1)
    assert save(catalog, now=1)
    assert not save(catalog, SECOND, now=5)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.manifest.digest, found.validated_at, found.immutable) == (IMAGE.digest, 5, True)
    assert catalog.manifests.find_manifest(NGINX, OWNER, SECOND.digest) is not None


def test_a_tag_that_a_filter_exempts_is_moved(repositories: Repositories, catalog: Catalog) -> None:
    filters = [{"filterType": "WILDCARD", "filter": "lat*"}]
    repositories.create(NGINX, RepositorySettings("IMMUTABLE_WITH_EXCLUSION", filters), 1)
    save(catalog)
    assert save(catalog, SECOND)
    found = catalog.manifests.find_tag(NGINX, OWNER, LATEST)
    assert found is not None
    assert (found.manifest.digest, found.immutable) == (SECOND.digest, False)
