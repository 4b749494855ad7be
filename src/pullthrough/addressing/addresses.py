"""What to write in image names instead of each upstream's host, under the names of the sibling Terraform module's outputs.

Where a rule is switched off, or the whole cache, the address is the upstream's own, so that whoever composes image names
of it needs no other case.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pullthrough.addressing.labels import Style, labels, terraform_style
from pullthrough.declaration import ROOT, STANDARD_RULES, STANDARD_UPSTREAMS, Declaration, Rule
from pullthrough.oci.names import DOCKER_HUB

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
    """The five standard upstreams and every rule: the declaration's order, what is switched off last.

    `cache_off` gives every upstream's own address. A rule that is switched off because another one took its place (the
    same upstream under another prefix) has none of its own.
    """
    return [
        Address(
            name=f"{label}_registry",
            prefix=rule.prefix,
            upstream=rule.upstream,
            address=original_address(rule) if cache_off or not is_on else cached_address(rule, registry_host),
            is_cached=is_on and not cache_off,
        )
        for label, rule, is_on in labelled(declaration, terraform_style, "_")
    ]


def labelled(declaration: Declaration, style: Style, separator: str) -> list[tuple[str, Rule, bool]]:
    """Each rule that has an address, with its label and whether it is switched on. No two labels are the same.

    A standard upstream has the label of its standard prefix, whatever its rule's prefix is, and is there without a rule
    too.
    """
    ordered = [(rule, True) for rule in declaration.rules] + [(rule, False) for rule in declaration.disabled]
    named = {rule.upstream for rule, _ in ordered}
    ordered += [(rule, False) for rule in STANDARD_RULES if rule.upstream not in named]
    standard: dict[str, tuple[Rule, bool]] = {}
    for rule, is_on in sorted(ordered, key=lambda pair: (not pair[1], not _has_standard_prefix(pair[0]))):
        if rule.upstream in _STANDARD_PREFIXES:
            standard.setdefault(rule.upstream, (rule, is_on))
    chosen = {style(_STANDARD_PREFIXES[upstream])[0]: pair for upstream, pair in standard.items()}
    others = {
        rule.prefix: (rule, is_on)
        for rule, is_on in ordered
        # Of a standard rule that is switched off, the rule that took its place has the label.
        if (rule, is_on) not in chosen.values() and (is_on or not _has_standard_prefix(rule))
    }
    for prefix, label in labels(others, style, separator=separator, reserved=chosen).items():
        chosen[label] = others[prefix]
    return sorted(((label, *pair) for label, pair in chosen.items()), key=lambda entry: ordered.index(entry[1:]))


def original_address(rule: Rule) -> str:
    """What stands before the same names without a cache."""
    host = _WRITTEN_HOSTS.get(rule.upstream, rule.upstream)
    return f"{host}/{rule.upstream_repository_prefix}" if rule.upstream_repository_prefix else host


def cached_address(rule: Rule, registry_host: str) -> str:
    return registry_host if rule.prefix == ROOT else f"{registry_host}/{rule.prefix}"


def _has_standard_prefix(rule: Rule) -> bool:
    return _STANDARD_PREFIXES.get(rule.upstream) == rule.prefix


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
