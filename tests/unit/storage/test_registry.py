"""What is set up for the registry: rules, templates, documents, exclusions."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import parse_repository_name
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.templates import CreationTemplate, find_template
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.registry.cache_rules import MAX_CACHE_RULES, CacheRule
from tests.effort import examples
from tests.owners import OWNER
from tests.unit.storage.parts import RegistryParts

NGINX = parse_repository_name("docker-hub/library/nginx")
OTHER = parse_repository_name("docker-hub2/app")


def rule(prefix: str = "docker-hub", url: str = "registry-1.docker.io", **more: str) -> CacheRule:
    return CacheRule(prefix=prefix, upstream_registry_url=url, created_at=1, updated_at=1, **more)


def template(prefix: str, *scenarios: str, **more: object) -> CreationTemplate:
    return CreationTemplate(prefix, {"appliedFor": list(scenarios or ["PULL_THROUGH_CACHE"]), **more}, 1, 1)


# Pull-through cache rules


def test_rules_are_given_back_as_they_were_made_by_prefix(registry: RegistryParts) -> None:
    made = [rule("quay", "quay.io"), rule(credential_arn="arn:1", upstream_repository_prefix="team/")]
    for one in made:
        registry.cache_rules.create(one)
    assert registry.cache_rules.all() == [made[1], made[0]]


def test_a_second_rule_of_a_prefix_is_refused(registry: RegistryParts) -> None:
    registry.cache_rules.create(rule())
    with pytest.raises(AlreadyExists):
        registry.cache_rules.create(rule(url="quay.io"))
    assert registry.cache_rules.all() == [rule()]


def test_of_many_who_make_the_same_rule_at_once_one_wins(catalog: Catalog) -> None:
    registry, ready, lost = RegistryParts(catalog.database), threading.Barrier(4), []

    def make() -> None:
        ready.wait()
        try:
            registry.cache_rules.create(rule())
        except AlreadyExists as error:
            lost.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lost) == 3
    assert registry.cache_rules.all() == [rule()]


def test_the_quota_counts_rules_of_the_file_too(registry: RegistryParts) -> None:
    for number in range(MAX_CACHE_RULES - 1):
        registry.cache_rules.create(rule(f"p{number}"))
    with pytest.raises(LimitReached, match="49"):
        registry.cache_rules.create(rule("one-more"), others=1)
    registry.cache_rules.create(rule("last"))
    with pytest.raises(LimitReached, match="50"):
        registry.cache_rules.create(rule("one-more"))


def test_an_update_sets_what_is_given_and_leaves_the_rest(registry: RegistryParts) -> None:
    registry.cache_rules.create(rule(credential_arn="arn:1"))
    updated = registry.cache_rules.update("docker-hub", credential_arn=None, custom_role_arn="arn:role", now=7)
    assert updated is not None
    assert (updated.credential_arn, updated.custom_role_arn, updated.updated_at) == ("arn:1", "arn:role", 7)
    assert registry.cache_rules.all() == [updated]


def test_an_update_with_nothing_changes_nothing(registry: RegistryParts) -> None:
    registry.cache_rules.create(rule())
    assert registry.cache_rules.update("docker-hub", credential_arn=None, custom_role_arn=None, now=7) == rule()


def test_a_rule_that_is_not_there_can_be_neither_updated_nor_deleted(registry: RegistryParts) -> None:
    assert registry.cache_rules.update("docker-hub", credential_arn="arn:1", custom_role_arn=None, now=7) is None
    assert registry.cache_rules.delete("docker-hub") is None


def test_a_deleted_rule_is_given_back_and_gone(registry: RegistryParts) -> None:
    registry.cache_rules.create(rule())
    assert registry.cache_rules.delete("docker-hub") == rule()
    assert registry.cache_rules.all() == []


def test_what_upstreams_said_of_names_under_a_rule_is_forgotten_with_each_change(
    registry: RegistryParts, catalog: Catalog
) -> None:
    def remember() -> None:
        for name in (NGINX, OTHER):
            catalog.answers.save_negative(name, OWNER, "latest", until=1000)
            catalog.answers.save_listing(name, OWNER, "tags", b"[]", now=1)

    def remembered() -> list[object]:
        return [
            catalog.answers.find_negative(NGINX, OWNER, "latest"),
            catalog.answers.find_listing(NGINX, OWNER, "tags"),
        ]

    remember()
    registry.cache_rules.create(rule())
    assert remembered() == [None, None]
    assert catalog.answers.find_negative(OTHER, OWNER, "latest") == 1000
    assert catalog.answers.find_listing(OTHER, OWNER, "tags") is not None
    remember()
    registry.cache_rules.update("docker-hub", credential_arn="arn:1", custom_role_arn=None, now=7)
    assert remembered() == [None, None]
    remember()
    registry.cache_rules.delete("docker-hub")
    assert remembered() == [None, None]
    remember()
    registry.cache_rules.create(rule("ROOT"))
    assert catalog.answers.find_negative(OTHER, OWNER, "latest") is None


def test_every_change_of_the_configuration_is_told_to_all_workers(
    registry: RegistryParts, configuration: Generation
) -> None:
    changes: list[Callable[[], object]] = [
        lambda: registry.cache_rules.create(rule()),
        lambda: registry.cache_rules.update("docker-hub", credential_arn="arn:1", custom_role_arn=None, now=7),
        lambda: registry.cache_rules.delete("docker-hub"),
        lambda: registry.documents.put("policy", "{}", 1),
        lambda: registry.documents.delete("policy"),
        lambda: registry.exclusions.add("arn:me", 1),
        lambda: registry.exclusions.remove("arn:me"),
    ]
    for change in changes:
        before = configuration.read()
        change()
        assert configuration.read() != before


# Repository creation templates


def found(catalog: Catalog, name: str, scenario: str = "PULL_THROUGH_CACHE") -> str | None:
    with catalog.database.reading() as connection:
        template = find_template(connection, name, scenario)
    return template.prefix if template else None


def test_the_longest_prefix_wins_and_root_is_last(registry: RegistryParts, catalog: Catalog) -> None:
    for prefix in ("ROOT", "prod", "prod/team"):
        registry.templates.create(template(prefix))
    assert found(catalog, "prod/team/app") == "prod/team"
    assert found(catalog, "prod/team/deep/app") == "prod/team"
    assert found(catalog, "prod/app") == "prod"
    assert found(catalog, "production/app") == "ROOT"
    assert found(catalog, "app") == "ROOT"


def test_a_prefix_does_not_stand_for_the_repository_of_its_own_name(registry: RegistryParts, catalog: Catalog) -> None:
    registry.templates.create(template("prod"))
    assert found(catalog, "prod") is None


def test_a_longer_prefix_for_another_scenario_hides_nothing(registry: RegistryParts, catalog: Catalog) -> None:
    registry.templates.create(template("prod/team", "CREATE_ON_PUSH", "REPLICATION"))
    registry.templates.create(template("prod", "PULL_THROUGH_CACHE"))
    assert found(catalog, "prod/team/app") == "prod"
    assert found(catalog, "prod/team/app", "CREATE_ON_PUSH") == "prod/team"
    assert found(catalog, "prod/app", "CREATE_ON_PUSH") is None


@settings(max_examples=examples(30))
@given(
    names=st.lists(st.sampled_from(["a", "a/b", "a/b/c", "ab", "a-b", "b", "ROOT"]), unique=True),
    asked=st.sampled_from(["a", "a/b", "a/b/c", "a/b/c/d", "ab/c", "a-b/c", "b/a", "c"]),
)
def test_the_template_found_is_the_longest_that_covers_the_name(
    names: list[str], asked: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    catalog = Catalog.open(tmp_path_factory.mktemp("templates") / "catalog.sqlite")
    try:
        for name in names:
            RegistryParts(catalog.database).templates.create(template(name))
        covering = [name for name in names if name != "ROOT" and asked.startswith(f"{name}/")]
        expected = max(covering, key=len) if covering else "ROOT" if "ROOT" in names else None
        assert found(catalog, asked) == expected
    finally:
        catalog.close()


def test_templates_are_made_changed_and_deleted(registry: RegistryParts) -> None:
    registry.templates.create(template("prod", description="a"))
    with pytest.raises(AlreadyExists):
        registry.templates.create(template("prod"))
    changed = registry.templates.update("prod", lambda body: {**body, "description": "b"}, 9)
    assert changed is not None
    assert (changed.body["description"], changed.created_at, changed.updated_at) == ("b", 1, 9)
    assert registry.templates.all() == [changed]
    assert registry.templates.delete("prod") == changed
    assert registry.templates.all() == []
    assert registry.templates.delete("prod") is None
    assert registry.templates.update("prod", lambda body: body, 9) is None


def test_an_error_in_an_update_leaves_the_template_as_it_was(registry: RegistryParts) -> None:
    registry.templates.create(template("prod"))

    def fail(body: object) -> dict[str, object]:
        raise LimitReached("no")

    with pytest.raises(LimitReached):
        registry.templates.update("prod", fail, 9)
    assert registry.templates.all() == [template("prod")]


# Documents and exclusions


def test_a_document_is_replaced_by_the_next_of_its_name(registry: RegistryParts) -> None:
    registry.documents.put("policy", "{}", 1)
    registry.documents.put("policy", '{"a":1}', 2)
    registry.documents.put("scanning", "[]", 3)
    assert registry.documents.find("policy") == '{"a":1}'
    assert registry.documents.all() == {"policy": '{"a":1}', "scanning": "[]"}


def test_a_deleted_document_is_given_back_once(registry: RegistryParts) -> None:
    registry.documents.put("policy", "{}", 1)
    assert registry.documents.delete("policy") == "{}"
    assert registry.documents.delete("policy") is None
    assert registry.documents.find("policy") is None


def test_exclusions_are_a_set(registry: RegistryParts) -> None:
    registry.exclusions.add("arn:b", 1)
    registry.exclusions.add("arn:a", 1)
    with pytest.raises(AlreadyExists):
        registry.exclusions.add("arn:a", 2)
    assert registry.exclusions.all() == ["arn:a", "arn:b"]
    assert registry.exclusions.remove("arn:a")
    assert not registry.exclusions.remove("arn:a")


def test_there_are_no_more_than_a_hundred_exclusions(registry: RegistryParts) -> None:
    for number in range(100):
        registry.exclusions.add(f"arn:{number}", 1)
    with pytest.raises(LimitReached):
        registry.exclusions.add("arn:one-more", 1)


def test_repositories_stay_when_their_rule_goes(registry: RegistryParts, catalog: Catalog) -> None:
    registry.cache_rules.create(rule())
    catalog.blobs.publish_blob(NGINX, OWNER, digest_of(b"x"), 1, boot_id="boot", now=1)
    registry.cache_rules.delete("docker-hub")
    assert catalog.blobs.find_blob(NGINX, OWNER, digest_of(b"x")).granted
