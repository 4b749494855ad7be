"""From the name in a request to the repository, the rule and the upstream name it stands for. No I/O.

Rules match on whole path segments, the longest prefix first, `ROOT` last (`addressing.names`). A name under no rule
is the registry's own: what clients push there is all that it has, and it stays so when a rule comes to cover it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from pullthrough.addressing.names import below, covering, prefixed, spelt_out
from pullthrough.declaration import ROOT, Rule, SecretCredential
from pullthrough.errors import Denied, RepositoryUnknown
from pullthrough.oci.names import RepositoryName, canonical_host
from pullthrough.oci.owners import OWN, Owner, Source, source_of, upstream_owner

#: Of names under no rule: no upstream is ever asked, and what is there stays as it is.
OWN_RULE = Rule(prefix="", upstream="", freshness_seconds=math.inf, negative_seconds=0.0)


@dataclass(frozen=True, slots=True)
class Target:
    """One repository of the cache and where it comes from."""

    rule: Rule
    #: The name under which it is stored, whatever name was asked for.
    repository: RepositoryName
    upstream_repository: str
    #: Whose content is given out; None under no rule, where whoever has the name will do.
    owner: Owner | None = None

    @property
    def upstream(self) -> str:
        return self.rule.upstream

    @property
    def upstream_owner(self) -> Owner:
        """The owner, of one that has an upstream."""
        assert self.owner is not None
        return self.owner

    @property
    def source(self) -> Source:
        return source_of(self.upstream_owner)

    @property
    def secret(self) -> str:
        """The ARN of the secret that the upstream is asked with; empty where it is asked with none, or what the settings
        name. The user name in a secret is whatever its maker wrote there, and the token beside it may be wrong: what is on
        its way for one secret is nobody's who asks with another.
        """
        credential = self.rule.credential
        return credential.arn if isinstance(credential, SecretCredential) else ""

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
    """The rules in force. `own`: names under them that are the registry's own nevertheless, for clients pushed to them."""

    def __init__(self, rules: Iterable[Rule], own: Collection[RepositoryName] = ()) -> None:
        self._by_prefix = {rule.prefix: rule for rule in rules}
        self._own = frozenset(own)
        #: The same few names are asked for again and again.
        self._cached = lru_cache(maxsize=8192)(self._resolve)

    def is_covered(self, name: RepositoryName) -> bool:
        """Whether it is the registry's own and a rule covers it."""
        return name in self._own

    @property
    def prefixes(self) -> list[str]:
        return sorted(self._by_prefix)

    def resolve(self, name: RepositoryName, *, ns: str | None = None, mirror: str | None = None) -> Targets:
        """`ns` is containerd's query parameter; `mirror` the prefix of the rule a mirror listener is bound to.

        Raises RepositoryUnknown where `ns` names no rule's upstream, or the name that it would be stored under leads
        elsewhere; Denied where the rule does not serve the name.
        """
        return self._cached(name, ns, mirror)

    def _resolve(self, name: RepositoryName, ns: str | None, mirror: str | None) -> Targets:
        if ns is not None:
            return self._by_namespace(name, canonical_host(ns))
        if mirror is not None:
            return Targets(self._kept(self._by_prefix[mirror], name, name))
        return Targets(self._by_longest_prefix(name))

    def _by_longest_prefix(self, name: RepositoryName) -> Target:
        if name in self._own:
            return Target(OWN_RULE, name, "", OWN)
        rule = self.covering(name)
        if rule is None:
            return Target(OWN_RULE, name, "")
        inner = below(rule.prefix, name)
        assert inner is not None
        stored = _target(rule, inner).repository
        if stored in self._own:
            return Target(OWN_RULE, stored, "", OWN)
        return self._kept(rule, inner, name)

    def covering(self, name: str) -> Rule | None:
        """The rule that a name is under, whoever's that is."""
        return self._by_prefix.get(covering(self._by_prefix, name))

    def _kept(self, rule: Rule, inner: str, name: str) -> Target:
        """The target of `inner` under this rule, if the name that it would be stored under leads to the rule again.

        Raises Denied where the rule does not serve the name, RepositoryUnknown where the stored name is somebody else's.
        """
        target = _target(rule, inner)
        stored = target.repository
        other = self.covering(stored)
        if other is rule and stored not in self._own:
            return target
        whose = "the registry itself: it was pushed"
        if other is not None and other is not rule:
            whose = f"the rule {other.prefix!r}, for {other.upstream}"
        raise RepositoryUnknown(
            f"{str(name)!r} of {target.upstream} would be kept as {str(stored)!r}, which is a name of {whose}",
            hint=f"give {target.upstream} a further rule, with a prefix that nothing else stands under",
        )

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
        refusal: Denied | RepositoryUnknown | None = None
        # The rule that takes the narrowest part of the upstream, then the one with the plainest prefix.
        for rule in sorted(candidates, key=lambda r: (-len(r.upstream_repository_prefix), r.prefix == ROOT, r.prefix)):
            inner = below(rule.upstream_repository_prefix, name)
            if inner is None:
                continue
            try:
                literal = self._kept(rule, inner, name)
                break
            except (Denied, RepositoryUnknown) as error:
                refusal = refusal or error
        stripped: Target | None = None
        for rule in sorted(candidates, key=lambda r: -len(r.prefix)):
            if rule.prefix != ROOT and (inner := below(rule.prefix, name)):
                try:
                    stripped = self._kept(rule, inner, name)
                except (Denied, RepositoryUnknown) as error:
                    refusal = refusal or error
                break
        if literal is not None:
            return Targets(literal, stripped)
        if stripped is not None:
            return Targets(stripped)
        raise refusal or RepositoryUnknown(f"no rule for {host} covers {name!r}")


def _target(rule: Rule, inner: str) -> Target:
    inner = spelt_out(rule, inner)
    upstream_repository = rule.upstream_name(inner)
    if not rule.serves(inner):
        raise Denied(
            f"the rule {rule.prefix!r} does not serve {inner!r}",
            hint=f"see allow and deny of [rules.{rule.prefix}] in pullthrough.toml",
        )
    account = rule.credential.account if rule.credential is not None else ""
    owner = upstream_owner(rule.upstream, upstream_repository, account)
    return Target(rule, RepositoryName(prefixed(rule.prefix, inner)), upstream_repository, owner)
