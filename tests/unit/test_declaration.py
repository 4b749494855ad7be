"""Rules by themselves: freshness by tag, what is served, names upstream."""

from __future__ import annotations

from pathlib import Path

import pytest

from pullthrough.declaration import (
    STANDARD_RULES,
    CredentialSource,
    Declaration,
    Encryption,
    InlineToken,
    Rule,
    Template,
)


@pytest.mark.parametrize(
    ("tag", "seconds"), [("latest", 600), ("1.27-stable", 60), ("stable", 86400), ("1.2", 5), ("1.27", 86400)]
)
def test_the_first_pattern_that_matches_decides_the_freshness(tag: str, seconds: float) -> None:
    by_tag = (("latest", 600.0), ("*-stable", 60.0), ("?.?", 5.0), ("1.2", 1.0))
    assert Rule("p", "host", freshness_by_tag=by_tag).freshness_of(tag) == seconds


@pytest.mark.parametrize(
    ("allow", "deny", "name", "served"),
    [
        ((), (), "any/thing", True),
        (("library/*",), (), "library/nginx", True),
        (("library/*",), (), "library", False),
        (("library/*",), (), "acme/nginx", False),
        (("library/*",), (), "library/a/b", True),
        (("*",), ("library/ng*",), "library/nginx", False),
        ((), ("library/nginx",), "library/nginx", False),
        ((), ("library/nginx",), "library/nginx2", True),
        (("a", "b"), (), "b", True),
    ],
)
def test_deny_wins_over_allow_and_an_empty_allow_serves_all(
    allow: tuple[str, ...], deny: tuple[str, ...], name: str, served: bool
) -> None:
    assert Rule("p", "host", allow=allow, deny=deny).serves(name) is served


def test_the_upstream_prefix_is_put_before_the_name() -> None:
    assert Rule("p", "host").upstream_name("a/b") == "a/b"
    assert Rule("p", "host", upstream_repository_prefix="team").upstream_name("a/b") == "team/a/b"


def test_the_five_standard_rules_have_the_prefixes_of_the_terraform_module() -> None:
    assert {rule.prefix: rule.upstream for rule in STANDARD_RULES} == {
        "docker-hub": "registry-1.docker.io",
        "github": "ghcr.io",
        "quay": "quay.io",
        "kubernetes": "registry.k8s.io",
        "ecr-public": "public.ecr.aws",
    }


def test_a_credential_has_exactly_one_place_and_shows_none_of_it() -> None:
    assert "hunter2" not in repr(CredentialSource("acme", access_token_command=("echo", "hunter2")))
    assert "hunter2" not in repr(CredentialSource("acme", access_token_env="hunter2"))
    assert "hunter2" not in repr(CredentialSource("acme", access_token_file=Path("hunter2")))
    assert "hunter2" not in repr(CredentialSource("acme", access_token=InlineToken("hunter2")))
    for wrong in (
        {},
        {"access_token": InlineToken()},
        {"access_token_env": "A", "access_token_command": ("b",)},
        {"access_token_env": "A", "access_token": InlineToken("b")},
    ):
        with pytest.raises(ValueError, match="exactly one place"):
            CredentialSource("acme", **wrong)
    with pytest.raises(ValueError, match="exactly one place"):
        CredentialSource("", access_token_env="A")


def test_a_credential_says_which_place_it_has() -> None:
    assert repr(CredentialSource("a", access_token_env="A")) == "CredentialSource(username='a', access_token_env=...)"
    assert repr(CredentialSource("a", access_token_file=Path("f"))).endswith("access_token_file=...)")
    assert repr(CredentialSource("a", access_token_command=("c",))).endswith("access_token_command=...)")
    assert repr(CredentialSource("a", access_token=InlineToken("t"))).endswith("access_token=...)")


def test_a_token_is_in_neither_text_of_it_and_equals_itself_only() -> None:
    token = InlineToken("hunter2")
    assert "hunter2" not in f"{token} {token!r} {[token]}"
    assert (token == InlineToken("hunter2"), token == InlineToken("hunter3")) == (True, False)
    assert (bool(token), bool(InlineToken())) == (True, False)


@pytest.mark.parametrize(
    ("template", "needs"),
    [
        (Template(), False),
        (Template(pull_accounts=("123456789012",), keep_images=None), False),
        (Template(resource_tags={"a": "b"}), True),
        (Template(encryption=Encryption.KMS), True),
    ],
)
def test_tags_and_kms_need_a_role_and_nothing_else_does(template: Template, needs: bool) -> None:
    assert template.needs_role is needs


def test_a_rule_of_a_declaration_is_found_by_its_whole_prefix() -> None:
    declaration = Declaration(rules=STANDARD_RULES, disabled=(Rule("off", "host"),))
    assert declaration.rule("quay") == STANDARD_RULES[2]
    assert [declaration.rule(prefix) for prefix in ("qua", "quay/", "off")] == [None, None, None]
