"""Desired minus observed: the plan. Pure.

What is ours is what bears the declaration's mark or stands in the journal. What is ours and wanted no more goes, once no
rule needs it. What is somebody else's is used as it is where it is as declared, and is a problem where it is not, unless
the person takes it over. Rules, which AWS cannot mark, are matched by prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast

from pullthrough.declaration import Declaration
from pullthrough.errors import PlanProblem
from pullthrough.provision import documents
from pullthrough.provision.journal import Owned
from pullthrough.provision.observe import UNREADABLE, Observed, Questions
from pullthrough.provision.plan import Action, LeftAlone, Options, Plan, Purpose, Step, in_order
from pullthrough.provision.registry import filters_step, statements_step
from pullthrough.provision.resources import (
    REGISTRY,
    Attributes,
    Desired,
    Existing,
    Json,
    Key,
    Resource,
    ResourceKind,
    secret_reference,
)

#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_RULES = 50
#: Days in which a deleted secret can be restored: Secrets Manager's own default.
RECOVERY_DAYS = 30
#: Policies: AWS may give them back in other words.
_DOCUMENTS = frozenset({"lifecyclePolicy", "policy", "repositoryPolicy", "trustPolicy"})
#: What belongs to the mark, and may differ where somebody else's thing is used as it is.
_OF_THE_MARK = frozenset({"description", "tags"})


def questions_of(declaration: Declaration, desired: Desired, owned: Owned) -> Questions:
    """What has to be looked at for this plan."""
    nodes = {resource.key.name for resource in desired.of(ResourceKind.NODE_ACCESS)}
    nodes |= {key.name for key in owned.created if key.kind is ResourceKind.NODE_ACCESS}
    roles = {resource.key.name for resource in desired.of(ResourceKind.ROLE)}
    roles |= {key.name for key in owned.created | owned.attempted if key.kind is ResourceKind.ROLE}
    own = {secret_reference(resource.key.name) for resource in desired.of(ResourceKind.SECRET)}
    given = {str(rule.attributes["credentialArn"]) for rule in desired.of(ResourceKind.RULE)} - own - {""}
    return Questions(
        secrets=tuple(resource.key.name for resource in desired.of(ResourceKind.SECRET)),
        given_secrets=tuple(sorted(given)),
        node_roles=tuple(sorted(nodes)),
        node_policy_name=documents.access_policy_name(declaration.name),
        roles=tuple(sorted(roles)),
    )


def plan_apply(
    name: str,
    desired: Desired,
    observed: Observed,
    owned: Owned,
    options: Options,
    *,
    repository_steps: Iterable[Step] = (),
    fingerprint_key: str = "",
) -> Plan:
    """What makes `observed` as `desired`. `repository_steps` are those of `--existing`."""
    planner = _Planner(name, desired, observed, owned, options)
    planner.plan(repository_steps)
    return planner.result(Purpose.APPLY, fingerprint_key)


def plan_destroy(
    name: str,
    desired: Desired,
    observed: Observed,
    owned: Owned,
    options: Options,
    *,
    repository_steps: Iterable[Step] = (),
    fingerprint_key: str = "",
) -> Plan:
    """What takes away all that is ours, declared or not. `repository_steps` are those of `--delete-repositories`."""
    planner = _Planner(name, desired, observed, owned, options)
    planner.plan_destroy(repository_steps)
    return planner.result(Purpose.DESTROY, fingerprint_key)


class _Planner:
    def __init__(self, name: str, desired: Desired, observed: Observed, owned: Owned, options: Options) -> None:
        self._name = name
        self._desired = desired
        self._observed = observed
        self._owned = owned
        self._options = options
        self._steps: list[Step] = []
        self._left: list[LeftAlone] = []
        self._notes: list[str] = list(desired.notes)
        self._problems: list[str] = []
        #: Prefixes of declared rules that the engine's own file has.
        self._in_file: set[str] = set()

    def result(self, purpose: Purpose, fingerprint_key: str) -> Plan:
        order = list(ResourceKind)
        steps = sorted(self._steps, key=lambda step: (step.action is Action.DELETE, order.index(step.key.kind)))
        return Plan(
            purpose=purpose,
            name=self._name,
            target=self._observed.target,
            options=self._options,
            steps=in_order(steps),
            left_alone=tuple(self._left),
            not_applicable=self._desired.not_applicable,
            notes=tuple(self._notes),
            problems=tuple(self._problems),
            fingerprint_key=fingerprint_key,
            gone=tuple(self._gone()),
        )

    def _gone(self) -> Iterable[Step]:
        """What the journal has and the target has not, and what no step makes."""
        planned = {step.key for step in self._steps}
        for key in sorted(self._owned.created | self._owned.attempted):
            existing = self._observed.existing.get(key)
            if key not in planned and (existing is None or existing.is_scheduled_for_deletion):
                yield Step(key, Action.DELETE, "it is gone already")
        added = {entry for step in self._steps for entry in cast("list[str]", step.details.get("add", []))}
        filters = {entry for entry in self._owned.filters if " " in entry}
        if lost := sorted(filters - self._observed.scanning.entries - added):
            yield Step(
                Key(ResourceKind.SCANNING, REGISTRY), Action.UPDATE, "they are gone already", details={"remove": lost}
            )

    # apply

    def plan(self, repository_steps: Iterable[Step]) -> None:
        self._check_options()
        for rule in self._desired.of(ResourceKind.RULE):
            if (existing := self._observed.get(ResourceKind.RULE, rule.key.name)) and existing.is_of_engine_file:
                self._in_file.add(rule.key.name)
        for secret in self._desired.of(ResourceKind.SECRET):
            self._plan_secret(secret)
        for role in self._desired.of(ResourceKind.ROLE):
            self._plan_marked(role)
        for rule in self._desired.of(ResourceKind.RULE):
            self._plan_rule(rule)
        for template in self._desired.of(ResourceKind.TEMPLATE):
            self._plan_marked(template)
        for access in self._desired.of(ResourceKind.NODE_ACCESS):
            self._plan_node_access(access)
        self._plan_registry(
            self._desired.get(Key(ResourceKind.REGISTRY_POLICY, REGISTRY)),
            self._desired.get(Key(ResourceKind.SCANNING, REGISTRY)),
        )
        self._prune()
        self._remove_leftovers()
        self._steps += repository_steps
        self._check_quota()

    def _check_options(self) -> None:
        declared = {rule.key.name for rule in self._desired.of(ResourceKind.RULE)}
        there = self._observed.of(ResourceKind.RULE)
        for prefix in self._options.prune:
            if prefix in declared:
                self._problems.append(f"--prune {prefix}: that rule is declared; remove it from the declaration first")
            elif prefix not in there and not self._is_leftover_prefix(prefix):
                known = ", ".join(sorted(set(there) - declared)) or "none"
                self._problems.append(f"--prune {prefix}: there is no such rule; those not declared are: {known}")
        known_keys = {str(key) for key in self._observed.existing}
        for text in self._options.adopt:
            if text not in known_keys:
                self._problems.append(f"--adopt {text}: there is no such thing; write it as the plan does, kind:name")

    def _is_leftover_prefix(self, prefix: str) -> bool:
        template = self._observed.get(ResourceKind.TEMPLATE, prefix)
        return template is not None and self._is_ours(template)

    def _check_quota(self) -> None:
        made = sum(step.key.kind is ResourceKind.RULE and step.action is Action.CREATE for step in self._steps)
        gone = sum(step.key.kind is ResourceKind.RULE and step.action is Action.DELETE for step in self._steps)
        there = len(self._observed.of(ResourceKind.RULE))
        if there + made > MAX_RULES:
            # Room is made before it is needed.
            ends = tuple(
                step.key for step in self._steps if step.key.kind is ResourceKind.RULE and step.action is Action.DELETE
            )
            self._steps = [
                replace(step, needs=(*step.needs, *ends))
                if step.key.kind is ResourceKind.RULE and step.action is Action.CREATE
                else step
                for step in self._steps
            ]
        if made and there + made - gone > MAX_RULES:
            self._problems.append(
                f"the registry would have {there + made - gone} rules, and {MAX_RULES} are all that ECR allows; {there} are "
                "there. Switch some off with enabled = false, or remove others with --prune PREFIX"
            )

    # One kind each

    def _plan_secret(self, resource: Resource) -> None:
        """A secret is made, put right, or restored; one that serves only rules of the engine's file is not needed."""
        dependents = [rule.key.name for rule in self._desired.of(ResourceKind.RULE) if resource.key in rule.needs]
        is_needed = not dependents or any(prefix not in self._in_file for prefix in dependents)
        if not is_needed and resource.key not in self._observed.existing:
            self._notes.append(
                f"the secret {resource.key.name} is not needed: the engine's own file has the account of "
                f"{', '.join(dependents)}"
            )
            return
        existing = self._observed.existing.get(resource.key)
        if existing is not None and existing.attributes["accessToken"] == UNREADABLE:
            self._problems.append(
                f"the value of the secret {resource.key.name} can not be read; allow secretsmanager:GetSecretValue and the "
                "use of its key"
            )
            return
        if existing is not None and existing.is_scheduled_for_deletion:
            if not self._is_ours(existing) and not self._may_adopt(resource):
                self._conflict(resource, existing, "is to be deleted")
                return
            # What it holds is not told before it is restored.
            before = {**existing.attributes, "accessToken": "(to be deleted)", "username": ""}
            self._add(resource, Action.RESTORE, "it is to be deleted, and is wanted again", before, existing)
            return
        self._plan_marked(resource)

    def _plan_marked(self, resource: Resource) -> None:
        """Of a kind that bears a mark: secret, role, template."""
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._add(resource, Action.CREATE, resource.reason)
            return
        if not self._is_ours(existing) and not self._may_adopt(resource):
            if _OF_THE_MARK.issuperset(_differing(resource, existing)):
                self._left.append(
                    LeftAlone(resource.key, "is there as declared and somebody else's; used as it is, never removed")
                )
            else:
                self._conflict(resource, existing, "differs from what is declared")
            return
        differing = _differing(resource, existing)
        if not differing:
            return
        adopted = not self._is_ours(existing)
        reason = "taken over, as asked" if adopted else _reason(differing)
        self._add(
            resource, Action.UPDATE, reason, existing.attributes, existing, details={"adopted": True} if adopted else {}
        )

    def _conflict(self, resource: Resource, existing: Existing, how: str) -> None:
        whose = f"the declaration {existing.marked_by!r}'s" if existing.marked_by else "not this declaration's"
        instead = {
            ResourceKind.SECRET: "; or use it as it is, with credential_arn in the rule's table; "
            "or give the rule another secret_name",
            ResourceKind.TEMPLATE: "; or leave it, with enabled = false in [templates.<prefix>]",
        }.get(resource.key.kind, "")
        differing = [name for name in _differing(resource, existing) if name not in _OF_THE_MARK]
        where = f" ({', '.join(differing)})" if differing and not existing.is_scheduled_for_deletion else ""
        self._problems.append(
            f"the {resource.key.kind} {resource.key.name} is {whose} and {how}{where}: take it over with --adopt "
            f"'{resource.key}'{instead}"
        )

    def _plan_rule(self, resource: Resource) -> None:
        prefix = resource.key.name
        resource = replace(resource, attributes=self._with_arn(resource.attributes))
        self._check_given_secret(resource)
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._add(resource, Action.CREATE, resource.reason)
            return
        if existing.is_of_engine_file:
            self._plan_file_rule(resource, existing)
            return
        differing = _differing(resource, existing)
        if not differing:
            return
        # AWS's Update sets an ARN, and takes none away.
        updatable = {name for name in ("credentialArn", "customRoleArn") if resource.attributes[name]}
        if updatable.issuperset(differing):
            self._add(resource, Action.UPDATE, _reason(differing), existing.attributes, existing)
            return
        was, wanted = existing.attributes["upstreamRegistryUrl"], resource.attributes["upstreamRegistryUrl"]
        what = f"comes from {was}, not from {wanted}" if was != wanted else f"differs in {', '.join(differing)}"
        if not self._options.replace:
            self._problems.append(
                f"the rule {prefix} {what}, which AWS changes only by deleting the rule and making it anew; pulls of what is "
                "not cached fail in between. Allow it with --replace"
            )
            return
        self._add(resource, Action.REPLACE, f"it {what}", existing.attributes, existing)

    def _plan_file_rule(self, resource: Resource, existing: Existing) -> None:
        """A rule of the engine's own file: the API does not change it. Its account is the file's business."""
        prefix = resource.key.name
        names = ["upstreamRegistryUrl", "upstreamRepositoryPrefix"]
        differing = [name for name in names if existing.attributes[name] != resource.attributes[name]]
        if differing:
            key = {"upstreamRegistryUrl": "upstream", "upstreamRepositoryPrefix": "upstream_repository_prefix"}
            for name in differing:
                self._problems.append(
                    f"the rule {prefix} is written in the engine's own pullthrough.toml with another "
                    f"{key[name]} ({existing.attributes[name]}, not {resource.attributes[name]}); change [rules.{prefix}] "
                    f"{key[name]} there and restart the engine, or change the declaration"
                )
            return
        self._left.append(LeftAlone(resource.key, "is in the engine's own file, as declared", _upstream(existing)))

    def _check_given_secret(self, resource: Resource) -> None:
        arn = str(resource.attributes["credentialArn"])
        if arn not in self._observed.given_secrets:
            return
        where = f'the rule {resource.key.name} has credential_arn = "{arn}"'
        secret = self._observed.given_secrets[arn]
        target = self._observed.target
        if secret is None:
            self._problems.append(f"{where}, and there is no such secret; make it, or correct the ARN")
        elif secret.is_scheduled_for_deletion:
            self._problems.append(f"{where}, and that secret is to be deleted; restore it, or name another one")
        elif secret.attributes["kmsKeyId"]:
            self._problems.append(
                f"{where}, and that secret is encrypted with a key of your own; ECR can read secrets only that are encrypted "
                "with aws/secretsmanager"
            )
        if arn.split(":")[3:5] != [target.region, target.account]:
            self._problems.append(
                f"{where}, which is in another account or region than the rule, where ECR does not look"
            )

    def _plan_node_access(self, resource: Resource) -> None:
        role = resource.key.name
        if role in self._observed.absent_roles:
            self._problems.append(
                f"[access] node_roles names {role}, and there is no such role in account {self._observed.target.account}; "
                "correct the name, or make the role first"
            )
            return
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._add(resource, Action.CREATE, resource.reason)
        elif differing := _differing(resource, existing):
            self._add(resource, Action.UPDATE, _reason(differing), existing.attributes, existing)

    def _plan_registry(self, policy: Resource | None, scanning: Resource | None) -> None:
        """The registry's documents, of which only a part is ours; None where we want nothing in them."""
        try:
            steps = (
                statements_step(self._name, self._observed, policy),
                filters_step(self._observed, self._owned.filters, scanning),
            )
        except PlanProblem as problem:
            self._problems.append(problem.message)
            return
        self._steps += [step for step in steps if step is not None]

    # What is not declared

    def _prune(self) -> None:
        declared = {rule.key.name for rule in self._desired.of(ResourceKind.RULE)}
        for prefix, existing in sorted(self._observed.of(ResourceKind.RULE).items()):
            if prefix in declared:
                continue
            if existing.is_of_engine_file:
                self._left.append(LeftAlone(existing.key, "is in the engine's own file", _upstream(existing)))
            elif prefix in self._options.prune:
                self._delete(existing, "it is not declared, and --prune names it")
            else:
                reason = f"is not declared; --prune {prefix} removes it"
                self._left.append(LeftAlone(existing.key, reason, _upstream(existing)))

    def _remove_leftovers(self) -> None:
        """What is ours and serves no rule any more."""
        rules = self._rules_after()
        in_use = {str(attributes["credentialArn"]) for attributes in rules.values()}
        wanted = {resource.key for resource in self._desired.resources}
        for existing in sorted(self._observed.existing.values(), key=lambda entry: str(entry.key)):
            key = existing.key
            if key in wanted or not self._is_ours(existing):
                continue
            if key.kind is ResourceKind.TEMPLATE and (
                key.name not in rules or self._desired.get(Key(ResourceKind.RULE, key.name))
            ):
                self._delete(existing, "no rule that is declared has it")
            elif (
                key.kind is ResourceKind.SECRET
                and existing.arn not in in_use
                and not existing.is_scheduled_for_deletion
            ):
                self._delete(existing, "no rule uses it any more", needs=self._rule_steps_with(existing.arn))
            elif key.kind is ResourceKind.NODE_ACCESS:
                self._delete(existing, "[access] node_roles does not name it any more")
        # Once it is known which templates go.
        templates = tuple(step.key for step in self._steps if step.key.kind is ResourceKind.TEMPLATE)
        gone = {step.key for step in self._steps if step.action is Action.DELETE}
        changed = {step.key: step.after for step in self._steps if step.after is not None}
        for existing in self._observed.of(ResourceKind.ROLE).values():
            if existing.key in wanted or not self._is_ours(existing):
                continue
            needing = [
                template.key.name
                for template in self._observed.of(ResourceKind.TEMPLATE).values()
                if template.key not in gone
                and changed.get(template.key, template.attributes)["customRoleArn"] == existing.arn
            ]
            if needing:
                self._left.append(LeftAlone(existing.key, f"is used by a template that stays: {', '.join(needing)}"))
            else:
                self._delete(existing, "no template needs it any more", needs=templates)

    def _rules_after(self) -> dict[str, Attributes]:
        """Attributes of all rules as they will be, by prefix."""
        rules = {prefix: existing.attributes for prefix, existing in self._observed.of(ResourceKind.RULE).items()}
        for step in self._steps:
            if step.key.kind is ResourceKind.RULE and step.after is None:
                rules.pop(step.key.name, None)
            elif step.key.kind is ResourceKind.RULE:
                rules[step.key.name] = step.after or {}
        # A rule that could not be planned keeps what it has now.
        return rules

    def _rule_steps_with(self, arn: str) -> tuple[Key, ...]:
        return tuple(
            step.key
            for step in self._steps
            if step.key.kind is ResourceKind.RULE and step.before and step.before.get("credentialArn") == arn
        )

    # destroy

    def plan_destroy(self, repository_steps: Iterable[Step]) -> None:
        for _, existing in sorted(self._observed.of(ResourceKind.RULE).items()):
            declared = self._desired.get(existing.key) is not None
            if existing.is_of_engine_file:
                if declared:
                    reason = "is in the engine's own file; remove it there"
                    self._left.append(LeftAlone(existing.key, reason, _upstream(existing)))
            elif existing.key in self._owned.created:
                self._delete(existing, "it was made by this declaration")
            elif declared and self._options.include_adopted:
                self._delete(existing, "it was there before, and --include-adopted names all of them")
            elif declared:
                reason = "is not recorded as made here; --include-adopted removes it too"
                self._left.append(LeftAlone(existing.key, reason, _upstream(existing)))
        rules = self._rules_after()
        in_use = {str(attributes["credentialArn"]) for attributes in rules.values()}
        for existing in sorted(self._observed.existing.values(), key=lambda entry: str(entry.key)):
            key = existing.key
            if key.kind is ResourceKind.RULE or not self._is_ours(existing):
                continue
            if key.kind is ResourceKind.SECRET and existing.is_scheduled_for_deletion:
                continue
            if key.kind is ResourceKind.SECRET and existing.arn in in_use:
                self._left.append(LeftAlone(key, "is used by a rule that stays"))
            elif key.kind is ResourceKind.SECRET:
                self._delete(existing, "it bears this declaration's mark", needs=self._rule_steps_with(existing.arn))
            elif key.kind is not ResourceKind.ROLE:
                self._delete(existing, "it bears this declaration's mark")
        # Once it is known which templates go: they need it till then.
        templates = tuple(step.key for step in self._steps if step.key.kind is ResourceKind.TEMPLATE)
        for existing in self._observed.of(ResourceKind.ROLE).values():
            if self._is_ours(existing):
                self._delete(existing, "it bears this declaration's mark", needs=templates)
        self._plan_registry(None, None)
        self._steps += repository_steps

    # Parts

    def _is_ours(self, existing: Existing) -> bool:
        if existing.key.kind is ResourceKind.NODE_ACCESS:
            return True  # found by a name that is this declaration's own
        return existing.marked_by == self._name or (not existing.marked_by and existing.key in self._owned.created)

    def _may_adopt(self, resource: Resource) -> bool:
        return str(resource.key) in self._options.adopt

    def _with_arn(self, attributes: Attributes) -> Attributes:
        """The ARN in place of its reference, where the secret is there."""
        arn = attributes["credentialArn"]
        for existing in self._observed.existing.values():
            if existing.key.kind is ResourceKind.SECRET and arn == secret_reference(existing.key.name):
                return {**attributes, "credentialArn": existing.arn}
        return attributes

    def _add(
        self,
        resource: Resource,
        action: Action,
        reason: str,
        before: Attributes | None = None,
        existing: Existing | None = None,
        *,
        details: Mapping[str, Json] | None = None,
    ) -> None:
        arn = existing.arn if existing else ""
        self._steps.append(
            Step(resource.key, action, reason, before, resource.attributes, resource.needs, arn, details or {})
        )

    def _delete(self, existing: Existing, reason: str, *, needs: tuple[Key, ...] = ()) -> None:
        details: dict[str, Json] = {"recoveryDays": RECOVERY_DAYS} if existing.key.kind is ResourceKind.SECRET else {}
        step = Step(existing.key, Action.DELETE, reason, existing.attributes, None, needs, existing.arn, details)
        self._steps.append(step)


def _differing(resource: Resource, existing: Existing) -> list[str]:
    """The attributes that are not as declared; documents by what they mean."""
    return [
        name
        for name, wanted in resource.attributes.items()
        if _by_meaning(name, existing.attributes.get(name)) != _by_meaning(name, wanted)
    ]


def _by_meaning(name: str, value: Json) -> Json:
    return documents.normal_document(value) if name in _DOCUMENTS else value


def _reason(differing: list[str]) -> str:
    if set(differing) <= {"username", "accessToken"}:
        return "the account has changed"
    return f"{', '.join(differing)} to be as declared"


def _upstream(existing: Existing) -> str:
    return str(existing.attributes["upstreamRegistryUrl"])
