"""Reads the accounts that rules log in with, and says what is missing or malformed.

A token is read from the place the declaration names, or asked for at a terminal. It stays in memory, in `Account`, whose
repr hides it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from pullthrough.credentials import Credentials, CredentialUnreadable
from pullthrough.declaration import GITHUB, CredentialSource, Declaration, Rule
from pullthrough.errors import InputMissing
from pullthrough.oci.ecr_upstreams import kind_of
from pullthrough.provision.model.accounts import INPUTS, WHERE_TOKENS_ARE, Account, secret_name_of, wants_account
from pullthrough.provision.model.target import DeploymentTarget

_DOCKER_USERNAME = re.compile(r"[a-z0-9]{4,30}", re.ASCII)
_GITHUB_USERNAME = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}", re.ASCII)
_MAX_TOKEN_LENGTH = 4096
_HINT = (
    "on an engine a rule may do without an account: [rules.<prefix>] anonymous = true; a rule that is not wanted is "
    "switched off by [rules.<prefix>] enabled = false"
)


#: Asks at a terminal: what for, and whether the answer is a secret, which is not echoed.
Ask = Callable[[str, bool], str]


def read_accounts(
    declaration: Declaration, target: DeploymentTarget, credentials: Credentials, ask: Ask | None = None
) -> dict[str, Account]:
    """The account of each rule that wants one, by prefix.

    `ask` is None where nobody can be asked. Raises InputMissing with all that is missing or wrong.
    """
    accounts: dict[str, Account] = {}
    asked: dict[str, Account] = {}
    problems: list[str] = []
    for rule in declaration.rules:
        if not wants_account(rule, target):
            continue
        if isinstance(rule.credential, CredentialSource):
            account = _read(rule, rule.credential, credentials, problems)
        elif ask is not None:
            account = asked.get(rule.upstream) or _ask(rule, declaration.usernames.get(rule.upstream, ""), ask)
            asked[rule.upstream] = account
        else:
            problems.extend(_missing(rule, declaration))
            continue
        if account is not None:
            accounts[rule.prefix] = account
            problems.extend(_malformed(rule, account))
    problems += _shared_names(declaration.rules, accounts)
    if problems:
        raise InputMissing(_together(_once(problems)), hint=_HINT)
    return accounts


def warnings_of(accounts: Mapping[str, Account], rules: Iterable[Rule]) -> tuple[str, ...]:
    """What is allowed and, as far as we know, does not work."""
    return tuple(
        f"the token for {rule.prefix} is a fine-grained one of GitHub's, which ghcr.io does not take; "
        f"{WHERE_TOKENS_ARE['github-container-registry']}"
        for rule in rules
        if rule.upstream == GITHUB and rule.prefix in accounts and accounts[rule.prefix].token.startswith("github_pat_")
    )


def _read(rule: Rule, source: CredentialSource, credentials: Credentials, problems: list[str]) -> Account | None:
    try:
        secret = credentials.read(source)
    except CredentialUnreadable as error:
        problems.append(f"the token for {_named(rule)} cannot be read: {error}")
        return None
    return Account(secret.username, secret.token)


def _ask(rule: Rule, username: str, ask: Ask) -> Account:
    name = INPUTS.get(rule.upstream, rule.prefix)
    return Account(username or ask(f"{name}_username", False), ask(f"{name}_access_token", True))


def _missing(rule: Rule, declaration: Declaration) -> list[str]:
    """One sentence for each input that is not there."""
    kind = kind_of(rule.upstream) or ""
    where = f"; {WHERE_TOKENS_ARE[kind]}" if kind in WHERE_TOKENS_ARE else ""
    if name := INPUTS.get(rule.upstream):
        variable = f"PULLTHROUGH_{name.upper()}"
        missing = []
        if rule.upstream not in declaration.usernames:
            missing.append(
                f"{name}_username is missing, the account that {rule.upstream} is asked as: set {variable}_USERNAME, or "
                f"{name}_username in pullthrough.toml"
            )
        missing.append(
            f"{name}_access_token is missing: set {variable}_ACCESS_TOKEN, or {name}_access_token_file or "
            f"{name}_access_token_command in pullthrough.toml{where}"
        )
        return missing
    return [
        f"{_named(rule)} has no account, and AWS takes none without for {rule.upstream}: add username and one of "
        f"access_token_env, access_token_file and access_token_command{where}"
    ]


def _malformed(rule: Rule, account: Account) -> Iterable[str]:
    """What registries do not take as user names and tokens. Never repeats a token."""
    kind = kind_of(rule.upstream) or ""
    name = INPUTS.get(rule.upstream)
    username = f"{name}_username" if name else f"the username of {_named(rule)}"
    token = f"{name}_access_token" if name else f"the token of {_named(rule)}"
    if not account.username or any(character.isspace() for character in account.username):
        yield f"{username} is empty or holds a space"
    elif "@" in account.username and kind in ("docker-hub", "github-container-registry"):
        yield f"{username} looks like an e-mail address; what is wanted is the account's user name"
    elif kind == "docker-hub" and _DOCKER_USERNAME.fullmatch(account.username) is None:
        yield f"{username} is no Docker ID, which is 4 to 30 lower-case letters and digits"
    elif kind == "github-container-registry" and _GITHUB_USERNAME.fullmatch(account.username) is None:
        yield f"{username} is no user name of GitHub: up to 39 letters, digits and single '-' between them"
    if not account.token or len(account.token) > _MAX_TOKEN_LENGTH:
        yield f"{token} is empty or longer than {_MAX_TOKEN_LENGTH} characters"
    elif not account.token.isascii() or any(character.isspace() for character in account.token):
        yield f"{token} holds a space, a line break or a character that is not ASCII; is it pasted whole?"
    elif account.token == account.username:
        yield f"{token} is the user name; what is wanted is an access token"


def _shared_names(rules: Iterable[Rule], accounts: Mapping[str, Account]) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for rule in rules:
        if rule.prefix not in accounts:
            continue
        name = secret_name_of(rule)
        other = first.setdefault(name, rule.prefix)
        if accounts[other] != accounts[rule.prefix]:
            problems.append(
                f"the rules {other} and {rule.prefix} keep different accounts in one secret, {name}; give one of them "
                "another secret_name"
            )
    return problems


def _named(rule: Rule) -> str:
    return f"the rule {rule.prefix}"


def _once(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(sentences))


def _together(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} inputs are missing or wrong:" + "".join(f"\n  - {problem}" for problem in problems)
