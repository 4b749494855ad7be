"""The rules: those of the file, then the built-in ones that it does not replace."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pullthrough.declaration import ROOT, STANDARD_RULES, STANDARD_UPSTREAMS, Rule
from pullthrough.errors import RequestError
from pullthrough.oci.names import parse_repository_name
from pullthrough.settings.fields import record_of
from pullthrough.settings.keys import dotted
from pullthrough.settings.loading.accounts import ACCOUNTS, Accounts
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.rules import RuleSettings


@dataclass(frozen=True, slots=True)
class Rules:
    enabled: tuple[Rule, ...]
    #: Those that say `enabled = false`, and the built-in ones where there are to be none.
    disabled: tuple[Rule, ...]


def read_rules(sources: Sources, accounts: Accounts, *, with_standard_rules: bool) -> Rules:
    tables = sources.subtable("rules")
    enabled: list[Rule] = []
    disabled: list[Rule] = []
    for prefix, table in tables.items():
        if (keys := _read_table(sources, prefix, table)) is not None:
            rule = record_of(Rule, keys, prefix=prefix, credential=accounts.of_rule(prefix, keys))
            (enabled if keys.enabled else disabled).append(rule)
    for rule in STANDARD_RULES:
        if rule.prefix in tables:
            continue
        if not with_standard_rules:
            disabled.append(rule)
            continue
        path = ("rules", rule.prefix)
        sources.tables[path] = RuleSettings(upstream=rule.upstream)
        sources.of[dotted(*path, "upstream")] = "built-in rule"
        enabled.append(replace(rule, credential=accounts.of_upstream.get(rule.upstream)))
    return Rules(tuple(enabled), tuple(disabled))


def _read_table(sources: Sources, prefix: str, table: object) -> RuleSettings | None:
    path = ("rules", prefix)
    where = sources.header(*path)
    if not isinstance(table, dict):
        sources.problem(f"{sources.file}: {dotted(*path)} is not a table; write [rules.<prefix>]")
        return None
    if not _is_rule_prefix(prefix):
        sources.problem(
            f"{where} is not for a prefix: leading segments of a repository name such as docker-hub or "
            '"team/images", without a slash at the end, or ROOT'
        )
        return None
    keys = sources.table(RuleSettings, path, table) or RuleSettings()
    if "upstream" not in table and prefix in STANDARD_UPSTREAMS:
        keys = replace(keys, upstream=STANDARD_UPSTREAMS[prefix])
        sources.tables[path] = keys
        sources.of[dotted(*path, "upstream")] = "built-in rule"
    elif "upstream" not in table:
        sources.problem(f'{where} lacks its upstream; add upstream = "registry.example.com"')
    return keys


def warn_of_rules(sources: Sources, rules: tuple[Rule, ...], accounts: Accounts) -> None:
    others = [rule.prefix for rule in rules if rule.prefix != ROOT]
    if others and len(others) < len(rules):
        sources.warnings.append(
            f"the rule ROOT stands beside other prefixes ({', '.join(others)}): a misspelt prefix is looked for in "
            "ROOT's upstream instead of being refused"
        )
    for name, host in ACCOUNTS.items():
        account = accounts.of_upstream.get(host)
        if account is not None and not any(rule.credential == account for rule in rules):
            sources.warnings.append(f"{sources.named(f'{name}_username')} is not used by any rule of the settings")


def _is_rule_prefix(prefix: str) -> bool:
    if prefix == ROOT:
        return True
    try:
        parse_repository_name(prefix)
    except RequestError:
        return False
    return True
