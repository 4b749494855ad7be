"""Whose content is whose, seen at the start of an engine: what an earlier version did not write down, and which of the
registry's own repositories a rule covers.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from pullthrough.credentials import CredentialUnreadable, parse_secret
from pullthrough.declaration import Rule
from pullthrough.engine.configuration import rules_in_force
from pullthrough.engine.rules import RuleBook
from pullthrough.errors import Denied, RepositoryUnknown
from pullthrough.oci.names import RepositoryName
from pullthrough.settings import Settings
from pullthrough.storage.registry.cache_rules import CacheRules
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.storage.secrets.credential_accounts import CredentialAccounts
from pullthrough.storage.secrets.master_keys import MasterKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.storage.sql.database import Database

_log = logging.getLogger(__name__)
#: Names in one sentence.
_MOST_NAMED = 10


def look_at_owners(settings: Settings, database: Database) -> None:
    """Before the engine serves: whose is what it has."""
    ecr = settings.ecr
    sealer = Sealer(MasterKeys(settings.encryption_key_path, os.environ))
    secrets = Secrets(database, sealer, account=ecr.account, region=ecr.region)
    repositories = Repositories(database)
    accounts = credential_accounts(database, secrets)
    rules = rules_in_force(settings, CacheRules(database).all(), accounts.account_of)
    settle_owners(repositories, rules)
    warn_of_covered(repositories.own_names([rule.prefix for rule in rules]), rules)


def credential_accounts(database: Database, secrets: Secrets) -> CredentialAccounts:
    """Whose the credentials in these secrets are."""

    def read_username(arn: str) -> str | None:
        try:
            return parse_secret(secrets.read(arn).value.content).username
        except CredentialUnreadable:
            return None

    return CredentialAccounts(database, read_username)


def settle_owners(repositories: Repositories, rules: Sequence[Rule]) -> None:
    """What is stored under a rule's names since before owners were written down came from that rule's upstream.

    What no rule covers stays nobody's: it is read under its name until a rule takes that.
    """
    book = RuleBook(rules)
    owners = {}
    for name in repositories.unknown_names():
        try:
            target = book.resolve(name).literal
        except (Denied, RepositoryUnknown):
            continue
        if target.owner is not None and target.repository == name:
            owners[name] = target.owner
    if owners:
        repositories.settle_owners(owners)
        _log.info("%d repositories of an earlier version belong to the upstreams of their rules now", len(owners))


def warn_of_covered(own: Sequence[RepositoryName], rules: Sequence[Rule]) -> None:
    """Say which of the registry's own repositories are under rules."""
    book = RuleBook(rules)
    for rule in rules:
        if names := [name for name in own if book.covering(name) is rule]:
            _log.warning("%s", covered(rule.prefix, rule.upstream, names))


def covered(prefix: str, upstream: str, names: Sequence[str]) -> str:
    """What a person should know of a rule over names that were pushed."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"the rule {prefix!r} covers what was pushed to this registry: {', '.join(names[:_MOST_NAMED])}{more}. It stays "
        f"the registry's own, and {upstream} is never asked for it; delete a repository to have its name filled from there"
    )
