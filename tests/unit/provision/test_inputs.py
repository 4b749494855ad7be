"""The accounts that rules log in with: where they are read, and what is said when they are missing or wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pullthrough.credentials import Credentials
from pullthrough.declaration import STANDARD_RULES, CredentialSource, Declaration, Rule, SecretCredential
from pullthrough.errors import InputMissing
from pullthrough.provision.inputs import read_accounts, warnings_of
from pullthrough.provision.model.accounts import Account, placeholder_accounts, secret_name_of, wants_account
from pullthrough.provision.model.target import DeploymentTarget
from tests.deployments import GITHUB, GITLAB, HUB

AWS = DeploymentTarget("123456789012", "eu-central-1")
ENGINE = DeploymentTarget("123456789012", "eu-central-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)
HUB_RULE, GITHUB_RULE = STANDARD_RULES[:2]


def rule_with(rule: Rule, username: str = "acme", variable: str = "TOKEN") -> Rule:
    return replace(rule, credential=CredentialSource(username, access_token_env=variable))


def read(*rules: Rule, environ: dict[str, str] | None = None, target: DeploymentTarget = AWS) -> dict[str, Account]:
    return read_accounts(Declaration(rules=rules), target, Credentials(environ or {}))


def missing(*rules: Rule, environ: dict[str, str] | None = None, target: DeploymentTarget = AWS) -> InputMissing:
    with pytest.raises(InputMissing) as caught:
        read(*rules, environ=environ, target=target)
    return caught.value


def test_tokens_are_read_from_where_the_declaration_says(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    accounts = read(
        rule_with(HUB_RULE),
        replace(GITHUB_RULE, credential=CredentialSource("octo", access_token_file=tmp_path / "token")),
        Rule("gitlab", GITLAB, credential=CredentialSource("g", access_token_command=("echo", "from-a-command"))),
        Rule("quay", "quay.io"),
        environ={"TOKEN": "from-a-variable"},
    )
    assert accounts == {
        "docker-hub": Account("acme", "from-a-variable"),
        "github": Account("octo", "from-a-file"),
        "gitlab": Account("g", "from-a-command"),
    }


@pytest.mark.parametrize("target", [AWS, ENGINE], ids=["aws", "engine"])
def test_each_of_the_four_inputs_is_named_with_where_to_get_it(target: DeploymentTarget) -> None:
    error = missing(HUB_RULE, GITHUB_RULE, target=target)
    lines = error.message.splitlines()
    assert lines[0] == "4 inputs are missing or wrong:"
    for line, name in zip(
        lines[1:],
        ("docker_hub_username", "docker_hub_access_token", "github_username", "github_access_token"),
        strict=True,
    ):
        assert line.startswith(f"  - {name} is missing")
        assert f"PULLTHROUGH_{name.upper()}" in line
    assert "app.docker.com" in lines[2]
    assert "read:packages" in lines[4]
    assert "anonymous = true" in error.hint


def test_a_username_that_was_given_is_not_asked_for_again() -> None:
    declaration = Declaration(rules=(HUB_RULE,), usernames={HUB: "acme"})
    with pytest.raises(InputMissing, match=r"^docker_hub_access_token is missing") as caught:
        read_accounts(declaration, AWS, Credentials({}))
    assert "username is missing" not in caught.value.message


def test_at_a_terminal_what_is_missing_is_asked_for_once_an_upstream() -> None:
    asked: list[tuple[str, bool]] = []

    def ask(what: str, is_secret: bool) -> str:
        asked.append((what, is_secret))
        return "typed-token" if is_secret else "octo"

    declaration = Declaration(rules=(HUB_RULE, GITHUB_RULE, replace(HUB_RULE, prefix="hub2")), usernames={HUB: "acme"})
    accounts = read_accounts(declaration, AWS, Credentials({}), ask)
    assert accounts["docker-hub"] == accounts["hub2"] == Account("acme", "typed-token")
    assert asked == [("docker_hub_access_token", True), ("github_username", False), ("github_access_token", True)]


@pytest.mark.parametrize(
    ("rule", "username", "token", "words"),
    [
        (HUB_RULE, "Acme", "t", "docker_hub_username is no Docker ID"),
        (HUB_RULE, "ab", "t", "docker_hub_username is no Docker ID"),
        (HUB_RULE, "a@example.org", "t", "docker_hub_username looks like an e-mail address"),
        (GITHUB_RULE, "a--b", "t", "github_username is no user name of GitHub"),
        (GITHUB_RULE, "-a", "t", "github_username is no user name of GitHub"),
        (GITHUB_RULE, "a b", "t", "github_username is empty or holds a space"),
        (HUB_RULE, "acme", "two words", "docker_hub_access_token holds a space"),
        (HUB_RULE, "acme", "tökén", "docker_hub_access_token holds a space, a line break or a character"),
        (HUB_RULE, "acme", "x" * 4097, "docker_hub_access_token is empty or longer than 4096"),
        (HUB_RULE, "acme", "acme", "docker_hub_access_token is the user name"),
        (Rule("gitlab", GITLAB), "", "t", ""),
    ],
)
def test_what_no_registry_takes_is_refused_without_showing_the_token(
    rule: Rule, username: str, token: str, words: str
) -> None:
    if not username:
        assert "the rule gitlab has no account" in missing(rule).message
        return
    error = missing(rule_with(rule, username), environ={"TOKEN": token})
    assert words in error.message
    if len(token) > 4 and token != username:
        assert token not in error.message


@pytest.mark.parametrize("environ", [{}, {"TOKEN": ""}], ids=["absent", "empty"])
def test_a_token_that_is_not_where_it_is_said_to_be_is_named(environ: dict[str, str]) -> None:
    assert "the token for the rule docker-hub" in missing(rule_with(HUB_RULE), environ=environ).message


def test_different_accounts_in_one_secret_are_refused() -> None:
    name = "ecr-pullthroughcache/shared"
    rules = [replace(rule_with(HUB_RULE), secret_name=name), replace(rule_with(GITHUB_RULE, "octo"), secret_name=name)]
    assert f"different accounts in one secret, {name}" in missing(*rules, environ={"TOKEN": "t-1"}).message


def test_which_rules_want_an_account() -> None:
    given = SecretCredential("arn:aws:secretsmanager:eu-central-1:123456789012:secret:ecr-pullthroughcache/a-123456")
    for rule, on_aws, on_engine in (
        (HUB_RULE, True, True),
        (replace(HUB_RULE, anonymous=True), False, False),
        (replace(HUB_RULE, credential=given), False, False),
        (Rule("gitlab", GITLAB), True, False),
        (rule_with(Rule("gitlab", GITLAB)), True, True),
        (Rule("quay", "quay.io"), False, False),
        (rule_with(Rule("own", "registry.example.org")), True, True),
    ):
        assert (wants_account(rule, AWS), wants_account(rule, ENGINE)) == (on_aws, on_engine), rule


def test_secrets_are_named_as_ecr_wants_them() -> None:
    assert secret_name_of(HUB_RULE) == "ecr-pullthroughcache/docker-hub"
    assert secret_name_of(replace(HUB_RULE, secret_name="ecr-pullthroughcache/x")) == "ecr-pullthroughcache/x"


def test_without_tokens_accounts_have_their_usernames() -> None:
    declaration = Declaration(rules=(HUB_RULE, Rule("quay", "quay.io")), usernames={HUB: "acme"})
    assert placeholder_accounts(declaration, AWS) == {"docker-hub": Account("acme", "")}


def test_a_fine_grained_token_of_github_is_warned_of() -> None:
    accounts = {"github": Account("octo", "github_pat_123"), "docker-hub": Account("acme", "github_pat_123")}
    (warning,) = warnings_of(accounts, STANDARD_RULES)
    assert "fine-grained" in warning
    assert GITHUB in warning
    assert "github_pat_123" not in warning
