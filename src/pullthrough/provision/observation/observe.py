"""What is there: rules, templates, secrets, roles and the registry's documents, read from AWS or an engine.

What a read costs, in calls: the list of rules, of templates and of marked secrets, a page each; the registry's policy; its
scanning configuration; the values of the declared secrets together; and one for each declared secret, given secret,
node's role and template's role (two for the last: its trust, and its policy). They go out together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws, ReadingPool
from pullthrough.provision.model.observed import Observed, Questions
from pullthrough.provision.model.resources import Existing, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.registry import read_registry_policy, read_scanning
from pullthrough.provision.observation.roles import ABSENT_ROLE, read_node_access, read_role
from pullthrough.provision.observation.rules import read_rules, read_templates
from pullthrough.provision.observation.secrets import describe_secret, list_marked_secrets, observed_secret, read_values

#: BatchGetSecretValue takes so many: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
_SECRETS_AT_ONCE = 20


def observe(aws: Aws, target: DeploymentTarget, questions: Questions, fingerprints: Fingerprints) -> Observed:
    """Reads only. Raises what `Aws.call` raises."""
    names = questions.secrets
    with ReadingPool(aws) as readers:
        rules = readers.start(read_rules, aws)
        templates = readers.start(read_templates, aws)
        policy = readers.start(read_registry_policy, aws)
        scanning = readers.start(read_scanning, aws)
        marked = readers.start(list_marked_secrets, aws)
        texts = [
            readers.start(read_values, aws, names[start : start + _SECRETS_AT_ONCE])
            for start in range(0, len(names), _SECRETS_AT_ONCE)
        ]
        described = {name: readers.start(describe_secret, aws, name) for name in names}
        given = {arn: readers.start(describe_secret, aws, arn) for arn in questions.given_secrets}
        roles = {name: readers.start(read_role, aws, name, questions.role_policy_name) for name in questions.roles}
        nodes = {
            name: readers.start(read_node_access, aws, name, questions.node_policy_name)
            for name in questions.node_roles
        }
        found = {existing.key: existing for existing in (*rules.result(), *templates.result())}
        found |= _secrets(
            {name: text for read in texts for name, text in read.result().items()},
            marked.result(),
            {name: read.result() for name, read in described.items()},
            fingerprints,
        )
        of_roles = [(name, read.result()) for name, read in (*roles.items(), *nodes.items())]
        found |= {existing.key: existing for _, existing in of_roles if existing and existing is not ABSENT_ROLE}
        return Observed(
            target,
            found,
            registry_policy=policy.result(),
            scanning=scanning.result(),
            absent_roles=frozenset(name for name, existing in of_roles if existing is ABSENT_ROLE),
            given_secrets={
                arn: None
                if (description := read.result()) is None
                else observed_secret(description, None, fingerprints)
                for arn, read in given.items()
            },
        )


def _secrets(
    texts: Mapping[str, str],
    marked: Iterable[Mapping[str, Any]],
    described: Mapping[str, Mapping[str, Any] | None],
    fingerprints: Fingerprints,
) -> dict[Key, Existing]:
    """`texts` and `described` by name. The list of marked ones may be late: what was described takes its place."""
    secrets = [observed_secret(description, None, fingerprints) for description in marked]
    found = {secret.key: secret for secret in secrets if secret.key.name not in described}
    for name, description in described.items():
        if description is not None:
            found[Key(ResourceKind.SECRET, name)] = observed_secret(description, texts.get(name), fingerprints)
    return found
