"""Where an upstream may send this client, and what it may take along.

Credentials go to the endpoint's own host and to its token realm. The realm is an exact host: from a table for the known
registries, else the endpoint's own host (any port of it), or one of the `token_realms` in the settings. Nothing leads
from https to http. The addresses behind the names are checked where connections are made.
"""

from __future__ import annotations

from collections.abc import Collection

from pullthrough.errors import UpstreamInvalid, UpstreamRefused
from pullthrough.upstream.http.redaction import clean_text
from pullthrough.upstream.http.urls import Url, parse_url

#: Registries whose tokens come from another host of theirs.
#: https://distribution.github.io/distribution/spec/auth/token/ and https://docs.gitlab.com/ee/api/container_registry.html
KNOWN_REALMS = {
    "registry-1.docker.io": "auth.docker.io",
    "registry.gitlab.com": "gitlab.com",
}


def trusted_realm(realm: str, *, endpoint: Url, token_realms: Collection[str], upstream: str) -> Url:
    """The realm of a bearer challenge as a URL that may be sent the credential. Raises UpstreamRefused."""
    try:
        url = parse_url(realm.strip())
    except ValueError as error:
        raise UpstreamRefused(
            f"{upstream} sends clients for tokens to an address that {error}", upstream=upstream
        ) from error
    if url.scheme == "http" and endpoint.scheme == "https":
        raise UpstreamRefused(
            f"{upstream} sends clients for tokens to {url.authority} over plain HTTP, which is refused",
            upstream=upstream,
        )
    if url.host == KNOWN_REALMS.get(endpoint.host, endpoint.host):
        return url
    if {url.authority, url.host_port} & {entry.lower() for entry in token_realms}:
        return url
    raise UpstreamRefused(
        f"{upstream} sends clients for tokens to {url.authority}, which is not known as its token realm",
        upstream=upstream,
        hint=f'If it is right, add it: token_realms = ["{url.authority}"] under [upstreams."{upstream}"].',
    )


def redirect_target(location: str, *, current: Url, upstream: str) -> Url:
    """Where a redirect leads. Raises UpstreamInvalid where that is no address, UpstreamRefused where it is not safe."""
    if not location:
        raise UpstreamInvalid(f"{current.authority} redirects to nowhere: Location is missing", upstream=upstream)
    try:
        url = current.join(location)
    except ValueError as error:
        raise UpstreamRefused(
            f"{current.authority} redirects to an address that {clean_text(str(error))}", upstream=upstream
        ) from error
    if url.scheme == "http" and current.scheme == "https":
        raise UpstreamRefused(
            f"{current.authority} redirects from https to plain HTTP at {url.authority}, which is refused",
            upstream=upstream,
        )
    return url
