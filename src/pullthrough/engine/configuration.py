"""What can be changed while the engine runs and every request needs: rules, policies, account settings; tags, if asked.

A snapshot, read anew when a worker has committed a change: each such commit moves the configuration's generation
(storage/files/generation.py), so that what one worker changes counts in all others from their next request on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from pullthrough.declaration import ROOT, CredentialSource, Origin, Rule, SecretCredential
from pullthrough.engine.rules import RuleBook
from pullthrough.oci.ecr_upstreams import upstream_host
from pullthrough.oci.names import RepositoryName
from pullthrough.settings import Settings
from pullthrough.storage.interfaces import Changes
from pullthrough.storage.registry.cache_rules import CacheRule, CacheRules
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

#: The names of the registry's documents.
REGISTRY_POLICY = "policy"
SCANNING = "scanning"
REPLICATION = "replication"
SIGNING = "signing"
_ACCOUNT_SETTING = "account-setting:"
#: As a new registry of AWS has them, but that layers are shared between repositories: here they are stored once anyway.
DEFAULT_ACCOUNT_SETTINGS: Mapping[str, str] = {
    "BASIC_SCAN_TYPE_VERSION": "AWS_NATIVE",
    "BLOB_MOUNTING": "ENABLED",
    "REGISTRY_POLICY_SCOPE": "V2",
}


@dataclass(frozen=True, slots=True)
class _Snapshot:
    #: The generation's counters before it was read.
    stamp: bytes
    cache_rules: tuple[CacheRule, ...]
    rules: tuple[Rule, ...]
    #: The registry's own repositories under the rules.
    own: tuple[RepositoryName, ...]
    documents: Mapping[str, str]
    repository_policies: Mapping[RepositoryName, str]
    exclusions: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Tags:
    stamp: bytes
    by_repository: Mapping[RepositoryName, Mapping[str, str]]


class Configuration:
    """Belongs to an event loop. Reads the catalog once when it is made, and may raise StorageError then."""

    def __init__(
        self,
        settings: Settings,
        *,
        cache_rules: CacheRules,
        documents: DocumentRows,
        exclusions: PullTimeExclusions,
        repositories: Repositories,
        account_of: Callable[[str], str],
        generation: Changes,
        call: Runner,
    ) -> None:
        """`account_of`: the user name in the secret of an ARN; blocking."""
        self._settings = settings
        self._cache_rules = cache_rules
        self._documents = documents
        self._exclusions = exclusions
        self._repositories = repositories
        self._account_of = account_of
        self._generation = generation
        self._call = call
        self._reading = asyncio.Lock()
        self._snapshot = self._read()
        self._tags: _Tags | None = None
        #: Rules of the file, of the API and the built-in ones, in this order of precedence for a prefix.
        self.rules = RuleBook(self._snapshot.rules, self._snapshot.own)

    @property
    def is_current(self) -> bool:
        """Whether nothing was changed since it was read; else `refresh` comes first. Costs no system call."""
        return self._snapshot.stamp == self._generation.read()

    async def refresh(self) -> None:
        """Read what has changed; one reader at a time. Raises StorageError where that cannot be."""
        async with self._reading:
            if self.is_current:
                return
            before = self._snapshot
            self._snapshot = found = await self._call(self._read)
            if (found.rules, found.own) != (before.rules, before.own):  # else what the book has cached holds still
                self.rules = RuleBook(found.rules, found.own)

    async def current_rules(self) -> RuleBook:
        """The rules in force at this moment. Raises StorageError where they cannot be read."""
        if not self.is_current:
            await self.refresh()
        return self.rules

    def rule(self, prefix: str) -> Rule:
        """The rule in force for exactly this prefix, which must have one."""
        return next(rule for rule in self._snapshot.rules if rule.prefix == prefix)

    @property
    def cache_rules(self) -> tuple[CacheRule, ...]:
        """Those made through the API, by prefix; one of the file with the same prefix goes before them."""
        return self._snapshot.cache_rules

    def document(self, name: str) -> str | None:
        """One of the registry's documents; None where none was put."""
        return self._snapshot.documents.get(name)

    @property
    def registry_policy(self) -> str | None:
        return self.document(REGISTRY_POLICY)

    @property
    def repository_policies(self) -> Mapping[RepositoryName, str]:
        """Of the repositories that have one."""
        return self._snapshot.repository_policies

    @property
    def repository_tags(self) -> Mapping[RepositoryName, Mapping[str, str]] | None:
        """AWS's tags of the repositories that have any, as they were read last; None before that."""
        return None if self._tags is None else self._tags.by_repository

    async def read_repository_tags(self) -> None:
        """Have `repository_tags` as they are now. There may be many of them, so that they are not read for nothing.

        Raises StorageError where that cannot be.
        """
        if self._tags is not None and self._tags.stamp == self._generation.read():
            return
        async with self._reading:
            stamp = self._generation.read()
            if self._tags is None or self._tags.stamp != stamp:
                self._tags = _Tags(stamp, await self._call(self._repositories.all_tags))

    @property
    def pull_time_exclusions(self) -> frozenset[str]:
        """ARNs of principals whose pulls leave an image's pull time as it is."""
        return self._snapshot.exclusions

    def account_setting(self, name: str) -> str:
        """The value that was put, or the default; `name` is one of DEFAULT_ACCOUNT_SETTINGS."""
        return self._snapshot.documents.get(account_setting_document(name), DEFAULT_ACCOUNT_SETTINGS[name])

    def _read(self) -> _Snapshot:
        stamp = self._generation.read()  # before the catalog: what is committed in between makes this one outdated
        cache_rules = tuple(self._cache_rules.all())
        rules = rules_in_force(self._settings, cache_rules, self._account_of)
        return _Snapshot(
            stamp,
            cache_rules,
            rules,
            tuple(self._repositories.own_names({rule.prefix for rule in rules})),
            self._documents.all(),
            self._repositories.policies(),
            frozenset(self._exclusions.all()),
        )


def account_setting_document(name: str) -> str:
    """The name under which an account setting is kept among the registry's documents."""
    return f"{_ACCOUNT_SETTING}{name}"


def rules_in_force(settings: Settings, made: Iterable[CacheRule], account_of: Callable[[str], str]) -> tuple[Rule, ...]:
    """One rule a prefix: the file's, else the API's, else the built-in one. Credentials in secrets know their account."""
    accounts = {} if settings.ecr.strict else settings.accounts
    by_prefix = {rule.prefix: rule for rule in settings.rules if rule.origin is Origin.BUILT_IN}
    by_prefix |= {rule.prefix: _rule(rule, accounts) for rule in made}
    by_prefix |= {rule.prefix: rule for rule in settings.rules if rule.origin is Origin.FILE}
    return tuple(
        replace(rule, credential=SecretCredential(credential.arn, account_of(credential.arn)))
        if isinstance(credential := rule.credential, SecretCredential)
        else rule
        for rule in by_prefix.values()
    )


def _rule(made: CacheRule, accounts: Mapping[str, CredentialSource]) -> Rule:
    upstream = upstream_host(made.upstream_registry_url)
    upstream_prefix = (made.upstream_repository_prefix or ROOT).removesuffix("/")
    return Rule(
        prefix=made.prefix,
        upstream=upstream,
        upstream_repository_prefix="" if upstream_prefix == ROOT else upstream_prefix,
        credential=SecretCredential(made.credential_arn) if made.credential_arn else accounts.get(upstream),
        origin=Origin.API,
    )
