"""What the Pulumi component and the CDK construct share: which account each rule logs in with, of those passed to them.

The values are the tool's: plain texts, outputs, tokens. Only plain texts can be looked at here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from pullthrough.credentials import Credentials
from pullthrough.declaration import STANDARD_RULES, CredentialSource, Declaration, InlineToken, Rule
from pullthrough.errors import InputMissing
from pullthrough.oci.ecr_upstreams import kind_of
from pullthrough.provision.export.common import TARGET
from pullthrough.provision.inputs import read_accounts
from pullthrough.provision.model.accounts import INPUTS, WHERE_TOKENS_ARE, wants_account

Username = TypeVar("Username")
Token = TypeVar("Token")

#: What is declared unless something else is.
STANDARD = Declaration(rules=STANDARD_RULES)

WHOLE_POLICY = (
    "a registry of ECR has one policy, and this stack owns all of it from now on: statements that others put there are "
    "replaced. `pullthrough apply` merges instead"
)
WHOLE_SCANNING = (
    "a registry of ECR has one scanning configuration, and this stack owns all of it from now on, its scan type included: "
    "filters that others put there are replaced. `pullthrough apply` merges instead"
)


def accounts_by_prefix(
    declaration: Declaration,
    usernames: Mapping[str, Username | None],
    tokens: Mapping[str, Token | None],
    accounts: Mapping[str, tuple[Username, Token]],
    plain: Callable[[Username | Token], str | None],
) -> dict[str, tuple[Username, Token]]:
    """The user name and token of each rule that wants an account.

    `usernames` and `tokens` are the Terraform module's inputs, under their beginnings (`docker_hub`, `github`); `accounts`
    are those of single rules, by prefix, and win. `plain` gives a value's text where it is one, and None where only the
    tool will know it. Raises InputMissing with all that is missing or wrong.
    """
    wanting = {rule.prefix: rule for rule in declaration.rules if wants_account(rule, TARGET)}
    problems = [
        f"accounts has {prefix[:80]!r}, which is not the prefix of a rule that wants an account"
        for prefix in accounts
        if prefix not in wanting
    ]
    found: dict[str, tuple[Username, Token]] = {}
    for prefix, rule in wanting.items():
        stem = INPUTS.get(rule.upstream, "")
        username, token = accounts.get(prefix) or (usernames.get(stem), tokens.get(stem))
        lacking = [_is_lacking(username, plain), _is_lacking(token, plain)]
        if username is None or token is None or any(lacking):
            problems += _missing(rule, stem, *lacking)
        else:
            found[prefix] = username, token
    if problems:
        raise InputMissing("\n".join(dict.fromkeys(problems)))
    _check(declaration, found, plain)
    return found


def _is_lacking(value: Username | None, plain: Callable[[Username], str | None]) -> bool:
    return value is None or plain(value) == ""


def _missing(rule: Rule, stem: str, username: bool, token: bool) -> list[str]:
    """A sentence for each of the two that is missing."""
    kind = kind_of(rule.upstream) or ""
    where = f"; {WHERE_TOKENS_ARE[kind]}" if kind in WHERE_TOKENS_ARE else ""
    if not stem:
        return [
            f"the rule {rule.prefix} has no account, and AWS takes none without for {rule.upstream}: pass "
            f'accounts={{"{rule.prefix}": (username, access_token)}}{where}'
        ]
    return [
        *([f"{stem}_username is missing, the account that {rule.upstream} is asked as"] if username else []),
        *([f"{stem}_access_token is missing{where}"] if token else []),
    ]


def _check(
    declaration: Declaration,
    accounts: Mapping[str, tuple[Username, Token]],
    plain: Callable[[Username | Token], str | None],
) -> None:
    """As for `pullthrough apply`; values that are not known yet are taken to be well formed, and each another one."""
    checked = []
    for rule in declaration.rules:
        if rule.prefix in accounts:
            username, token = accounts[rule.prefix]
            rule = replace(
                rule,
                credential=CredentialSource(
                    plain(username) or f"user{id(username)}",
                    access_token=InlineToken(plain(token) or f"token{id(token)}"),
                ),
            )
        checked.append(rule)
    read_accounts(replace(declaration, rules=tuple(checked)), TARGET, Credentials({}))
