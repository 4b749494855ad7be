"""What to write in image names instead of each upstream's host, under the names of the sibling Terraform module's outputs.

Where a rule is switched off, or the whole cache, the address is the upstream's own, so that whoever composes image names
of it needs no other case.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pullthrough.declaration import ROOT, STANDARD_UPSTREAMS, Declaration, Rule
from pullthrough.errors import TargetUnusable
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.aws import Aws
from pullthrough.provision.target import Target

#: By canonical host: the standard prefix, whose output has the name that Terraform's users know.
_STANDARD_PREFIXES: Mapping[str, str] = {upstream: prefix for prefix, upstream in STANDARD_UPSTREAMS.items()}
#: What people write in image names, where that is not the host that is asked.
_WRITTEN_HOSTS: Mapping[str, str] = {DOCKER_HUB: "docker.io"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the images of one upstream are."""

    #: As the Terraform module calls its output: `docker_hub_registry`.
    name: str
    prefix: str
    #: The canonical host.
    upstream: str
    #: What an image name begins with, without a slash at its end.
    address: str
    #: Whether that leads through the cache.
    is_cached: bool


def addresses(declaration: Declaration, registry_host: str, *, cache_off: bool = False) -> list[Address]:
    """One for each rule, in the declaration's order, those that are switched off last.

    `cache_off` gives every upstream's own address. A rule that is switched off because another one took its place (the
    same upstream under another prefix) has none of its own.
    """
    names = _names(declaration)
    return [
        Address(
            name=names[rule.prefix],
            prefix=rule.prefix,
            upstream=rule.upstream,
            address=original_address(rule) if cache_off or not is_on else _cached_address(rule, registry_host),
            is_cached=is_on and not cache_off,
        )
        for rule, is_on in _in_order(declaration)
        if rule.prefix in names
    ]


def original_address(rule: Rule) -> str:
    """What stands before the same names without a cache."""
    host = _WRITTEN_HOSTS.get(rule.upstream, rule.upstream)
    return f"{host}/{rule.upstream_repository_prefix}" if rule.upstream_repository_prefix else host


def _cached_address(rule: Rule, registry_host: str) -> str:
    return registry_host if rule.prefix == ROOT else f"{registry_host}/{rule.prefix}"


def _in_order(declaration: Declaration) -> list[tuple[Rule, bool]]:
    """Each rule with whether it is switched on."""
    return [(rule, True) for rule in declaration.rules] + [(rule, False) for rule in declaration.disabled]


def _names(declaration: Declaration) -> dict[str, str]:
    """The output's name of each rule, by prefix. No two are the same."""
    standard: dict[str, Rule] = {}
    for rule, _ in sorted(_in_order(declaration), key=lambda pair: (not pair[1], not _has_standard_prefix(pair[0]))):
        if rule.upstream in _STANDARD_PREFIXES:
            standard.setdefault(rule.upstream, rule)
    names = {rule.prefix: _output_name(_STANDARD_PREFIXES[upstream]) for upstream, rule in standard.items()}
    taken = set(names.values())
    for rule, is_on in _in_order(declaration):
        if rule.prefix in names:
            continue
        name = _output_name(rule.prefix)
        if not is_on and _has_standard_prefix(rule) and name in taken:
            continue  # the rule that took its place has its name
        names[rule.prefix] = _free_name(name, taken)
        taken.add(names[rule.prefix])
    return names


def _has_standard_prefix(rule: Rule) -> bool:
    return _STANDARD_PREFIXES.get(rule.upstream) == rule.prefix


def _output_name(prefix: str) -> str:
    """A prefix as Terraform and shells take names: `docker_hub_registry`."""
    name = f"{re.sub(r'[^a-z0-9]', '_', prefix.lower())}_registry"
    return f"_{name}" if name[0].isdigit() else name


def _free_name(name: str, taken: set[str]) -> str:
    """`team-a` and `team_a` are one name; the second one gets a number."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def registry_host(aws: Aws, target: Target) -> str:
    """The registry's name in image names. Elsewhere than on AWS it is asked for: GetAuthorizationToken, one call.

    Raises what `Aws.call` raises, and TargetUnusable for an answer without one.
    """
    if target.is_aws:
        return target.registry_host
    for entry in aws.call("ecr", "GetAuthorizationToken").get("authorizationData", []):
        if host := urlsplit(str(entry.get("proxyEndpoint", ""))).netloc:
            return host
    raise TargetUnusable(
        f"{target.endpoint} does not say where its registry is",
        hint="GetAuthorizationToken has to have a proxyEndpoint; is this an endpoint of ECR's API?",
    )


# Forms


def as_rows(found: Iterable[Address]) -> list[tuple[str, str, str]]:
    """For a table: name, upstream, address."""
    return [(address.name, address.upstream, address.address) for address in found]


def as_json(found: Iterable[Address]) -> dict[str, dict[str, object]]:
    """By name, so that `.docker_hub_registry.address` finds one."""
    return {
        address.name: {
            "prefix": address.prefix,
            "upstream": address.upstream,
            "address": address.address,
            "cached": address.is_cached,
        }
        for address in found
    }


def as_shell(found: Iterable[Address]) -> str:
    """Lines for `eval` in any POSIX shell."""
    return "".join(f"export {address.name.upper()}={shlex.quote(address.address)}\n" for address in found)


def as_terraform(found: Iterable[Address]) -> str:
    """A .tfvars file."""
    return "".join(f"{address.name} = {_hcl_string(address.address)}\n" for address in found)


def _hcl_string(text: str) -> str:
    """https://developer.hashicorp.com/terraform/language/expressions/strings#escape-sequences"""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.replace("${", "$${").replace("%{", "%%{")
