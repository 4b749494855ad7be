"""Taking away all that is ours: the plan of `destroy`. Pure."""

from __future__ import annotations

from pullthrough.provision.model.plan import LeftAlone, Plan, Purpose
from pullthrough.provision.model.resources import (
    ResourceKind,
)
from pullthrough.provision.planning.draft import Draft, PlanBasis, upstream_of


def plan_destroy(basis: PlanBasis) -> Plan:
    """What takes away all that is ours, declared or not. `basis.repository_steps` are those of `--delete-repositories`."""
    draft = Draft(basis)
    for _, existing in sorted(basis.observed.of(ResourceKind.RULE).items()):
        declared = basis.desired.get(existing.key) is not None
        if existing.is_of_engine_file:
            if declared:
                reason = "is in the engine's own file; remove it there"
                draft.left.append(LeftAlone(existing.key, reason, upstream_of(existing)))
        elif existing.key in basis.owned.created:
            draft.delete(existing, "it was made by this declaration")
        elif declared and basis.options.include_adopted:
            draft.delete(existing, "it was there before, and --include-adopted names all of them")
        elif declared:
            reason = "is not recorded as made here; --include-adopted removes it too"
            draft.left.append(LeftAlone(existing.key, reason, upstream_of(existing)))
    rules = draft.rules_after()
    in_use = {str(attributes["credentialArn"]) for attributes in rules.values()}
    for existing in sorted(basis.observed.existing.values(), key=lambda entry: str(entry.key)):
        key = existing.key
        if key.kind is ResourceKind.RULE or not draft.is_ours(existing):
            continue
        if key.kind is ResourceKind.SECRET and existing.is_scheduled_for_deletion:
            continue
        if key.kind is ResourceKind.SECRET and existing.arn in in_use:
            draft.left.append(LeftAlone(key, "is used by a rule that stays"))
        elif key.kind is ResourceKind.SECRET:
            draft.delete(existing, "it bears this declaration's mark", needs=draft.rule_steps_with(existing.arn))
        elif key.kind is not ResourceKind.ROLE:
            draft.delete(existing, "it bears this declaration's mark")
    # Once it is known which templates go: they need it till then.
    templates = tuple(step.key for step in draft.steps if step.key.kind is ResourceKind.TEMPLATE)
    for existing in basis.observed.of(ResourceKind.ROLE).values():
        if draft.is_ours(existing):
            draft.delete(existing, "it bears this declaration's mark", needs=templates)
    draft.add_registry_steps(None, None)
    draft.steps += basis.repository_steps
    return draft.plan(Purpose.DESTROY)
