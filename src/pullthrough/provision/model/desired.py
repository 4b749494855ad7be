"""From a declaration to the resources that it wants on a target. Pure, but for the policy files that it names.

The same declaration gives the same rules, secrets and templates on AWS and on an engine; what a target has no place for
is listed, not made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pullthrough.declaration import (
    ROOT,
    Declaration,
    Encryption,
    Rule,
    ScanFrequency,
    SecretCredential,
    TagMutability,
    Template,
)
from pullthrough.errors import PlanProblem
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.model import documents
from pullthrough.provision.model.accounts import Account, secret_name_of
from pullthrough.provision.model.refusals import refusals
from pullthrough.provision.model.resources import (
    MARKER_TAG,
    REGISTRY,
    Desired,
    Json,
    Key,
    Resource,
    ResourceKind,
    secret_reference,
)
from pullthrough.provision.model.target import DeploymentTarget

_MAX_LIFECYCLE_CHARACTERS = 30_720
_MAX_POLICY_CHARACTERS = 10_240
SCAN_FREQUENCIES = {ScanFrequency.ON_PUSH: "SCAN_ON_PUSH", ScanFrequency.CONTINUOUS: "CONTINUOUS_SCAN"}
_DOUBLED = re.compile(r"__|--+")
_MARK = re.compile(r"managed by pullthrough \(([a-z0-9-]+)\)$")


def template_description(prefix: str, name: str) -> str:
    return f"Repositories that pulls through {prefix} create; managed by pullthrough ({name})"


def marked_by(description: str) -> str:
    """The declaration whose mark a template's description bears; empty for none."""
    match = _MARK.search(description)
    return match[1] if match else ""


def build_desired(
    declaration: Declaration, accounts: Mapping[str, Account], fingerprints: Fingerprints, target: DeploymentTarget
) -> Desired:
    """Raises PlanProblem with everything that the declaration asks for and the target cannot have."""
    builder = _Builder(declaration, accounts, fingerprints, target)
    desired = builder.build()
    if builder.problems:
        raise problem_of(builder.problems)
    return desired


def problem_of(problems: Iterable[str]) -> PlanProblem:
    problems = list(problems)
    if len(problems) == 1:
        return PlanProblem(problems[0])
    return PlanProblem(f"{len(problems)} problems:" + "".join(f"\n  - {problem}" for problem in problems))


class _Builder:
    def __init__(
        self,
        declaration: Declaration,
        accounts: Mapping[str, Account],
        fingerprints: Fingerprints,
        target: DeploymentTarget,
    ) -> None:
        self._declaration = declaration
        self._accounts = accounts
        self._fingerprints = fingerprints
        self._target = target
        self.problems = refusals(declaration.rules, target)
        self._not_applicable: list[str] = []

    def build(self) -> Desired:
        declaration, target = self._declaration, self._target
        templates = {
            rule.prefix: declaration.templates.get(rule.prefix, Template())
            for rule in declaration.rules
            if declaration.templates.get(rule.prefix, Template()).enabled
        }
        resources = [*self._secrets(), *self._rules()]
        resources += self._template_role(templates)
        resources += [self._template(prefix, template) for prefix, template in templates.items()]
        resources += self._access(templates)
        resources += self._scanning()
        notes = []
        if target.is_aws and any(
            template.keep_images and not template.lifecycle_policy_file for template in templates.values()
        ):
            notes.append(
                "images that a lifecycle policy expires are filled again when their tag is pulled; by digest AWS can not "
                'fill them (keep_images = "never" in [template] keeps all)'
            )
        return Desired(tuple(resources), tuple(self._not_applicable), tuple(notes))

    @property
    def _prefixes(self) -> list[str]:
        return [rule.prefix for rule in self._declaration.rules]

    # Secrets and rules

    def _secrets(self) -> list[Resource]:
        resources: dict[str, Resource] = {}
        for rule in self._declaration.rules:
            if rule.prefix not in self._accounts:
                continue
            account, name = self._accounts[rule.prefix], secret_name_of(rule)
            resources.setdefault(
                name,
                Resource(
                    Key(ResourceKind.SECRET, name),
                    {
                        "description": f"The account that {rule.upstream} is asked as",
                        "username": account.username,
                        "accessToken": self._fingerprints.of(account.token),
                        "kmsKeyId": "",
                        "tags": self._marked_tags(),
                    },
                    reason=f"{rule.upstream} is asked as {account.username}",
                    prefix=rule.prefix,
                ),
            )
        return list(resources.values())

    def _rules(self) -> list[Resource]:
        return [self._rule(rule) for rule in self._declaration.rules]

    def _rule(self, rule: Rule) -> Resource:
        needs: tuple[Key, ...] = ()
        credential_arn = ""
        if isinstance(rule.credential, SecretCredential):
            credential_arn = rule.credential.arn
        elif rule.prefix in self._accounts:
            name = secret_name_of(rule)
            credential_arn, needs = secret_reference(name), (Key(ResourceKind.SECRET, name),)
        return Resource(
            Key(ResourceKind.RULE, rule.prefix),
            {
                "upstreamRegistryUrl": rule.upstream,
                "upstreamRepositoryPrefix": rule.upstream_repository_prefix or ROOT,
                "credentialArn": credential_arn,
                "customRoleArn": rule.custom_role_arn,
            },
            needs,
            reason=f"pulls of {'any other name' if rule.prefix == ROOT else f'{rule.prefix}/...'} come from {rule.upstream}",
            prefix=rule.prefix,
        )

    # Templates and their role

    def _template_role(self, templates: Mapping[str, Template]) -> list[Resource]:
        needing = {prefix: template for prefix, template in templates.items() if _makes_role(template)}
        if not needing:
            return []
        name = documents.template_role_name(self._declaration.name)
        if not self._target.has_iam:
            self._not_applicable.append(
                f"the role {name}: an engine needs none to create repositories with tags or KMS"
            )
            return []
        encrypted = [template for template in needing.values() if template.encryption is not Encryption.AES256]
        policy = documents.template_role_policy(
            self._target, needing, (template.kms_key for template in encrypted), kms=bool(encrypted)
        )
        attributes: dict[str, Json] = {
            "description": f"ECR creates repositories of the pull-through cache as it (pullthrough, {self._declaration.name})",
            "trustPolicy": documents.template_trust(),
            "policyName": "create-repositories",
            "policy": policy,
            "tags": self._marked_tags(),
        }
        reason = "without it ECR can not create repositories that have tags or KMS, and pulls answer 'not found'"
        return [Resource(Key(ResourceKind.ROLE, name), attributes, reason=reason)]

    def _template(self, prefix: str, template: Template) -> Resource:
        declaration, target = self._declaration, self._target
        role = template.role_arn
        needs: tuple[Key, ...] = ()
        if _makes_role(template) and target.has_iam:
            name = documents.template_role_name(declaration.name)
            role = f"arn:{target.partition}:iam::{target.account}:role/{name}"
            needs = (Key(ResourceKind.ROLE, name),)
        where = f"the template of {prefix}"
        lifecycle: Json = documents.lifecycle_policy(template.keep_images) if template.keep_images else None
        if template.lifecycle_policy_file:
            lifecycle = self._document(template.lifecycle_policy_file, where, _MAX_LIFECYCLE_CHARACTERS)
        if template.repository_policy_file:
            policy: Json = self._document(template.repository_policy_file, where, _MAX_POLICY_CHARACTERS)
        else:
            access = declaration.access
            policy = documents.repository_policy(
                target,
                {*template.pull_accounts, *access.pull_accounts},
                template.pull_organization or access.pull_organization,
            )
        mutability = "MUTABLE" if template.tag_mutability is TagMutability.MUTABLE else "IMMUTABLE"
        exclusions = sorted(template.tag_mutability_exclusions)
        return Resource(
            Key(ResourceKind.TEMPLATE, prefix),
            {
                "description": template_description(prefix, declaration.name),
                "appliedFor": ["PULL_THROUGH_CACHE"],
                "imageTagMutability": f"{mutability}_WITH_EXCLUSION" if exclusions else mutability,
                "imageTagMutabilityExclusionFilters": exclusions,
                "encryptionType": template.encryption.value,
                "kmsKey": template.kms_key,
                "lifecyclePolicy": lifecycle,
                "repositoryPolicy": policy,
                "resourceTags": dict(template.resource_tags),
                "customRoleArn": role,
            },
            needs,
            reason=f"repositories under {prefix} are created with it",
            prefix=prefix,
        )

    # Who may pull, and what is scanned

    def _access(self, templates: Mapping[str, Template]) -> list[Resource]:
        declaration, target, access = self._declaration, self._target, self._declaration.access
        resources = []
        policy_name = documents.access_policy_name(declaration.name)
        # Without rules there is nothing to pull, and IAM takes no statement without a resource.
        for role in access.node_roles if self._prefixes else ():
            if not target.has_iam:
                self._not_applicable.append(
                    f"the rights of the role {role}: an engine has no IAM; keys have roles there"
                )
                continue
            policy = documents.node_policy(target, self._prefixes, templates.values())
            attributes: dict[str, Json] = {"policyName": policy_name, "policy": policy}
            reason = f"nodes with the role {role} pull through the cache"
            resources.append(Resource(Key(ResourceKind.NODE_ACCESS, role), attributes, reason=reason))
        if access.vpc and not target.is_aws:
            self._not_applicable.append(f"the endpoints of {access.vpc}: there is no VPC here")
        statements = documents.registry_statements(
            target, declaration.name, access.pull_accounts, access.pull_organization, self._prefixes
        )
        if statements and self._prefixes:
            key = Key(ResourceKind.REGISTRY_POLICY, REGISTRY)
            reason = "other accounts fill the cache by their pulls"
            resources.append(Resource(key, {"statements": list(statements)}, reason=reason))
        return resources

    def _scanning(self) -> list[Resource]:
        frequency = self._declaration.scan_frequency
        if frequency is None or not self._prefixes:
            return []
        filters = ["*"] if ROOT in self._prefixes else [_filter_of(prefix) for prefix in self._prefixes]
        entries = sorted(f"{SCAN_FREQUENCIES[frequency]} {filter}" for filter in filters)
        when = "when they come in" if frequency is ScanFrequency.ON_PUSH else "all the time"
        reason = f"images of the cache are scanned {when}"
        return [Resource(Key(ResourceKind.SCANNING, REGISTRY), {"filters": list(entries)}, reason=reason)]

    def _marked_tags(self) -> dict[str, Json]:
        return {**self._declaration.tags, MARKER_TAG: self._declaration.name}

    def _document(self, path: Path, where: str, limit: int) -> Any:
        """The JSON object in a policy file. A file without one adds a problem, and gives None."""
        try:
            text = path.read_text()
            document = json.loads(text)
        except OSError as error:
            self.problems.append(f"{where}: {path} cannot be read: {error.strerror}")
            return None
        except (ValueError, RecursionError):
            self.problems.append(f"{where}: {path} is not JSON")
            return None
        if not isinstance(document, dict):
            self.problems.append(f"{where}: {path} is not a JSON object")
        elif len(text) > limit:
            self.problems.append(f"{where}: {path} has more than {limit:,} characters, which is ECR's limit")
        return document


def _filter_of(prefix: str) -> str:
    """The scanning filter of a prefix. Its grammar has no doubled separators, as in `a__b`: a wildcard stands for those.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_ScanningRepositoryFilter.html
    """
    return f"{_DOUBLED.sub(lambda match: f'{match[0][0]}*', prefix)}/*"


def _makes_role(template: Template) -> bool:
    return template.needs_role and not template.role_arn
