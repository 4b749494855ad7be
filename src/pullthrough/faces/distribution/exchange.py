"""One request on its way through the face, and what all answers have in common."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aiohttp import web

from pullthrough.access.principals import Principal
from pullthrough.engine import outcomes
from pullthrough.engine.outcomes import Outcome
from pullthrough.faces.distribution.routes import NO_QUERY, Query

#: Methods that change nothing.
READS = ("GET", "HEAD")
VERSION_HEADER = "Docker-Distribution-Api-Version"
NO_OUTCOME = Outcome(outcomes.CacheResult.NONE)


@dataclass(slots=True)
class RegistryExchange:
    """`mirror` is the prefix of the rule that the request's listener is bound to, if it is to one."""

    request: web.BaseRequest
    mirror: str | None
    kind: str = "other"
    outcome: Outcome = NO_OUTCOME
    query: Query = NO_QUERY
    sent_bytes: int = 0
    #: Who asks; None until that is known.
    principal: Principal | None = None
    #: Whether the client was told to go on, if it waits for that before it sends its body.
    invited: bool = False

    @property
    def awaits_invitation(self) -> bool:
        """RFC 9110, section 10.1.1."""
        return not self.invited and self.request.headers.get("Expect", "").lower() == "100-continue"

    async def invite(self) -> None:
        """Tell a client that asks first that its body is wanted."""
        if self.awaits_invitation:
            await self.request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.writer.output_size = 0
        self.invited = True

    @property
    def is_head(self) -> bool:
        return self.request.method == "HEAD"

    @property
    def loggable_path(self) -> str:
        """With the query, but for a signature in it: whoever has that may download."""
        path, mark, query = self.request.raw_path.partition("?")
        return path if "Signature" in query else f"{path}{mark}{query}"


def common_headers(exchange: RegistryExchange) -> dict[str, str]:
    headers = {VERSION_HEADER: "registry/2.0", "X-Cache": exchange.outcome.header()}
    if exchange.query.ns is not None:
        headers["OCI-Namespace"] = outcomes.clean(exchange.query.ns)
    return headers


def json_response(document: object, outcome: Outcome) -> web.Response:
    response = web.Response(
        body=json.dumps(document, separators=(",", ":")).encode(),
        headers={VERSION_HEADER: "registry/2.0"},
        content_type="application/json",
    )
    if outcome.kind is not outcomes.CacheResult.NONE:
        response.headers["X-Cache"] = outcome.header()
    return response
