"""From what an account has to a declaration of it, with which `pullthrough plan` has nothing to do. Pure.

The declaration leaves out what it cannot say, so that nothing touches it, and a comment at the top lists it. Secrets are
named by their ARN and stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import tomli_w

from pullthrough.declaration import ROOT, STANDARD_UPSTREAMS, ScanFrequency
from pullthrough.errors import RequestError
from pullthrough.oci.ecr_upstreams import WANT_SECRET, kind_of
from pullthrough.oci.names import parse_repository_name
from pullthrough.provision.imports.templates import (
    FileNames,
    Grants,
    Inexpressible,
    accounts_and_organization,
    checked,
    is_accepted,
    template_table,
)
from pullthrough.provision.model import documents
from pullthrough.provision.model.accounts import INPUTS
from pullthrough.provision.model.desired import SCAN_FREQUENCIES
from pullthrough.provision.model.observed import Observed
from pullthrough.provision.model.resources import MARKER_TAG, Existing, ResourceKind
from pullthrough.provision.planning.registry import statements_of
from pullthrough.settings.tables import AccessSettings, RuleSettings, TopSettings

DEFAULT_NAME = "pullthrough"
_WIDTH = 110


@dataclass(frozen=True, slots=True)
class Imported:
    #: Of a pullthrough.toml.
    text: str
    #: Policies that the text names, by their path beside it.
    files: Mapping[str, str] = field(default_factory=dict)
    #: What of the account the declaration does not say, for people; in the text's comment too.
    notes: tuple[str, ...] = ()


def declaration_text(observed: Observed, *, name: str | None = None) -> Imported:
    """The declaration of all rules that are there, and of what belongs to them.

    `name` None means the name in most of the marks that are there, or `pullthrough` where there are none.
    """
    importer = _Importer(observed, name or _most_marks(observed) or DEFAULT_NAME)
    document = importer.document()
    text = _header(observed, importer.notes, importer.differences) + tomli_w.dumps(document)
    return Imported(text, importer.files.contents, (*importer.notes, *importer.differences))


def _most_marks(observed: Observed) -> str:
    marks = Counter(existing.marked_by for existing in observed.existing.values() if existing.marked_by)
    return min(marks, key=lambda mark: (-marks[mark], mark)) if marks else ""


def _header(observed: Observed, notes: Iterable[str], differences: Sequence[str]) -> str:
    but = ", but for what stands below" if differences else ""
    lines = [
        f"What {observed.target} had, by `pullthrough import`.",
        f"`pullthrough plan` with this file has nothing to do there{but}. Secrets are named by their ARN and stay as",
        "they are; a username and a token in place of credential_arn let `pullthrough apply` keep one.",
    ]
    for title, said in (("Not in here, and left alone:", notes), ("What `plan` would do:", differences)):
        if said := list(said):
            lines += ["", title, *(line for note in said for line in _wrapped(note))]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def _wrapped(note: str) -> list[str]:
    # A text from AWS must not end its comment.
    words = "".join(character if character.isprintable() else " " for character in note).split()
    lines, start = [], "- "
    line = start
    for word in words:
        if len(line) + len(word) > _WIDTH and line.strip("- "):
            lines.append(line.rstrip())
            line = "  "
        line += f"{word} "
    return [*lines, line.rstrip()]


class _Importer:
    """One import. `notes` and `files` are complete once `document` was called."""

    def __init__(self, observed: Observed, name: str) -> None:
        self._observed = observed
        self._target = observed.target
        self._name = name
        #: What the declaration does not say.
        self.notes: list[str] = []
        #: What it can only say otherwise than it is.
        self.differences: list[str] = []
        self.files = FileNames()

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = {}
        if self._name != DEFAULT_NAME:
            document["name"] = self._name
        rules = self._rules()
        if tags := self._tags():
            document["tags"] = tags
        if rules:
            document["rules"] = rules
        on = [prefix for prefix, table in rules.items() if table.get("enabled", True)]
        on += [prefix for prefix in STANDARD_UPSTREAMS if prefix not in rules]
        access, granted = self._access(on)
        document |= self._templates(on, granted)
        if access:
            document["access"] = access
        if frequency := self._scan_frequency(on):
            document["scanning"] = {"frequency": frequency.value}
        return document

    # Rules

    def _rules(self) -> dict[str, dict[str, Any]]:
        """The rules' tables, by prefix. A standard rule that is there unchanged needs none."""
        there = self._observed.of(ResourceKind.RULE)
        tables: dict[str, dict[str, Any]] = {}
        for prefix in (*STANDARD_UPSTREAMS, *sorted(set(there) - set(STANDARD_UPSTREAMS))):
            table: dict[str, Any] | None = {"enabled": False} if prefix not in there else None
            try:
                table = table or self._rule(prefix, there[prefix])
            except Inexpressible as reason:
                self.notes.append(f"the rule {prefix}: {reason}")
                table = {"enabled": False} if prefix in STANDARD_UPSTREAMS else None
            if table:
                tables[prefix] = table
        return tables

    def _rule(self, prefix: str, existing: Existing) -> dict[str, Any]:
        """A rule's table; empty for a standard rule that is unchanged. Raises Inexpressible."""
        attributes = existing.attributes
        upstream = str(attributes["upstreamRegistryUrl"])
        if prefix != ROOT:
            _check_prefix(prefix)
        table = {} if upstream == STANDARD_UPSTREAMS.get(prefix) else checked(RuleSettings, "upstream", upstream)
        if (above := str(attributes["upstreamRepositoryPrefix"])) != ROOT:
            table |= checked(RuleSettings, "upstream_repository_prefix", above)
        if role := str(attributes["customRoleArn"]):
            table |= checked(RuleSettings, "custom_role_arn", role)
        if arn := str(attributes["credentialArn"]):
            table |= checked(RuleSettings, "credential_arn", arn)
        elif self._wants_account(upstream):
            # An engine pulls without one. A rule of its file may have one, which the API does not show, and needs none here.
            table["anonymous"] = True
        return table

    def _wants_account(self, upstream: str) -> bool:
        """Whether `plan` asks for an account unless the rule says that it has none."""
        return upstream in INPUTS or (not self._target.is_engine and kind_of(upstream) in WANT_SECRET)

    # Templates

    def _templates(self, prefixes: Sequence[str], granted: Grants) -> dict[str, Any]:
        """`template`, where all rules have the same one, and `templates`."""
        there = self._observed.of(ResourceKind.TEMPLATE)
        tables: dict[str, dict[str, Any]] = {}
        for prefix in prefixes:
            tables[prefix] = self._template(prefix, there[prefix], granted) if prefix in there else {"enabled": False}
        for prefix in sorted(set(there) - set(prefixes)):
            self.notes.append(f"the template {prefix}: there is no rule with its prefix")
        on = [table for table in tables.values() if table.get("enabled", True)]
        if len(on) > 1 and all(table == on[0] for table in on):
            common = on[0]
            tables = {prefix: table for prefix, table in tables.items() if table != common}
        else:
            common, tables = {}, {prefix: table for prefix, table in tables.items() if table}
        return {**({"template": common} if common else {}), **({"templates": tables} if tables else {})}

    def _template(self, prefix: str, existing: Existing, granted: Grants) -> dict[str, Any]:
        try:
            return template_table(self._observed, self._name, prefix, existing, granted, self.files)
        except Inexpressible as reason:
            self.notes.append(f"the template {prefix}: {reason}")
            return {"enabled": False}

    # Access, scanning, tags

    def _access(self, prefixes: Sequence[str]) -> tuple[dict[str, Any], Grants]:
        """The table, and what it lets other accounts do, which each template's own policy repeats."""
        table: dict[str, Any] = {}
        policy_name = documents.access_policy_name(self._name)
        roles = [
            existing.key.name
            for existing in self._observed.of(ResourceKind.NODE_ACCESS).values()
            if existing.attributes["policyName"] == policy_name
        ]
        if roles and is_accepted(AccessSettings, "node_roles", sorted(roles)):
            table["node_roles"] = sorted(roles)
        ours = statements_of(self._name, self._observed.registry_policy)
        granted = accounts_and_organization(ours)
        made = documents.registry_statements(self._target, self._name, granted.accounts, granted.organization, prefixes)
        if ours != made:
            self.differences.append(
                "the registry's policy has statements of this declaration that are not for all these rules, or not for them "
                "alone"
            )
        if granted.accounts:
            table["pull_accounts"] = list(granted.accounts)
        if granted.organization:
            table["pull_organization"] = granted.organization
        return table, granted

    def _scan_frequency(self, prefixes: Sequence[str]) -> ScanFrequency | None:
        """Where there is a filter for each rule. Filters bear no mark; `*`, which ROOT would want, may be anybody's."""
        if not prefixes or ROOT in prefixes:
            return None
        for frequency, word in SCAN_FREQUENCIES.items():
            if {f"{word} {prefix}/*" for prefix in prefixes} <= self._observed.scanning.entries:
                return frequency
        return None

    def _tags(self) -> dict[str, str]:
        """The declaration's tags: those of our template role, without its mark."""
        role = self._observed.get(ResourceKind.ROLE, documents.template_role_name(self._name))
        if role is None or role.marked_by != self._name:
            return {}
        found = cast("Mapping[str, str]", role.attributes["tags"])
        tags = {key: value for key, value in found.items() if key != MARKER_TAG}
        return tags if is_accepted(TopSettings, "tags", tags) else {}


def _check_prefix(prefix: str) -> None:
    try:
        parse_repository_name(prefix)
    except RequestError as error:
        raise Inexpressible(error.message) from error
