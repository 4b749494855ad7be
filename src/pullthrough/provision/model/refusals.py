"""Rules that ECR's grammar or AWS itself refuses. An engine takes most of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pullthrough.declaration import ROOT, Rule
from pullthrough.oci.ecr_upstreams import ECR, WANT_SECRET, kind_of
from pullthrough.provision.model.target import DeploymentTarget

#: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html
_PREFIX = re.compile(
    r"(?=.{2,30}$)[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)


def refusals(rules: Sequence[Rule], target: DeploymentTarget) -> list[str]:
    """A sentence for each thing that the target does not take."""
    found = [*_of_grammar(rules, target)]
    if not target.is_engine:
        found += _of_overlaps(rules)
    return found


def _of_grammar(rules: Iterable[Rule], target: DeploymentTarget) -> Iterable[str]:
    seen: set[str] = set()
    for rule in rules:
        if rule.prefix in seen:
            yield f"two rules have the prefix {rule.prefix}; a prefix is one rule's"
        seen.add(rule.prefix)
        if rule.prefix != ROOT and _PREFIX.fullmatch(rule.prefix) is None:
            yield (
                f"the prefix {rule.prefix[:80]!r} breaks ECR's grammar: 2 to 30 lower-case letters and digits, separated "
                "by '.', '_', '__' or '-', in segments separated by '/', or ROOT"
            )
        if rule.prefix == ROOT and rule.upstream_repository_prefix:
            yield "the rule ROOT has an upstream_repository_prefix, which ECR takes for other prefixes only"
        if not target.is_engine:
            yield from _of_aws(rule)


def _of_aws(rule: Rule) -> Iterable[str]:
    kind = kind_of(rule.upstream)
    here = f"the rule {rule.prefix}"
    if kind is None:
        yield (
            f"{here} has the upstream {rule.upstream}, which is none of those that AWS's pull-through cache takes "
            "(Docker Hub, GitHub, GitLab.com, Quay, registry.k8s.io, ECR Public, Azure, Chainguard, ECR); an engine "
            "takes any"
        )
    elif rule.anonymous and kind in WANT_SECRET:
        yield (
            f"{here} is anonymous, and AWS takes no rule for {rule.upstream} without an account; only an engine does. "
            "Remove anonymous = true, and give a username and a token"
        )
    elif kind not in WANT_SECRET and rule.credential is not None:
        yield (
            f"{here} has an account, and AWS pulls from {rule.upstream} without one only; add anonymous = true, or "
            "remove the account"
        )
    if kind != ECR and rule.custom_role_arn:
        yield f"{here} has a custom_role_arn, which AWS takes for upstreams that are an ECR only"
    if kind != ECR and rule.upstream_repository_prefix:
        yield f"{here} has an upstream_repository_prefix, which AWS takes for upstreams that are an ECR only"


def _of_overlaps(rules: Sequence[Rule]) -> Iterable[str]:
    for rule in rules:
        for other in rules:
            if other.prefix.startswith(f"{rule.prefix}/"):
                yield (
                    f"the prefixes {rule.prefix} and {other.prefix} overlap, and AWS does not say which rule serves "
                    f"{other.prefix}/...; rename one (an engine takes the longer one)"
                )
