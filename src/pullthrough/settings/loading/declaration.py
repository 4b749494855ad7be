"""What `plan` and `apply` make of the file: templates, access, scanning. A server reads over it once it is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pullthrough.declaration import Declaration, Encryption, NodeAccess, Template
from pullthrough.settings.fields import record_of, settings_of
from pullthrough.settings.keys import did_you_mean_rule, dotted
from pullthrough.settings.loading.rules import Rules
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.module import AccessSettings, ScanningSettings, TemplateSettings
from pullthrough.settings.tables.top import TopSettings


def read_declaration(sources: Sources, top: TopSettings, rules: Rules, usernames: Mapping[str, str]) -> Declaration:
    """`usernames`: those of the accounts, by host; empty for none. Problems are noted in `sources`."""
    access = sources.table(AccessSettings, ("access",), sources.subtable("access")) or AccessSettings()
    scanning = sources.table(ScanningSettings, ("scanning",), sources.subtable("scanning")) or ScanningSettings()
    return Declaration(
        name=top.name,
        rules=rules.enabled,
        disabled=rules.disabled,
        templates=_templates(sources, rules),
        access=record_of(NodeAccess, access, node_roles=_role_names(sources, access.node_roles)),
        scan_frequency=scanning.frequency,
        tags=top.tags,
        usernames={host: username for host, username in usernames.items() if username},
    )


def _role_names(sources: Sources, roles: tuple[str, ...]) -> tuple[str, ...]:
    """IAM's calls take names; an ARN ends with it."""
    names = tuple(role.rpartition("/")[2] for role in roles)
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        sources.problem(f"{sources.named('access', 'node_roles')} has the role {repeated!r} twice")
    return names


def _templates(sources: Sources, rules: Rules) -> dict[str, Template]:
    table = sources.subtable("template")
    for prefix in [key for key, value in table.items() if isinstance(value, dict) and key != "resource_tags"]:
        sources.problem(f"{sources.file}: write [{dotted('templates', prefix)}], not [{dotted('template', prefix)}]")
        del table[prefix]
    common = sources.table(TemplateSettings, ("template",), table) or TemplateSettings()
    _check_template(sources, ("template",), common, table, common.encryption)
    templates = {rule.prefix: common for rule in rules.enabled}
    switched_off = {rule.prefix for rule in rules.disabled}
    for prefix, table in sources.subtable("templates").items():
        path = ("templates", prefix)
        where = sources.header(*path)
        if not isinstance(table, dict):
            sources.problem(
                f"{sources.file}: {dotted(*path)} is not a table; write [templates.<prefix>], or [template] for what "
                "holds for all rules"
            )
        elif prefix in templates:
            templates[prefix] = _template(sources, path, table, common)
        elif prefix in switched_off:
            _template(sources, path, table, common)
            sources.warnings.append(f"{where} is for a rule that is switched off")
        else:
            instead = did_you_mean_rule(prefix, sorted({*templates, *switched_off}), sorted(templates))
            sources.problem(f"{where} is for the rule {prefix[:80]!r}, which does not exist; {instead}")
    return {prefix: record_of(Template, keys) for prefix, keys in templates.items()}


def _template(
    sources: Sources, path: tuple[str, ...], table: Mapping[str, object], common: TemplateSettings
) -> TemplateSettings:
    """What a table of [templates.*] says, and of [template] what it does not."""
    own = sources.table(TemplateSettings, path, table) or TemplateSettings()
    encryption = own.encryption if "encryption" in table else common.encryption
    _check_template(sources, path, own, table, encryption)
    inherited = set(settings_of(TemplateSettings)) - set(table)
    # Of two keys that exclude each other, the one that is said here takes the place of the other one.
    if "keep_images" in table:
        inherited.discard("lifecycle_policy_file")
    if own.repository_policy_file:
        inherited -= {"pull_accounts", "pull_organization"}
    elif own.pull_accounts or own.pull_organization:
        inherited.discard("repository_policy_file")
    # And these two mean nothing, or the opposite, beside another value of the key that they go with.
    if encryption is Encryption.AES256:
        inherited.discard("kms_key")
    if "tag_mutability" in table and own.tag_mutability is not common.tag_mutability:
        inherited.discard("tag_mutability_exclusions")
    for key in inherited:
        if (full := dotted("template", key)) in sources.of:
            sources.of[dotted(*path, key)] = full
    merged = replace(own, **{key: getattr(common, key) for key in inherited})
    sources.tables[path] = merged
    return merged


def _check_template(
    sources: Sources,
    path: tuple[str, ...],
    keys: TemplateSettings,
    table: Mapping[str, object],
    encryption: Encryption,
) -> None:
    """`encryption`: the one in force, which may be said elsewhere."""
    where = sources.header(*path)
    sources.check_file(path, "lifecycle_policy_file", keys.lifecycle_policy_file)
    sources.check_file(path, "repository_policy_file", keys.repository_policy_file)
    if keys.kms_key and encryption is Encryption.AES256:
        sources.problem(f'{where} has a kms_key without encryption = "KMS"; AES256 takes none')
    if keys.lifecycle_policy_file and "keep_images" in table:
        sources.problem(f"{where} has keep_images and a lifecycle_policy_file; remove one or the other")
    if keys.repository_policy_file and (keys.pull_accounts or keys.pull_organization):
        sources.problem(
            f"{where} has a repository_policy_file beside pull_accounts or pull_organization, which exclude each "
            "other; put the accounts into the file"
        )
