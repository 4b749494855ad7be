"""The configuration that requests go by: which rule wins, and when a worker sees a change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import STANDARD_RULES, CredentialSource, Origin, Rule, SecretCredential
from pullthrough.engine.configuration import REGISTRY_POLICY, Configuration, account_setting_document, rules_in_force
from pullthrough.engine.rules import RuleBook
from pullthrough.errors import StorageError
from pullthrough.oci.names import parse_repository_name
from pullthrough.settings import EcrSettings, ServeSettings, Settings
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.claims import claim_repository
from pullthrough.storage.catalog.templates import CreationTemplate
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.registry.cache_rules import CacheRule
from pullthrough.storage.registry.repositories import Repositories, RepositorySettings
from tests.owners import OWNER
from tests.unit.storage.parts import RegistryParts

NGINX = parse_repository_name("docker-hub/library/nginx")
ACCOUNT = CredentialSource("me", access_token_env="TOKEN")
SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/hub-AbCdEf"


def settings_of(*rules: Rule, strict: bool = False, accounts: dict[str, CredentialSource] | None = None) -> Settings:
    return Settings(
        serve=ServeSettings(data=Path("/nowhere")), rules=rules, accounts=accounts or {}, ecr=EcrSettings(strict=strict)
    )


def made(prefix: str, url: str = "quay.io", **more: Any) -> CacheRule:
    return CacheRule(prefix=prefix, upstream_registry_url=url, created_at=1, updated_at=1, **more)


def in_force(settings: Settings, *rules: CacheRule) -> dict[str, Rule]:
    return {rule.prefix: rule for rule in rules_in_force(settings, rules, account_of)}


def account_of(arn: str) -> str:
    """The user name in the secret."""
    return f"user of {arn[-6:]}"


# Which rule wins


def test_a_rule_of_the_api_replaces_the_built_in_one_and_never_the_files() -> None:
    settings = settings_of(Rule("quay", "mirror.example"), *(rule for rule in STANDARD_RULES if rule.prefix != "quay"))
    rules = in_force(settings, made("docker-hub", "hub.example"), made("quay", "other.example"))
    assert rules["docker-hub"].upstream == "hub.example"
    assert rules["docker-hub"].origin is Origin.API
    assert rules["quay"].upstream == "mirror.example"
    assert rules["github"].origin is Origin.BUILT_IN
    assert in_force(settings)["docker-hub"].upstream == "registry-1.docker.io"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("registry-1.docker.io", "registry-1.docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("https://Quay.io", "quay.io"),
        ("https://quay.io/", "quay.io"),
        ("https://127.0.0.1:5001", "127.0.0.1:5001"),
        ("registry.example:443", "registry.example"),
    ],
)
def test_the_url_of_a_rule_means_a_host(url: str, host: str) -> None:
    assert in_force(settings_of(), made("p", url))["p"].upstream == host


@pytest.mark.parametrize(
    ("given", "meant"), [(None, ""), ("ROOT", ""), ("team", "team"), ("team/", "team"), ("a/b", "a/b")]
)
def test_the_upstream_prefix_of_a_rule(given: str | None, meant: str) -> None:
    rule = in_force(settings_of(), made("p", upstream_repository_prefix=given))["p"]
    assert rule.upstream_repository_prefix == meant


def test_a_rule_with_a_secret_uses_it_and_one_without_the_account_of_its_upstream() -> None:
    settings = settings_of(accounts={"registry-1.docker.io": ACCOUNT})
    rules = in_force(
        settings, made("hub", "docker.io"), made("own", "docker.io", credential_arn=SECRET), made("quay", "quay.io")
    )
    assert rules["hub"].credential == ACCOUNT
    assert rules["own"].credential == SecretCredential(SECRET, "user of AbCdEf")
    assert rules["quay"].credential is None


def test_a_strict_registry_lends_no_account() -> None:
    settings = settings_of(strict=True, accounts={"registry-1.docker.io": ACCOUNT})
    assert in_force(settings, made("hub", "docker.io"))["hub"].credential is None


# When a change is seen


class Worker:
    """A worker's view of a catalog that others change."""

    def __init__(self, path: Path, slot: int) -> None:
        self.generation = Generation(path / "configuration", slot, 2)
        self.catalog = Catalog.open(path / "catalog.sqlite", clock=lambda: 100.0, configuration=self.generation)
        self.registry = RegistryParts(self.catalog.database)
        self.repositories = Repositories(self.catalog.database)
        self.reads = 0
        self.broken = False
        self.configuration = Configuration(
            settings_of(*STANDARD_RULES),
            cache_rules=self.registry.cache_rules,
            documents=self.registry.documents,
            exclusions=self.registry.exclusions,
            repositories=self.repositories,
            account_of=account_of,
            generation=self.generation,
            call=self.call,
        )

    async def call(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.reads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise StorageError("the disk is gone")
        return function(*args, **kwargs)

    async def see(self) -> Configuration:
        """As a face does at the begin of a request."""
        if not self.configuration.is_current:
            await self.configuration.refresh()
        return self.configuration

    def close(self) -> None:
        self.catalog.close()
        self.generation.close()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[tuple[Worker, Worker]]:
    both = Worker(tmp_path, 0), Worker(tmp_path, 1)
    yield both
    for worker in both:
        worker.close()


async def test_what_one_worker_makes_the_other_obeys_at_its_next_request(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    await other.see()
    assert other.configuration.rules.resolve(NGINX).literal.upstream == "registry-1.docker.io"
    one.registry.cache_rules.create(made("docker-hub", "hub.example"))
    assert (await other.see()).rules.resolve(NGINX).literal.upstream == "hub.example"
    assert [rule.prefix for rule in other.configuration.cache_rules] == ["docker-hub"]
    assert other.configuration.rule("docker-hub").upstream == "hub.example"
    one.registry.cache_rules.delete("docker-hub")
    assert (await other.see()).rules.resolve(NGINX).literal.upstream == "registry-1.docker.io"


async def test_policies_settings_and_exclusions_are_seen_too(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    configuration = await other.see()
    assert configuration.registry_policy is None
    assert configuration.account_setting("BLOB_MOUNTING") == "ENABLED"
    one.registry.documents.put(REGISTRY_POLICY, "{}", 1)
    one.registry.documents.put(account_setting_document("BLOB_MOUNTING"), "DISABLED", 1)
    one.registry.exclusions.add("arn:me", 1)
    one.repositories.create(NGINX, RepositorySettings(), 1)
    one.repositories.set_policy(NGINX, '{"a":1}')
    configuration = await other.see()
    assert configuration.registry_policy == "{}"
    assert configuration.document("scanning") is None
    assert configuration.account_setting("BLOB_MOUNTING") == "DISABLED"
    assert configuration.pull_time_exclusions == {"arn:me"}
    assert configuration.repository_policies == {NGINX: '{"a":1}'}


async def test_tags_are_read_when_they_are_asked_for_and_seen_by_all(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    one.repositories.create(NGINX, RepositorySettings(tags={"team": "a"}), 1)
    configuration = await other.see()
    assert configuration.repository_tags is None
    other.reads = 0
    for _ in range(2):
        await configuration.read_repository_tags()
        assert configuration.repository_tags == {NGINX: {"team": "a"}}
    assert other.reads == 1
    one.repositories.tag(NGINX, {"team": "b", "other": "c"})
    await (await other.see()).read_repository_tags()
    assert configuration.repository_tags == {NGINX: {"team": "b", "other": "c"}}
    one.repositories.untag(NGINX, ["team"])
    await (await other.see()).read_repository_tags()
    assert configuration.repository_tags == {NGINX: {"other": "c"}}
    one.repositories.delete(NGINX, force=False)
    one.registry.templates.create(
        CreationTemplate(
            "docker-hub",
            {"appliedFor": ["PULL_THROUGH_CACHE"], "resourceTags": [{"Key": "made-by", "Value": "pull"}]},
            1,
            1,
        )
    )
    one.catalog.database.write(claim_repository, NGINX, OWNER, 1, "PULL_THROUGH_CACHE")
    await (await other.see()).read_repository_tags()
    assert configuration.repository_tags == {NGINX: {"made-by": "pull"}}


async def test_tags_that_cannot_be_read_are_not_taken_for_none(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    configuration = await other.see()
    await configuration.read_repository_tags()
    one.repositories.create(NGINX, RepositorySettings(tags={"team": "a"}), 1)
    other.broken = True
    with pytest.raises(StorageError):
        await configuration.read_repository_tags()
    other.broken = False
    await configuration.read_repository_tags()
    assert configuration.repository_tags == {NGINX: {"team": "a"}}


async def test_without_a_change_nothing_is_read(workers: tuple[Worker, Worker]) -> None:
    _, other = workers
    await other.see()
    other.reads = 0
    for _ in range(3):
        await other.see()
    assert other.reads == 0


async def test_many_requests_after_a_change_read_once(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    await other.see()
    other.reads = 0
    one.registry.cache_rules.create(made("hub", "hub.example"))
    await asyncio.gather(*(other.see() for _ in range(5)))
    assert other.reads == 1


async def test_a_change_that_is_no_rule_keeps_what_the_rule_book_knows(workers: tuple[Worker, Worker]) -> None:
    one, other = workers
    book = (await other.see()).rules
    one.registry.documents.put(REGISTRY_POLICY, "{}", 1)
    assert (await other.see()).rules is book


async def test_what_cannot_be_read_is_an_error_and_is_read_by_the_next_request(
    workers: tuple[Worker, Worker],
) -> None:
    one, other = workers
    await other.see()
    one.registry.cache_rules.create(made("hub", "hub.example"))
    other.broken = True
    with pytest.raises(StorageError):
        await other.see()
    other.broken = False
    assert "hub" in (await other.see()).rules.prefixes


def test_a_rule_is_a_value() -> None:
    """Which is how a configuration sees that its rules did not change."""
    assert rules_in_force(settings_of(), [made("p")], account_of) == rules_in_force(
        settings_of(), [made("p")], account_of
    )
    changed = replace(made("p"), upstream_registry_url="other.example")
    assert RuleBook(rules_in_force(settings_of(), [changed], account_of)).prefixes == ["p"]
    assert rules_in_force(settings_of(), [changed], account_of) != rules_in_force(
        settings_of(), [made("p")], account_of
    )
