"""Whose content a repository holds: the registry's own, or what came from one name at one upstream, as one account.

What is stored under a name is given out only to a rule that leads to its owner. Where an upstream is reached and with which
token is no part of it: both change, and the content stays the same.
"""

from __future__ import annotations

from typing import NewType

#: `[<account>@]<host>/<name>`: what the account may read, or anybody, of that repository at that host. Or one of those below.
Owner = NewType("Owner", str)
#: An upstream's host and an account there, `[<account>@]<host>`: where bytes came from, whatever they were called.
Source = NewType("Source", str)

#: The registry itself: clients pushed it.
OWN = Owner("own")
#: The key of a tag that the API shows, with the value OWN, on what is the registry's own though a rule covers it: whoever
#: takes away what the cache has made leaves that. Clients of AWS's API skip keys that begin so; nobody can set them.
OWNER_TAG = "aws:pullthrough:owner"
#: Stored by a version that did not write down whose it was, under a name for which there has been no rule since.
UNKNOWN = Owner("?")


def upstream_owner(host: str, name: str, account: str = "") -> Owner:
    """`account` is the user name that the upstream is asked with; empty where it is asked as nobody."""
    return Owner(f"{source_at(host, account)}/{name}")


def source_at(host: str, account: str = "") -> Source:
    return Source(f"{account}@{host}" if account else host)


def source_of(owner: Owner) -> Source:
    """Where what this owner has came from. Hosts and names have no `@`, hosts no slash; accounts may have both."""
    account, at, rest = owner.rpartition("@")
    return Source(f"{account}{at}{rest.partition('/')[0]}")


def is_anonymous(source: Source) -> bool:
    """Whether it was asked without an account: anybody may have what it gave."""
    return "@" not in source
