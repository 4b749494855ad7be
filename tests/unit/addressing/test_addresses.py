"""Addresses: the names and values that the sibling Terraform module gives, and that they are safe to paste."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pullthrough.addressing.addresses import Address, addresses, as_json, as_rows, as_shell, as_terraform
from pullthrough.declaration import ROOT, STANDARD_RULES, Declaration, Rule
from pullthrough.oci.names import DOCKER_HUB

HOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
STANDARD = Declaration(rules=STANDARD_RULES)


def named(declaration: Declaration, **options: bool) -> dict[str, str]:
    found = addresses(declaration, HOST, **options)
    names = {address.name: address.address for address in found}
    assert len(names) == len(found)
    return names


def cached(declaration: Declaration) -> dict[str, str]:
    """The addresses that lead through the cache."""
    return {address.name: address.address for address in addresses(declaration, HOST) if address.is_cached}


def test_the_standard_rules_have_the_terraform_modules_outputs() -> None:
    assert named(STANDARD) == {
        "docker_hub_registry": f"{HOST}/docker-hub",
        "github_registry": f"{HOST}/github",
        "quay_registry": f"{HOST}/quay",
        "kubernetes_registry": f"{HOST}/kubernetes",
        "ecr_public_registry": f"{HOST}/ecr-public",
    }


def test_with_the_cache_off_they_are_the_original_hosts() -> None:
    assert named(STANDARD, cache_off=True) == {
        "docker_hub_registry": "docker.io",
        "github_registry": "ghcr.io",
        "quay_registry": "quay.io",
        "kubernetes_registry": "registry.k8s.io",
        "ecr_public_registry": "public.ecr.aws",
    }
    assert not any(address.is_cached for address in addresses(STANDARD, "", cache_off=True))


def test_a_rule_that_is_switched_off_has_its_upstreams_address() -> None:
    declaration = Declaration(rules=STANDARD_RULES[1:], disabled=STANDARD_RULES[:1])
    found = named(declaration)
    assert found["docker_hub_registry"] == "docker.io"
    assert found["github_registry"] == f"{HOST}/github"
    assert addresses(declaration, HOST)[-1] == Address(
        "docker_hub_registry", "docker-hub", DOCKER_HUB, "docker.io", is_cached=False
    )


def test_a_renamed_rule_keeps_its_upstreams_name() -> None:
    """The standard one is switched off, and another one has its upstream: one address, not two."""
    renamed = Declaration(rules=(Rule("dh", DOCKER_HUB), *STANDARD_RULES[1:]), disabled=STANDARD_RULES[:1])
    found = named(renamed)
    assert found["docker_hub_registry"] == f"{HOST}/dh"
    assert len(found) == 5


def test_of_two_rules_for_one_upstream_the_standard_prefix_has_the_name() -> None:
    found = named(Declaration(rules=(Rule("dh", DOCKER_HUB), *STANDARD_RULES)))
    assert (found["docker_hub_registry"], found["dh_registry"]) == (f"{HOST}/docker-hub", f"{HOST}/dh")
    first = cached(Declaration(rules=(Rule("one", DOCKER_HUB), Rule("two", DOCKER_HUB))))
    assert first == {"docker_hub_registry": f"{HOST}/one", "two_registry": f"{HOST}/two"}


def test_a_standard_upstream_without_a_rule_has_its_own_address() -> None:
    found = named(Declaration(rules=(Rule("docker-hub", "quay.io"),)))
    assert found == named(STANDARD, cache_off=True) | {"quay_registry": f"{HOST}/docker-hub"}


def test_further_rules_are_called_by_their_prefix() -> None:
    rules = (Rule("team-a/images.x", "registry.gitlab.com"), Rule("3d", "cgr.dev"), Rule(ROOT, "mcr.microsoft.com"))
    found = cached(Declaration(rules=rules))
    (odd,) = (name for name in found if name.startswith("team_a__images_x_"))
    assert found == {odd: f"{HOST}/team-a/images.x", "_3d_registry": f"{HOST}/3d", "ROOT_registry": HOST}


def test_an_upstream_prefix_is_part_of_the_original_address() -> None:
    rule = Rule("mine", "210987654321.dkr.ecr.us-east-1.amazonaws.com", upstream_repository_prefix="team")
    assert named(Declaration(rules=(rule,)), cache_off=True)["mine_registry"] == f"{rule.upstream}/team"
    assert cached(Declaration(rules=(rule,))) == {"mine_registry": f"{HOST}/mine"}


def test_a_rule_that_comes_later_renames_none() -> None:
    """Names that would be one get digits of their prefix's hash, whatever else is there."""
    names = {
        prefix: next(iter(cached(Declaration(rules=(Rule(prefix, "cgr.dev"),))))) for prefix in ("a-b", "a.b", "a_b")
    }
    assert names["a-b"] == "a_b_registry"
    assert len(set(names.values())) == 3
    together = addresses(Declaration(rules=tuple(Rule(prefix, "cgr.dev") for prefix in names)), HOST)
    assert {address.prefix: address.name for address in together if address.is_cached} == names


prefixes = st.from_regex(r"[a-z0-9]{1,3}(?:[._-][a-z0-9]{1,3}){0,2}", fullmatch=True) | st.sampled_from(
    [ROOT, "root", "docker-hub", "docker.hub", "quay"]
)
hosts = st.sampled_from([DOCKER_HUB, "quay.io", "ghcr.io", "cgr.dev", "registry.example.com:5000"])


@given(st.lists(st.builds(Rule, prefixes, hosts), max_size=8, unique_by=lambda rule: rule.prefix), st.integers(0, 8))
def test_names_are_identifiers_and_never_collide(rules: list[Rule], count: int) -> None:
    declaration = Declaration(rules=tuple(rules[:count]), disabled=tuple(rules[count:]))
    found = addresses(declaration, HOST)
    assert len({address.name for address in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", address.name) for address in found)
    # Each rule that is on has one.
    assert [address.prefix for address in found][: len(declaration.rules)] == [r.prefix for r in declaration.rules]


def test_rows_and_json_say_the_same() -> None:
    found = addresses(Declaration(rules=STANDARD_RULES[:1]), HOST)[:1]
    assert as_rows(found) == [("docker_hub_registry", DOCKER_HUB, f"{HOST}/docker-hub")]
    assert as_json(found) == {
        "docker_hub_registry": {
            "prefix": "docker-hub",
            "upstream": DOCKER_HUB,
            "address": f"{HOST}/docker-hub",
            "cached": True,
        }
    }


def test_the_shell_gets_what_was_meant_whatever_it_is() -> None:
    """Hosts come from the endpoint, whose word is not trusted."""
    hostile = "host'; echo caught; $(echo caught) `echo caught` \"\n#"
    text = as_shell([replace(addresses(STANDARD, HOST)[0], address=hostile)])
    shown = subprocess.run(
        ["sh", "-c", f'{text}printf %s "$DOCKER_HUB_REGISTRY"'], capture_output=True, text=True, check=True
    )
    assert shown.stdout == hostile
    assert as_shell(addresses(STANDARD, HOST)).splitlines()[0] == f"export DOCKER_HUB_REGISTRY={HOST}/docker-hub"


def test_terraform_gets_strings_without_templates() -> None:
    assert as_terraform(addresses(STANDARD, HOST)).splitlines()[0] == f'docker_hub_registry = "{HOST}/docker-hub"'
    hostile = replace(addresses(STANDARD, HOST)[0], address='a"${file("/etc/passwd")}%{if x}\n')
    assert as_terraform([hostile]) == ('docker_hub_registry = "a\\"$${file(\\"/etc/passwd\\")}%%{if x}\\n"\n')
