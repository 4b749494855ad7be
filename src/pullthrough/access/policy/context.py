"""The circumstances of a request, beyond who does what to which resource: the keys that policies' conditions ask for.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
Keys are compared without case, the tag keys in them too. No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Lower-case key -> its values. Truth is `true` or `false`, times are ISO 8601. A key that is not there has none.
Context = Mapping[str, tuple[str, ...]]
#: AWS's tags: key and value.
Tags = Iterable[tuple[str, str]]

#: There with every request on AWS: where one is not known here, nobody can say what AWS would have decided.
_ALWAYS = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:principaltype",
        "aws:requestedregion",
        "aws:securetransport",
        "aws:sourceip",
        "aws:userid",
    }
)
#: Not there for some principals, as on AWS: anonymous ones have none of them, the root has no name.
_OF_PRINCIPALS = frozenset({"aws:principalaccount", "aws:principalarn", "aws:username"})
#: The one key with several values.
_TAG_KEYS = "aws:tagkeys"
_REQUEST_TAG = "aws:requesttag/"
_AWS_RESOURCE_TAG = "aws:resourcetag/"
_RESOURCE_TAGS = (_AWS_RESOURCE_TAG, "ecr:resourcetag/", "secretsmanager:resourcetag/")


def is_known(key: str) -> bool:
    """Whether the engine gives this key, in lower case, the values that AWS would."""
    return key in _ALWAYS or key in _OF_PRINCIPALS or key == _TAG_KEYS or _is_of(key, (_REQUEST_TAG, *_RESOURCE_TAGS))


def is_always_there(key: str) -> bool:
    return key in _ALWAYS


def has_many_values(key: str) -> bool:
    return key == _TAG_KEYS


def is_resource_tag(key: str) -> bool:
    return _is_of(key, _RESOURCE_TAGS)


def _is_of(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key.startswith(prefix) and key != prefix for prefix in prefixes)


@dataclass(frozen=True, slots=True)
class RequestTags:
    """The tags that a request gives to a resource, or the keys of those that it takes away."""

    given: tuple[tuple[str, str], ...] = ()
    taken: tuple[str, ...] = ()

    def context(self) -> dict[str, tuple[str, ...]]:
        context = _by_key(_REQUEST_TAG, self.given)
        keys = tuple(dict.fromkeys([*(key for key, _ in self.given), *self.taken]))
        if keys:
            context[_TAG_KEYS] = keys
        return context


NO_TAGS = RequestTags()


def resource_tags_context(service: str, tags: Tags) -> dict[str, tuple[str, ...]]:
    """`service` is that of the action, which has a key of its own beside the global one."""
    tags = list(tags)
    return _by_key(_AWS_RESOURCE_TAG, tags) | _by_key(f"{service}:resourcetag/", tags)


def _by_key(prefix: str, tags: Tags) -> dict[str, tuple[str, ...]]:
    """Tags whose keys differ in case only are several values of one key."""
    context: dict[str, tuple[str, ...]] = {}
    for key, value in tags:
        name = prefix + key.lower()
        context[name] = (*context.get(name, ()), value)
    return context
