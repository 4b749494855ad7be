"""AWS's nine kinds of upstream registries: which host is which, and which of them want a secret. No I/O.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
"""

from __future__ import annotations

import re

from pullthrough.oci.names import DOCKER_HUB, canonical_host

ECR = "ecr"
#: By canonical host.
_KINDS = {
    "public.ecr.aws": "ecr-public",
    "registry.k8s.io": "k8s",
    "quay.io": "quay",
    DOCKER_HUB: "docker-hub",
    "ghcr.io": "github-container-registry",
    "registry.gitlab.com": "gitlab-container-registry",
    "cgr.dev": "chainguard",
}
_PATTERNS = (
    (re.compile(r"[a-z0-9]{5,50}\.azurecr\.io"), "azure-container-registry"),
    (re.compile(r"[0-9]{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com|on\.aws)"), ECR),
)
#: AWS pulls nothing from these without a secret, and takes none for the others.
WANT_SECRET = frozenset(
    {
        "docker-hub",
        "github-container-registry",
        "gitlab-container-registry",
        "azure-container-registry",
        "chainguard",
    }
)


def kind_of(host: str) -> str | None:
    """AWS's name for the upstream at this canonical host; None for one that AWS does not know."""
    if host in _KINDS:
        return _KINDS[host]
    return next((kind for pattern, kind in _PATTERNS if pattern.fullmatch(host)), None)


def upstream_host(url: str) -> str:
    """The canonical host that an `upstreamRegistryUrl` means; people put `https://` before it."""
    return canonical_host(url.removeprefix("https://").removesuffix("/"))
