"""Repository names, tags and references.

Grammar of names and tags: OCI distribution specification 1.1, "Pulling manifests".
https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests
Normalisation of what people type (`nginx` is `docker.io/library/nginx:latest`) follows
https://github.com/distribution/reference, which docker and containerd use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pullthrough.errors import NameInvalid, TagInvalid
from pullthrough.oci.digests import Digest, parse_digest

#: The specification leaves the limit to implementations; 255 for host and name together is what clients assume.
MAX_NAME_LENGTH = 255

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)
_HOST = re.compile(
    r"(?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*)"
    r"(?::[0-9]{1,5})?",
    re.ASCII,
)

DOCKER_HUB = "registry-1.docker.io"
#: Names under which clients know Docker Hub; all of them are one upstream.
DOCKER_HUB_ALIASES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


class RepositoryName(str):
    """A valid repository name such as `docker-hub/library/nginx`. Made by `parse_repository_name` only."""

    __slots__ = ()


class Tag(str):
    """A valid tag. Made by `parse_tag` only."""

    __slots__ = ()


#: What stands behind `:` or `@`.
Reference = Tag | Digest


def parse_repository_name(text: str) -> RepositoryName:
    if len(text) > MAX_NAME_LENGTH:
        raise NameInvalid(f"the repository name is longer than {MAX_NAME_LENGTH} characters: {text[:80]!r}…")
    if _NAME.fullmatch(text) is None:
        raise NameInvalid(
            f"{text!r} is not a repository name: lower-case letters and digits, "
            "separated by '.', '_', '__' or '-', in segments separated by '/'"
        )
    return RepositoryName(text)


def parse_tag(text: str) -> Tag:
    if _TAG.fullmatch(text) is None:
        raise TagInvalid(
            f"{text[:160]!r} is not a tag: up to 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
        )
    return Tag(text)


def parse_reference(text: str) -> Reference:
    """A digest where there is a colon (tags have none), else a tag."""
    return parse_digest(text) if ":" in text else parse_tag(text)


def canonical_host(host: str) -> str:
    """The one name of an upstream: as `plain_host` has it, and with Docker Hub's aliases folded."""
    host = plain_host(host)
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host


def plain_host(host: str) -> str:
    """In lower case, without the default port of https."""
    return host.lower().removesuffix(":443")


def is_host(text: str) -> bool:
    """Whether this is a host name or address, with or without a port; no scheme, no path."""
    return len(text) <= 255 and _HOST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class ImageReference:
    """What people type: `[host/]name[:tag][@digest]`."""

    #: None where the text named no host.
    host: str | None
    repository: RepositoryName
    tag: Tag | None
    digest: Digest | None

    @property
    def reference(self) -> Reference:
        """The digest where there is one, else the tag, else `latest`."""
        return self.digest or self.tag or Tag("latest")

    def __str__(self) -> str:
        text = f"{self.host}/{self.repository}" if self.host else str(self.repository)
        if self.tag:
            text += f":{self.tag}"
        return f"{text}@{self.digest}" if self.digest else text


def parse_image_reference(text: str) -> ImageReference:
    """Parse without adding defaults. A first segment with a dot, a colon, or `localhost` is a host, as docker decides.

    Raises NameInvalid, TagInvalid or DigestInvalid.
    """
    rest, at, digest_text = text.partition("@")
    digest = parse_digest(digest_text) if at else None
    first, slash, remainder = rest.partition("/")
    host: str | None = None
    if slash and ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
        if not is_host(first):
            raise NameInvalid(f"{first[:160]!r} is not a registry host")
        host, rest = first, remainder
    name_text, colon, tag_text = rest.partition(":")
    tag = parse_tag(tag_text) if colon else None
    return ImageReference(host, parse_repository_name(name_text), tag, digest)
