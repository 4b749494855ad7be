"""Desired minus observed: the plan. Pure.

Whatever bears the declaration's mark, or stands in the journal, is ours; it goes once it is not wanted and no rule needs
it. Somebody else's thing is used as it is where it is as declared; where it differs it is a problem, unless the person
takes it over. AWS cannot mark rules: they are matched by prefix.
"""

from __future__ import annotations

from dataclasses import replace

from pullthrough.declaration import Declaration
from pullthrough.provision.model import documents
from pullthrough.provision.model.observed import UNREADABLE, Owned, Questions
from pullthrough.provision.model.plan import LeftAlone, Plan, Purpose, StepAction
from pullthrough.provision.model.policies import normal_document
from pullthrough.provision.model.resources import (
    REGISTRY,
    Desired,
    Existing,
    Json,
    Key,
    Resource,
    ResourceKind,
    secret_reference,
)
from pullthrough.provision.planning.draft import Draft, PlanBasis, upstream_of

#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
MAX_RULES = 50
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


def plan_apply(basis: PlanBasis) -> Plan:
    """What brings the target in line. `basis.repository_steps` are those of `--existing`."""
    return _ApplyPlanner(basis).plan()


class _ApplyPlanner:
    def __init__(self, basis: PlanBasis) -> None:
        self._desired = basis.desired
        self._observed = basis.observed
        self._options = basis.options
        self._repository_steps = basis.repository_steps
        self._draft = Draft(basis)
        #: Prefixes of declared rules that the engine's own file has.
        self._in_file: set[str] = set()

    # apply

    def plan(self) -> Plan:
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
        self._draft.add_registry_steps(
            self._desired.get(Key(ResourceKind.REGISTRY_POLICY, REGISTRY)),
            self._desired.get(Key(ResourceKind.SCANNING, REGISTRY)),
        )
        self._prune()
        self._remove_leftovers()
        self._draft.steps += self._repository_steps
        self._check_quota()
        return self._draft.plan(Purpose.APPLY)

    def _check_options(self) -> None:
        declared = {rule.key.name for rule in self._desired.of(ResourceKind.RULE)}
        there = self._observed.of(ResourceKind.RULE)
        for prefix in self._options.prune:
            if prefix in declared:
                self._draft.problems.append(
                    f"--prune {prefix}: that rule is declared; remove it from the declaration first"
                )
            elif prefix not in there and not self._is_leftover_prefix(prefix):
                known = ", ".join(sorted(set(there) - declared)) or "none"
                self._draft.problems.append(f"--prune {prefix}: there is no such rule; those not declared are: {known}")
        known_keys = {str(key) for key in self._observed.existing}
        for text in self._options.adopt:
            if text not in known_keys:
                self._draft.problems.append(
                    f"--adopt {text}: there is no such thing; write it as the plan does, kind:name"
                )

    def _is_leftover_prefix(self, prefix: str) -> bool:
        template = self._observed.get(ResourceKind.TEMPLATE, prefix)
        return template is not None and self._draft.is_ours(template)

    def _check_quota(self) -> None:
        made = sum(
            step.key.kind is ResourceKind.RULE and step.action is StepAction.CREATE for step in self._draft.steps
        )
        gone = sum(
            step.key.kind is ResourceKind.RULE and step.action is StepAction.DELETE for step in self._draft.steps
        )
        there = len(self._observed.of(ResourceKind.RULE))
        if there + made > MAX_RULES:
            # Room is made before it is needed.
            ends = tuple(
                step.key
                for step in self._draft.steps
                if step.key.kind is ResourceKind.RULE and step.action is StepAction.DELETE
            )
            self._draft.steps = [
                replace(step, needs=(*step.needs, *ends))
                if step.key.kind is ResourceKind.RULE and step.action is StepAction.CREATE
                else step
                for step in self._draft.steps
            ]
        if made and there + made - gone > MAX_RULES:
            self._draft.problems.append(
                f"the registry would have {there + made - gone} rules, and {MAX_RULES} are all that ECR allows; {there} are "
                "there. Switch some off with enabled = false, or remove others with --prune PREFIX"
            )

    # One kind each

    def _plan_secret(self, resource: Resource) -> None:
        """A secret is made, put right, or restored; one that serves only rules of the engine's file is not needed."""
        dependents = [rule.key.name for rule in self._desired.of(ResourceKind.RULE) if resource.key in rule.needs]
        is_needed = not dependents or any(prefix not in self._in_file for prefix in dependents)
        if not is_needed and resource.key not in self._observed.existing:
            self._draft.notes.append(
                f"the secret {resource.key.name} is not needed: the engine's own file has the account of "
                f"{', '.join(dependents)}"
            )
            return
        existing = self._observed.existing.get(resource.key)
        if existing is not None and existing.attributes["accessToken"] == UNREADABLE:
            self._draft.problems.append(
                f"the value of the secret {resource.key.name} can not be read; allow secretsmanager:GetSecretValue and the "
                "use of its key"
            )
            return
        if existing is not None and existing.is_scheduled_for_deletion:
            if not self._draft.is_ours(existing) and not self._draft.may_adopt(resource):
                self._conflict(resource, existing, "is to be deleted")
                return
            # What it holds is not told before it is restored.
            before = {**existing.attributes, "accessToken": "(to be deleted)", "username": ""}
            self._draft.add(resource, StepAction.RESTORE, "it is to be deleted, and is wanted again", before, existing)
            return
        self._plan_marked(resource)

    def _plan_marked(self, resource: Resource) -> None:
        """Of a kind that bears a mark: secret, role, template."""
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._draft.add(resource, StepAction.CREATE, resource.reason)
            return
        if not self._draft.is_ours(existing) and not self._draft.may_adopt(resource):
            if _OF_THE_MARK.issuperset(_differing(resource, existing)):
                self._draft.left.append(
                    LeftAlone(resource.key, "is there as declared and somebody else's; used as it is, never removed")
                )
            else:
                self._conflict(resource, existing, "differs from what is declared")
            return
        differing = _differing(resource, existing)
        if not differing:
            return
        adopted = not self._draft.is_ours(existing)
        reason = "taken over, as asked" if adopted else _reason(differing)
        self._draft.add(
            resource,
            StepAction.UPDATE,
            reason,
            existing.attributes,
            existing,
            details={"adopted": True} if adopted else {},
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
        self._draft.problems.append(
            f"the {resource.key.kind} {resource.key.name} is {whose} and {how}{where}: take it over with --adopt "
            f"'{resource.key}'{instead}"
        )

    def _plan_rule(self, resource: Resource) -> None:
        prefix = resource.key.name
        resource = replace(resource, attributes=self._draft.with_arn(resource.attributes))
        self._check_given_secret(resource)
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._draft.add(resource, StepAction.CREATE, resource.reason)
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
            self._draft.add(resource, StepAction.UPDATE, _reason(differing), existing.attributes, existing)
            return
        was, wanted = existing.attributes["upstreamRegistryUrl"], resource.attributes["upstreamRegistryUrl"]
        what = f"comes from {was}, not from {wanted}" if was != wanted else f"differs in {', '.join(differing)}"
        if not self._options.replace:
            self._draft.problems.append(
                f"the rule {prefix} {what}, which AWS changes only by deleting the rule and making it anew; pulls of what is "
                "not cached fail in between. Allow it with --replace"
            )
            return
        self._draft.add(resource, StepAction.REPLACE, f"it {what}", existing.attributes, existing)

    def _plan_file_rule(self, resource: Resource, existing: Existing) -> None:
        """A rule of the engine's own file: the API does not change it. Its account is the file's business."""
        prefix = resource.key.name
        names = ["upstreamRegistryUrl", "upstreamRepositoryPrefix"]
        differing = [name for name in names if existing.attributes[name] != resource.attributes[name]]
        if differing:
            key = {"upstreamRegistryUrl": "upstream", "upstreamRepositoryPrefix": "upstream_repository_prefix"}
            for name in differing:
                self._draft.problems.append(
                    f"the rule {prefix} is written in the engine's own pullthrough.toml with another "
                    f"{key[name]} ({existing.attributes[name]}, not {resource.attributes[name]}); change [rules.{prefix}] "
                    f"{key[name]} there and restart the engine, or change the declaration"
                )
            return
        self._draft.left.append(
            LeftAlone(resource.key, "is in the engine's own file, as declared", upstream_of(existing))
        )

    def _check_given_secret(self, resource: Resource) -> None:
        arn = str(resource.attributes["credentialArn"])
        if arn not in self._observed.given_secrets:
            return
        where = f'the rule {resource.key.name} has credential_arn = "{arn}"'
        secret = self._observed.given_secrets[arn]
        target = self._observed.target
        if secret is None:
            self._draft.problems.append(f"{where}, and there is no such secret; make it, or correct the ARN")
        elif secret.is_scheduled_for_deletion:
            self._draft.problems.append(f"{where}, and that secret is to be deleted; restore it, or name another one")
        elif secret.attributes["kmsKeyId"]:
            self._draft.problems.append(
                f"{where}, and that secret is encrypted with a key of your own; ECR can read secrets only that are encrypted "
                "with aws/secretsmanager"
            )
        if arn.split(":")[3:5] != [target.region, target.account]:
            self._draft.problems.append(
                f"{where}, which is in another account or region than the rule, where ECR does not look"
            )

    def _plan_node_access(self, resource: Resource) -> None:
        role = resource.key.name
        if role in self._observed.absent_roles:
            self._draft.problems.append(
                f"[access] node_roles names {role}, and there is no such role in account {self._observed.target.account}; "
                "correct the name, or make the role first"
            )
            return
        existing = self._observed.existing.get(resource.key)
        if existing is None:
            self._draft.add(resource, StepAction.CREATE, resource.reason)
        elif differing := _differing(resource, existing):
            self._draft.add(resource, StepAction.UPDATE, _reason(differing), existing.attributes, existing)

    # What is not declared

    def _prune(self) -> None:
        declared = {rule.key.name for rule in self._desired.of(ResourceKind.RULE)}
        for prefix, existing in sorted(self._observed.of(ResourceKind.RULE).items()):
            if prefix in declared:
                continue
            if existing.is_of_engine_file:
                self._draft.left.append(LeftAlone(existing.key, "is in the engine's own file", upstream_of(existing)))
            elif prefix in self._options.prune:
                self._draft.delete(existing, "it is not declared, and --prune names it")
            else:
                reason = f"is not declared; --prune {prefix} removes it"
                self._draft.left.append(LeftAlone(existing.key, reason, upstream_of(existing)))

    def _remove_leftovers(self) -> None:
        """What is ours and serves no rule any more."""
        rules = self._draft.rules_after()
        in_use = {str(attributes["credentialArn"]) for attributes in rules.values()}
        wanted = {resource.key for resource in self._desired.resources}
        for existing in sorted(self._observed.existing.values(), key=lambda entry: str(entry.key)):
            key = existing.key
            if key in wanted or not self._draft.is_ours(existing):
                continue
            if key.kind is ResourceKind.TEMPLATE and (
                key.name not in rules or self._desired.get(Key(ResourceKind.RULE, key.name))
            ):
                self._draft.delete(existing, "no rule that is declared has it")
            elif (
                key.kind is ResourceKind.SECRET
                and existing.arn not in in_use
                and not existing.is_scheduled_for_deletion
            ):
                self._draft.delete(
                    existing, "no rule uses it any more", needs=self._draft.rule_steps_with(existing.arn)
                )
            elif key.kind is ResourceKind.NODE_ACCESS:
                self._draft.delete(existing, "[access] node_roles does not name it any more")
        # Once it is known which templates go.
        templates = tuple(step.key for step in self._draft.steps if step.key.kind is ResourceKind.TEMPLATE)
        gone = {step.key for step in self._draft.steps if step.action is StepAction.DELETE}
        changed = {step.key: step.after for step in self._draft.steps if step.after is not None}
        for existing in self._observed.of(ResourceKind.ROLE).values():
            if existing.key in wanted or not self._draft.is_ours(existing):
                continue
            needing = [
                template.key.name
                for template in self._observed.of(ResourceKind.TEMPLATE).values()
                if template.key not in gone
                and changed.get(template.key, template.attributes)["customRoleArn"] == existing.arn
            ]
            if needing:
                self._draft.left.append(
                    LeftAlone(existing.key, f"is used by a template that stays: {', '.join(needing)}")
                )
            else:
                self._draft.delete(existing, "no template needs it any more", needs=templates)


def _differing(resource: Resource, existing: Existing) -> list[str]:
    """The attributes that are not as declared; documents by what they mean."""
    return [
        name
        for name, wanted in resource.attributes.items()
        if _by_meaning(name, existing.attributes.get(name)) != _by_meaning(name, wanted)
    ]


def _by_meaning(name: str, value: Json) -> Json:
    return normal_document(value) if name in _DOCUMENTS else value


def _reason(differing: list[str]) -> str:
    if set(differing) <= {"username", "accessToken"}:
        return "the account has changed"
    return f"{', '.join(differing)} to be as declared"
