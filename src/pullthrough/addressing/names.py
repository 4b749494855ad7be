"""The name of an image in the cache, and its parts: the rule's prefix, and the name below it.

Prefixes count whole path segments. The name below a prefix is the upstream's, but for what the rule puts before it
(`Rule.upstream_name`) and for Docker Hub's official images, whose short names are spelt out.
"""

from __future__ import annotations

from collections.abc import Container

from pullthrough.declaration import ROOT, Rule
from pullthrough.oci.names import DOCKER_HUB, ImageReference, parse_image_reference, parse_repository_name

#: Where Docker Hub keeps its official images.
_OFFICIAL = "library"


def covering(prefixes: Container[str], name: str) -> str:
    """The prefix that a name is under: the longest one, ROOT last; empty for none. A prefix is not under itself.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-private-wildcards.html
    """
    above = name
    while "/" in above:
        above = above.rpartition("/")[0]
        if above in prefixes:
            return above
    return ROOT if ROOT in prefixes else ""


def below(prefix: str, name: str) -> str | None:
    """What of `name` is below `prefix`; None where it is not below it. Everything is below ROOT, and below no prefix."""
    if prefix in ("", ROOT):
        return name
    return name[len(prefix) + 1 :] if name.startswith(f"{prefix}/") else None


def prefixed(prefix: str, inner: str) -> str:
    """What `inner` is called below `prefix`."""
    return inner if prefix == ROOT else f"{prefix}/{inner}"


def is_official(rule: Rule, inner: str) -> bool:
    """Whether this is the short name of one of Docker Hub's official images."""
    return rule.upstream == DOCKER_HUB and "/" not in rule.upstream_name(inner)


def spelt_out(rule: Rule, inner: str) -> str:
    """The name below the prefix in full: `nginx` and `library/nginx` are one repository, kept under the latter."""
    return f"{_OFFICIAL}/{inner}" if is_official(rule, inner) else inner


def cached_image(rule: Rule, text: str) -> ImageReference:
    """The image that the upstream calls `text`, as the cache names it. Raises RequestError."""
    image = parse_image_reference(text)
    # Not in one text: a prefix with a dot would be taken for a host.
    inner = str(image.repository) if image.host is None else f"{image.host}/{image.repository}"
    return ImageReference(None, parse_repository_name(prefixed(rule.prefix, inner)), image.tag, image.digest)
