"""What is there: rules, templates, secrets, roles and the registry's documents, read from AWS or an engine.

What a read costs, in calls: the list of rules, of templates and of marked secrets, a page each; the registry's policy; its
scanning configuration; the values of the declared secrets together; and one for each declared secret, given secret,
node's role and template's role (two for the last: its trust, and its policy). They go out together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.aws import Aws, ReadingPool
from pullthrough.provision.model.observed import Observed, Questions
from pullthrough.provision.observation.registry import read_registry_policy, read_scanning
from pullthrough.provision.observation.roles import ABSENT_ROLE, read_node_access, read_role
from pullthrough.provision.observation.rules import read_rules, read_templates
from pullthrough.provision.observation.secrets import describe_secret, list_marked_secrets, observed_secret, read_values
from pullthrough.provision.resources import Existing, Key, ResourceKind
from pullthrough.provision.target import DeploymentTarget

#: BatchGetSecretValue takes so many: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_BatchGetSecretValue.html
_SECRETS_AT_ONCE = 20


def observe(aws: Aws, target: DeploymentTarget, questions: Questions, fingerprints: Fingerprints) -> Observed:
    """Reads only. Raises what `Aws.call` raises."""
    with ReadingPool(aws) as readers:
        rules = readers.start(read_rules, aws)
        templates = readers.start(read_templates, aws)
        policy = readers.start(read_registry_policy, aws)
        scanning = readers.start(read_scanning, aws)
        marked = readers.start(list_marked_secrets, aws)
        names = questions.secrets
        values = [
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
        return _collect(
            target, fingerprints, rules, templates, policy, scanning, marked, values, described, given, roles, nodes
        )


def _collect(
    target: DeploymentTarget,
    fingerprints: Fingerprints,
    rules: Future[Any],
    templates: Future[Any],
    policy: Future[Any],
    scanning: Future[Any],
    marked: Future[Any],
    values: Iterable[Future[Any]],
    described: Mapping[str, Future[Any]],
    given: Mapping[str, Future[Any]],
    roles: Mapping[str, Future[Any]],
    nodes: Mapping[str, Future[Any]],
) -> Observed:
    found: dict[Key, Existing] = {}
    for existing in (*rules.result(), *templates.result()):
        found[existing.key] = existing
    secrets: dict[str, str] = {}
    for batch in values:
        secrets |= batch.result()
    # Listed first, so that what was described, which is never late, takes its place.
    for description in marked.result():
        existing = observed_secret(description, None, fingerprints)
        found[existing.key] = existing
    for name, future in described.items():
        key = Key(ResourceKind.SECRET, name)
        if (description := future.result()) is None:
            found.pop(key, None)
        else:
            found[key] = observed_secret(description, secrets.get(name), fingerprints)
    absent = set()
    for name, future in {**roles, **nodes}.items():
        if (existing := future.result()) is None:
            continue
        if existing is ABSENT_ROLE:
            absent.add(name)
        else:
            found[existing.key] = existing
    return Observed(
        target,
        found,
        registry_policy=policy.result(),
        scanning=scanning.result(),
        absent_roles=frozenset(absent),
        given_secrets={
            arn: None if (description := future.result()) is None else observed_secret(description, None, fingerprints)
            for arn, future in given.items()
        },
    )
