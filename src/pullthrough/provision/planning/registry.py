"""What a plan does to the registry's two documents, its policy and its scanning configuration. Pure.

Only a part of each is ours, and nothing else in them is touched: `merging` puts ours in and takes them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pullthrough.errors import PlanProblem
from pullthrough.provision.model import documents
from pullthrough.provision.model.observed import Observed
from pullthrough.provision.model.plan import Step, StepAction
from pullthrough.provision.model.policies import normal_document, parse_document
from pullthrough.provision.model.resources import REGISTRY, Attributes, Key, Resource, ResourceKind


def statements_step(name: str, observed: Observed, resource: Resource | None) -> Step | None:
    """The step for the statements of the declaration `name`; None where they are as wanted. `resource` None wants none."""
    ours = statements_of(name, observed.registry_policy)
    wanted: list[Any] = list(cast("list[Any]", resource.attributes["statements"])) if resource else []
    if normal_document({"Statement": ours}) == normal_document({"Statement": wanted}):
        return None
    before: Attributes | None = {"statements": ours} if ours else None
    after: Attributes | None = {"statements": wanted} if wanted else None
    reason = resource.reason if resource else "no other account is to fill the cache any more"
    key = Key(ResourceKind.REGISTRY_POLICY, REGISTRY)
    return Step(key, _action(before, after), f"{reason}; other statements stay as they are", before, after)


def statements_of(name: str, policy: str) -> list[Any]:
    """The statements of a registry's policy that the declaration `name` made, by `Sid`."""
    document = parse_document(policy)
    statements = document.get("Statement", []) if isinstance(document, dict) else []
    if isinstance(statements, Mapping):
        statements = [statements]
    ours = [
        statement
        for statement in cast("list[Any]", statements)
        if isinstance(statement, Mapping) and documents.is_our_sid(statement.get("Sid"), name)
    ]
    return sorted(ours, key=lambda statement: str(statement["Sid"]))


def filters_step(observed: Observed, owned: frozenset[str], resource: Resource | None) -> Step | None:
    """The step for our filters; None where they are as wanted. `resource` None wants none.

    Ours are those that were added here (`owned`); any other of the same text is somebody else's and stays. Raises
    PlanProblem for what the registry's scanner does not do.
    """
    there = observed.scanning.entries
    wanted = set(cast("list[str]", resource.attributes["filters"])) if resource else set()
    frequencies = {entry.partition(" ")[0] for entry in wanted}
    if "CONTINUOUS_SCAN" in frequencies and observed.scanning.scan_type != "ENHANCED":
        raise PlanProblem(
            'the registry scans by its basic scanner, and [scanning] frequency = "continuous" wants the enhanced one, which '
            "costs money for all its repositories: switch that on yourself, or use on_push"
        )
    added = sorted(wanted - there)
    removed = sorted((owned & there) - wanted)
    if not added and not removed:
        return None
    ours = sorted((owned | wanted) & there)
    before: Attributes | None = {"filters": list(ours)} if ours else None
    after: Attributes | None = {"filters": sorted(wanted)} if wanted else None
    reason = resource.reason if resource else "scanning of the cache is not declared any more"
    made_rules = {str(rule["scanFrequency"]) for rule in observed.scanning.rules}
    new_rules = sorted({entry.partition(" ")[0] for entry in added} - made_rules)
    return Step(
        Key(ResourceKind.SCANNING, REGISTRY),
        _action(before, after),
        f"{reason}; other filters stay as they are",
        before,
        after,
        details={"add": [*added, *new_rules], "remove": removed, "own": sorted(owned)},
    )


def _action(before: Attributes | None, after: Attributes | None) -> StepAction:
    if after is None:
        return StepAction.DELETE
    return StepAction.UPDATE if before is not None else StepAction.CREATE
