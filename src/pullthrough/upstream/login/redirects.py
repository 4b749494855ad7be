"""Following redirects: at most five, never in circles, never to plain HTTP, and with no credential to another host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pullthrough.errors import UpstreamRefused
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass, Admits, anywhere_but_metadata, public_or
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.http.transport import Transport
from pullthrough.upstream.http.urls import Url
from pullthrough.upstream.login.trust import redirect_target

MAX_REDIRECTS = 5

_STATUSES = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """`authorization` is the header's value; empty for none."""

    method: str
    url: Url
    headers: Mapping[str, str]
    authorization: str = field(repr=False)
    #: To the endpoint's own host, which may see the client certificate.
    own: bool
    #: Where all of it may go; None for the endpoint, which may be anywhere but at a cloud's metadata, and whose
    #: redirects may go to the internet or its own neighbourhood.
    admits: Admits | None = None
    #: Of a blob, whose first byte may take as long as any pause in it.
    is_body: bool = False


def follow(
    transport: Transport,
    request: OutgoingRequest,
    abort: AbortHandle,
    found: Callable[[AddressClass], None] = lambda address_class: None,
) -> Response:
    """The first answer that is no redirect. The caller must finish or close it.

    `found` is told where the first connection went. Raises UpstreamRefused where a redirect is not to be followed, and
    what `Transport.send` raises.
    """
    upstream, url = transport.upstream, request.url
    authorization, own, admits = request.authorization, request.own, request.admits or anywhere_but_metadata
    seen = {url}
    while True:
        headers = {**request.headers, "Authorization": authorization} if authorization else request.headers
        response = transport.send(
            request.method, url, headers, own=own, admits=admits, is_body=request.is_body, abort=abort
        )
        response.sent_authorization = authorization
        if len(seen) == 1:
            found(response.address_class)
            admits = request.admits or public_or(response.address_class)
        if response.status not in _STATUSES:
            return response
        location = response.header("Location")
        response.discard()
        target = redirect_target(location, current=url, upstream=upstream)
        if target in seen:
            raise UpstreamRefused(f"{url.authority} redirects in a circle", upstream=upstream)
        if len(seen) > MAX_REDIRECTS:
            raise UpstreamRefused(f"{upstream} redirects more than {MAX_REDIRECTS} times", upstream=upstream)
        seen.add(target)
        if target.host_port != request.url.host_port:
            # Gone for good: it does not come back with a redirect to where it started.
            authorization, own = "", False
        url = target
