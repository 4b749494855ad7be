"""Who a request is from."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field

from pullthrough.access.policy.documents import ROLE_POLICIES
from pullthrough.access.policy.statements import Policy
from pullthrough.settings import Role

_ID_BYTES = 10


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who asks, and what the policies of their own allow them. Made anew for each request."""

    name: str
    arn: str
    #: As STS gives it: `AIDA...` for users, the account for the root.
    user_id: str
    account: str
    policies: tuple[Policy, ...] = field(repr=False)
    is_anonymous: bool = False
    #: The API key that was used; empty for registry users and the root.
    access_key_id: str = ""
    #: What an anonymous client is told that may not do this without login: the value of WWW-Authenticate.
    challenge: str = field(default="", repr=False, compare=False)

    @property
    def is_admin(self) -> bool:
        return ROLE_POLICIES[Role.ADMIN] in self.policies


def user(name: str, account: str, policies: tuple[Policy, ...], *, access_key_id: str = "") -> Principal:
    """The user of an API key."""
    arn = f"arn:aws:iam::{account}:user/{name}"
    return Principal(name, arn, _user_id(arn), account, policies, access_key_id=access_key_id)


def registry_user(name: str, account: str) -> Principal:
    """A user of the htpasswd file, who may pull. The path keeps the name apart from an API key's."""
    arn = f"arn:aws:iam::{account}:user/htpasswd/{name}"
    return Principal(name, arn, _user_id(arn), account, (ROLE_POLICIES[Role.PULL],))


def root(account: str) -> Principal:
    """Who everybody is where nobody is asked."""
    return Principal("root", f"arn:aws:iam::{account}:root", account, account, (ROLE_POLICIES[Role.ADMIN],))


def anonymous(account: str, challenge: str) -> Principal:
    """A registry client that did not log in, where none needs to. It belongs to no account."""
    arn = "anonymous"
    return Principal(
        "anonymous", arn, arn, account, (ROLE_POLICIES[Role.PULL],), is_anonymous=True, challenge=challenge
    )


def _user_id(arn: str) -> str:
    """Stable, and of the shape that IAM's are: `AIDA` and 16 letters and digits."""
    return "AIDA" + base64.b32encode(hashlib.sha256(arn.encode()).digest()[:_ID_BYTES]).decode()
