"""Trying a credential out: `Upstream.authenticate` at registries of every kind, and what each costs in requests."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pullthrough.credentials import CredentialUnreadable
from pullthrough.declaration import CredentialSource
from pullthrough.errors import UpstreamDenied, UpstreamInvalid, UpstreamThrottled, UpstreamUnavailable
from pullthrough.oci.digests import Digest
from tests.integration.upstream.clients import Make, Recorder, one
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply, json_reply

CREDENTIAL = CredentialSource("acme", access_token_env="TOKEN")
GOOD, BAD = {"TOKEN": "right"}, {"TOKEN": "wrong"}
_BASIC = "Basic " + base64.b64encode(b"acme:right").decode()


@dataclass
class Registry:
    """A registry's root and its token server."""

    #: `Bearer`, `Basic`, or empty for a registry that is open to all.
    scheme: str = "Bearer"
    #: Added to a Bearer challenge.
    scope: str = ""
    #: Whether everybody gets a token, and whether the root is shown to those who have one without a login.
    tokens_for_all: bool = True
    root_for_all: bool = True

    def __call__(self, asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            if asked.authorization and asked.authorization != _BASIC:
                return error_reply(401, "UNAUTHORIZED")
            if not asked.authorization and not self.tokens_for_all:
                return error_reply(401, "UNAUTHORIZED")
            return json_reply({"token": "member" if asked.authorization else "guest"})
        assert asked.path == "/v2/"
        known = asked.authorization in (_BASIC, "Bearer member")
        if self.scheme and not known and not (self.root_for_all and asked.authorization == "Bearer guest"):
            challenge = f'{self.scheme} realm="http://{asked.headers["host"]}/token",service="here"{self.scope}'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return json_reply({})


def lines(server: Server) -> list[str]:
    """Requests, each with the scheme it was authorized by."""
    return [f"{asked.path} {asked.authorization.partition(' ')[0]}".rstrip() for asked in server.asked]


Answer = Callable[[Asked, socket.socket], Reply]


async def log_in(make: Make, answer: Answer, environ: dict[str, str] | None) -> list[str]:
    """One try at this registry, and what it asked; with no `environ`, without a credential."""
    with Server(answer) as server:
        upstream = one(make, server, environ=environ or {})
        await upstream.authenticate(CREDENTIAL if environ is not None else None, timeout=10)
        return lines(server)


@pytest.mark.parametrize(
    ("registry", "environ", "asked"),
    [
        (Registry(), GOOD, ["/v2/", "/token Basic", "/v2/ Bearer"]),
        (Registry(), None, ["/v2/", "/token", "/v2/ Bearer"]),
        (Registry(tokens_for_all=False, root_for_all=False), GOOD, ["/v2/", "/token Basic", "/v2/ Bearer"]),
        # Quay and GitHub give anybody a token, but show their root to members only.
        (Registry(root_for_all=False), None, ["/v2/", "/token", "/v2/ Bearer"]),
        (Registry("Basic"), GOOD, ["/v2/", "/v2/ Basic"]),
        (Registry(""), None, ["/v2/"]),
        (Registry(""), GOOD, ["/v2/"]),
    ],
)
async def test_a_login_that_works_costs_three_requests_at_most(
    upstreams: Make, registry: Registry, environ: dict[str, str] | None, asked: list[str]
) -> None:
    assert await log_in(upstreams, registry, environ) == asked


@pytest.mark.parametrize(
    ("registry", "environ", "says"),
    [
        (Registry(), BAD, "does not let us log in: the token server"),
        (Registry("Basic"), BAD, "does not let us log in: the registry refuses"),
        (Registry("Basic"), None, "does not let us log in: it wants a login"),
        (Registry(tokens_for_all=False), None, "does not let us in without a credential"),
        (Registry("Digest"), GOOD, "does not let us log in: "),
    ],
)
async def test_a_login_that_does_not_work_is_denied_and_nobody_else_is_tried(
    upstreams: Make, registry: Registry, environ: dict[str, str] | None, says: str
) -> None:
    with pytest.raises(UpstreamDenied, match=says) as caught:
        await log_in(upstreams, registry, environ)
    assert "wrong" not in caught.value.message
    assert "(401) (401)" not in caught.value.message


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        # What GitHub names here is a placeholder; Amazon's public registry wants its own.
        ("repository:user/image:pull", {"service": ["here"]}),
        ("aws", {"service": ["here"], "scope": ["aws"]}),
    ],
)
async def test_a_scope_is_asked_for_but_no_repository(upstreams: Make, scope: str, asked: dict[str, list[str]]) -> None:
    queries: list[dict[str, list[str]]] = []
    registry = Registry(scope=f',scope="{scope}"')

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            queries.append(asked.query)
        return registry(asked, sock)

    await log_in(upstreams, answer, GOOD)
    assert queries == [asked]


async def test_a_token_that_the_registry_refuses_is_denied(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            return json_reply({"token": "useless"})
        return Registry()(asked, sock)

    with pytest.raises(UpstreamDenied, match="refuses the credential"):
        await log_in(upstreams, answer, GOOD)


async def test_a_credential_without_its_secret_is_said_and_costs_nothing(upstreams: Make, recorder: Recorder) -> None:
    with pytest.raises(CredentialUnreadable):
        await log_in(upstreams, Registry(), {})
    assert recorder.requests == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (error_reply(503, "UNAVAILABLE"), UpstreamUnavailable),
        (error_reply(429, "TOOMANYREQUESTS", Retry_After="60"), UpstreamThrottled),
        (Reply(200, {"Content-Type": "text/html"}, b"<html>welcome</html>"), UpstreamInvalid),
        (error_reply(418, "TEAPOT"), UpstreamInvalid),
    ],
)
async def test_what_is_no_answer_of_a_registry_that_works(
    upstreams: Make, reply: Reply, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await log_in(upstreams, lambda asked, sock: reply, None)


async def test_nothing_that_answers_is_unavailable(upstreams: Make) -> None:
    with Server(Registry()) as server:
        upstream = one(upstreams, server)
    with pytest.raises(UpstreamUnavailable):
        await upstream.authenticate(None, timeout=10)


async def test_a_login_that_works_ends_the_time_in_which_a_refused_credential_is_left_alone(upstreams: Make) -> None:
    """Its owner has set things right at the registry, and asks for it to be tried again."""
    open_to_us = False

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token" and asked.authorization and not open_to_us:
            return error_reply(401, "UNAUTHORIZED")
        if asked.path == "/token" or asked.path == "/v2/":
            return Registry()(asked, sock)
        challenge = f'Bearer realm="http://{asked.headers["host"]}/token",service="here"'
        if asked.authorization == "Bearer member":
            return Reply(200, {}, b"layer")
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    with Server(answer) as server:
        upstream = one(upstreams, server, environ=GOOD)
        for _ in range(2):
            with pytest.raises(UpstreamDenied):
                await upstream.find_blob("acme/app", Digest("sha256:" + "0" * 64), CREDENTIAL)
        open_to_us = True
        with pytest.raises(UpstreamDenied):
            await upstream.find_blob("acme/app", Digest("sha256:" + "0" * 64), CREDENTIAL)
        assert upstream.health.credential_ok is False
        await upstream.authenticate(CREDENTIAL, timeout=10)
        assert upstream.health.credential_ok is True
        assert await upstream.find_blob("acme/app", Digest("sha256:" + "0" * 64), CREDENTIAL) == 5
