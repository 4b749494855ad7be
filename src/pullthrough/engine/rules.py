"""From the name in a request to the repository, the rule and the upstream name it stands for. No I/O.

Rules match on whole path segments, the longest prefix first, `ROOT` last (spec of ECR's pull-through cache:
https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-private-wildcards.html). A name under no rule
is the registry's own: what clients push there is all that it has.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from pullthrough.declaration import ROOT, Rule
from pullthrough.errors import Denied, RepositoryUnknown
from pullthrough.oci.names import DOCKER_HUB, RepositoryName, canonical_host

#: Of names under no rule: no upstream is ever asked, and what is there stays as it is.
OWN_RULE = Rule(prefix="", upstream="", freshness_seconds=math.inf, negative_seconds=0.0)


@dataclass(frozen=True, slots=True)
class Target:
    """One repository of the cache and where it comes from."""

    rule: Rule
    #: The name under which it is stored, whatever name was asked for.
    repository: RepositoryName
    upstream_repository: str

    @property
    def upstream(self) -> str:
        return self.rule.upstream

    @property
    def is_own(self) -> bool:
        """Whether it is the registry's own repository: the catalog has all of it."""
        return not self.rule.upstream


@dataclass(frozen=True, slots=True)
class Targets:
    """The repositories a name may mean, the preferred one first; one or two.

    Two only for a name with `ns`: the literal one, and the one without the prefix of a rule for the same upstream, which
    ECR-style hosts.toml files send.
    """

    literal: Target
    stripped: Target | None = None

    @property
    def all(self) -> tuple[Target, ...]:
        return (self.literal,) if self.stripped is None else (self.literal, self.stripped)


class RuleBook:
    """The rules in force."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._by_prefix = {rule.prefix: rule for rule in rules}
        #: The same few names are asked for again and again.
        self._cached = lru_cache(maxsize=8192)(self._resolve)

    @property
    def prefixes(self) -> list[str]:
        return sorted(self._by_prefix)

    def resolve(self, name: RepositoryName, *, ns: str | None = None, mirror: str | None = None) -> Targets:
        """`ns` is containerd's query parameter; `mirror` the prefix of the rule a mirror listener is bound to.

        Raises RepositoryUnknown where `ns` names no rule's upstream, Denied where the rule does not serve the name.
        """
        return self._cached(name, ns, mirror)

    def _resolve(self, name: RepositoryName, ns: str | None, mirror: str | None) -> Targets:
        if ns is not None:
            return self._by_namespace(name, canonical_host(ns))
        if mirror is not None:
            return Targets(_target(self._by_prefix[mirror], name))
        return Targets(self._by_longest_prefix(name))

    def _by_longest_prefix(self, name: RepositoryName) -> Target:
        prefix: str = name
        while "/" in prefix:
            prefix = prefix.rpartition("/")[0]
            if rule := self._by_prefix.get(prefix):
                return _target(rule, name[len(prefix) + 1 :])
        if rule := self._by_prefix.get(ROOT):
            return _target(rule, name)
        return Target(OWN_RULE, name, "")

    def advice(self, name: str) -> str:
        """What to try where nothing is known of a name under no rule."""
        if not self._by_prefix:
            return "there is no rule: push it first"
        return (
            f"no rule covers it, and nobody has pushed it; to pull through the cache, put the prefix of a rule in front, "
            f"such as {self.prefixes[0]}/{name}; the prefixes are: {', '.join(self.prefixes)}"
        )

    def _by_namespace(self, name: str, host: str) -> Targets:
        candidates = [rule for rule in self._by_prefix.values() if rule.upstream == host]
        if not candidates:
            hosts = sorted({rule.upstream for rule in self._by_prefix.values()})
            raise RepositoryUnknown(
                f"no rule has the upstream {host!r} that 'ns' names; the upstreams are: {', '.join(hosts) or 'none'}"
            )
        literal: Target | None = None
        denied: Denied | None = None
        # The rule that takes the narrowest part of the upstream, then the one with the plainest prefix.
        for rule in sorted(candidates, key=lambda r: (-len(r.upstream_repository_prefix), r.prefix == ROOT, r.prefix)):
            inner = _without(name, rule.upstream_repository_prefix)
            if inner is None:
                continue
            try:
                literal = _target(rule, inner)
                break
            except Denied as error:
                denied = denied or error
        stripped: Target | None = None
        for rule in sorted(candidates, key=lambda r: -len(r.prefix)):
            if rule.prefix != ROOT and (inner := _without(name, rule.prefix)):
                try:
                    stripped = _target(rule, inner)
                except Denied as error:
                    denied = denied or error
                break
        if literal is not None:
            return Targets(literal, stripped)
        if stripped is not None:
            return Targets(stripped)
        raise denied or RepositoryUnknown(f"no rule for {host} covers {name!r}")


def _without(name: str, prefix: str) -> str | None:
    """`name` below `prefix`, or None where it is not below it."""
    if not prefix:
        return name
    return name[len(prefix) + 1 :] if name.startswith(prefix + "/") else None


def _target(rule: Rule, inner: str) -> Target:
    upstream_repository = rule.upstream_name(inner)
    if rule.upstream == DOCKER_HUB and "/" not in upstream_repository:
        # Docker Hub's official images: `nginx` and `library/nginx` are one repository, kept under the latter.
        inner = f"library/{inner}"
        upstream_repository = f"library/{upstream_repository}"
    if not rule.serves(inner):
        raise Denied(
            f"the rule {rule.prefix!r} does not serve {inner!r}",
            hint=f"see allow and deny of [rules.{rule.prefix}] in pullthrough.toml",
        )
    stored = inner if rule.prefix == ROOT else f"{rule.prefix}/{inner}"
    return Target(rule, RepositoryName(stored), upstream_repository)
