"""Credentials that are right, wrong, expired or renewed, and tokens that are; each with its cost in requests."""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pullthrough.credentials import RENEWAL_PAUSE_SECONDS
from pullthrough.declaration import CredentialSource
from pullthrough.errors import UpstreamDenied, UpstreamInvalid, UpstreamNotFound, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from tests.integration.upstream.clients import Make, Recorder, Time, one
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply, json_reply

MANIFEST = b'{"schemaVersion": 2}'
CREDENTIAL = CredentialSource("acme", access_token_env="TOKEN")
ENVIRON = {"TOKEN": "s3cret-of-acme"}


class Registry:
    """A registry with a token server. `passwords` are good; repositories below `private/` need one of them."""

    def __init__(self, *passwords: str, scheme: str = "Bearer") -> None:
        self.passwords = set(passwords)
        self.scheme = scheme
        self.expires_in: object = 300
        self.tokens: dict[str, bool] = {}
        self.refuses_with = 401
        self.token_reply: Callable[[Asked], Reply] | None = None
        self.server = Server(self._answer)

    @property
    def lines(self) -> list[str]:
        """Requests by path, each with the scheme it was authorized by."""
        return [f"{asked.path} {asked.authorization.partition(' ')[0]}".rstrip() for asked in self.server.asked]

    def _answer(self, asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            return (self.token_reply or self._token)(asked)
        repository = asked.path.removeprefix("/v2/").partition("/manifests")[0].partition("/blobs")[0]
        private = repository.startswith("private/")
        kind, _, value = asked.authorization.partition(" ")
        if self.scheme == "Basic":
            if (asked.authorization or private) and not self._is_good(asked):
                return error_reply(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="here"')
        elif kind != "Bearer" or value not in self.tokens or (private and not self.tokens[value]):
            challenge = f'Bearer realm="http://{asked.headers["host"]}/token",service="here",scope="repository:{repository}:pull"'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        if "missing" in asked.path:
            return error_reply(404, "MANIFEST_UNKNOWN")
        return Reply(200, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, MANIFEST)

    def _token(self, asked: Asked) -> Reply:
        if asked.authorization and not self._is_good(asked):
            return error_reply(
                self.refuses_with, "UNAUTHORIZED", f"incorrect username or password: {asked.authorization}"
            )
        token = f"token-{len(self.tokens)}"
        self.tokens[token] = bool(asked.authorization)
        return json_reply({"token": token, "expires_in": self.expires_in})

    def _is_good(self, asked: Asked) -> bool:
        login = base64.b64decode(asked.authorization.removeprefix("Basic ")).decode()
        return login.partition(":")[2] in self.passwords


async def test_a_good_credential_opens_what_is_private(upstreams: Make, recorder: Recorder) -> None:
    registry = Registry("s3cret-of-acme")
    with registry.server as server:
        upstream = one(upstreams, server, environ=ENVIRON)
        assert (await upstream.fetch_manifest("private/app", "1", CREDENTIAL)).body == MANIFEST
    assert registry.lines == ["/v2/private/app/manifests/1", "/token Basic", "/v2/private/app/manifests/1 Bearer"]
    assert recorder.credentials == [("registry.example.com", True)]
    assert upstream.health.credential_ok is True


@pytest.mark.parametrize("refuses_with", [401, 403, 400])
async def test_a_broken_credential_does_not_break_public_content_and_is_reported_once(
    upstreams: Make, recorder: Recorder, caplog: pytest.LogCaptureFixture, refuses_with: int
) -> None:
    registry = Registry("another")
    registry.refuses_with = refuses_with
    with registry.server as server, caplog.at_level(logging.WARNING):
        upstream = one(upstreams, server, environ=ENVIRON)
        await upstream.fetch_manifest("public/app", "1", CREDENTIAL)
        assert registry.lines == [
            "/v2/public/app/manifests/1",
            "/token Basic",
            "/token",
            "/v2/public/app/manifests/1 Bearer",
        ]
        server.asked.clear()
        for tag in "234":
            await upstream.fetch_manifest("public/app", tag, CREDENTIAL)
    # A login that was refused is not tried again for each request: registries lock out who does that.
    assert registry.lines == [f"/v2/public/app/manifests/{tag} Bearer" for tag in "234"]
    assert recorder.credentials == [("registry.example.com", False)]
    assert upstream.health.credential_ok is False
    assert len(caplog.records) == 1
    assert "s3cret" not in caplog.text


async def test_a_broken_credential_is_named_as_the_reason_and_never_as_not_found(upstreams: Make) -> None:
    registry = Registry("another")
    with registry.server as server:
        upstream = one(upstreams, server, environ=ENVIRON)
        for reference in ("1", "missing", "1"):
            repository = "public/app" if reference == "missing" else "private/app"
            with pytest.raises(UpstreamDenied, match="credential") as caught:
                await upstream.fetch_manifest(repository, reference, CREDENTIAL)
            assert "s3cret" not in str(caught.value)


async def test_without_a_credential_a_missing_tag_is_not_found(upstreams: Make) -> None:
    with Registry().server as server, pytest.raises(UpstreamNotFound):
        await one(upstreams, server).fetch_manifest("public/app", "missing", None)


async def test_a_renewed_credential_is_used_without_a_restart(
    upstreams: Make, tmp_path: Path, recorder: Recorder
) -> None:
    file = tmp_path / "token"
    file.write_text("expired")
    credential = CredentialSource("acme", access_token_file=file)
    registry = Registry("renewed")
    with registry.server as server:
        upstream = one(upstreams, server)
        with pytest.raises(UpstreamDenied):
            await upstream.fetch_manifest("private/app", "1", credential)
        file.write_text("renewed")
        assert (await upstream.fetch_manifest("private/app", "1", credential)).body == MANIFEST
    assert recorder.credentials == [("registry.example.com", False), ("registry.example.com", True)]


async def test_a_refused_credential_is_read_again_and_tried_once_more(
    upstreams: Make, tmp_path: Path, time: Time, recorder: Recorder
) -> None:
    script, ran = tmp_path / "get-token", tmp_path / "ran"
    script.write_text(f"#!/bin/sh\nif [ -e {ran} ]; then echo renewed; else : > {ran}; echo good-for-now; fi\n")
    script.chmod(0o755)
    credential = CredentialSource("acme", access_token_command=(str(script),))
    registry = Registry("good-for-now")
    with registry.server as server:
        upstream = one(upstreams, server)
        await upstream.fetch_manifest("private/app", "1", credential)
        registry.passwords = {"renewed"}
        server.asked.clear()
        time.now += 60
        await upstream.fetch_manifest("private/other", "1", credential)
    assert registry.lines == ["/token Basic", "/token Basic", "/v2/private/other/manifests/1 Bearer"]
    assert recorder.credentials[-1] == ("registry.example.com", True)


async def test_a_command_is_asked_again_while_its_credential_is_refused(
    upstreams: Make, tmp_path: Path, time: Time
) -> None:
    script, renewed = tmp_path / "get-token", tmp_path / "renewed"
    script.write_text(f"#!/bin/sh\nif [ -e {renewed} ]; then echo renewed; else echo expired; fi\n")
    script.chmod(0o755)
    credential = CredentialSource("acme", access_token_command=(str(script),))
    registry = Registry("renewed")
    with registry.server as server:
        upstream = one(upstreams, server)
        with pytest.raises(UpstreamDenied):
            await upstream.fetch_manifest("private/app", "1", credential)
        renewed.touch()
        time.now += RENEWAL_PAUSE_SECONDS
        assert (await upstream.fetch_manifest("private/app", "1", credential)).body == MANIFEST


async def test_a_broken_basic_credential_does_not_break_public_content(upstreams: Make) -> None:
    registry = Registry("another", scheme="Basic")
    with registry.server as server:
        upstream = one(upstreams, server, environ=ENVIRON)
        await upstream.fetch_manifest("public/app", "1", CREDENTIAL)
        with pytest.raises(UpstreamDenied):
            await upstream.fetch_manifest("private/app", "1", CREDENTIAL)
        await upstream.fetch_manifest("public/app", "2", CREDENTIAL)
    assert registry.lines == [
        "/v2/public/app/manifests/1",
        "/v2/private/app/manifests/1",
        "/v2/private/app/manifests/1 Basic",
        "/v2/private/app/manifests/1",
        "/v2/public/app/manifests/2",
    ]


async def test_a_credential_that_opens_less_than_none_is_left_out(upstreams: Make, recorder: Recorder) -> None:
    """GitHub answers 403 to a token that lacks `read:packages`, even for what is public."""

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.authorization == "Bearer narrow":
            return error_reply(403, "DENIED", "permission_denied: the token does not match expected scopes")
        if asked.path == "/token":
            return json_reply({"token": "narrow" if asked.authorization else "wide"})
        if not asked.authorization:
            challenge = f'Bearer realm="http://{asked.headers["host"]}/token"'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return Reply(200, {}, MANIFEST)

    with Server(answer) as server:
        upstream = one(upstreams, server, environ=ENVIRON)
        await upstream.fetch_manifest("org/app", "1", CREDENTIAL)
        first = len(server.asked)
        await upstream.fetch_manifest("org/app", "2", CREDENTIAL)
    assert first == 5
    assert len(server.asked) == 6


async def test_a_credential_that_cannot_be_read_is_no_reason_not_to_answer(
    upstreams: Make, recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    with registry.server as server, caplog.at_level(logging.WARNING):
        upstream = one(upstreams, server, environ={})
        await upstream.fetch_manifest("public/app", "1", CREDENTIAL)
        await upstream.fetch_manifest("public/app", "2", CREDENTIAL)
        with pytest.raises(UpstreamDenied, match="not set"):
            await upstream.fetch_manifest("private/app", "1", CREDENTIAL)
    assert recorder.credentials == [("registry.example.com", False)]
    assert len(caplog.records) == 1


async def test_two_credentials_for_one_upstream_never_share_a_token(upstreams: Make) -> None:
    registry = Registry("s3cret-of-acme")
    with registry.server as server:
        upstream = one(upstreams, server, environ=ENVIRON)
        await upstream.fetch_manifest("private/app", "1", CREDENTIAL)
        with pytest.raises(UpstreamDenied):
            await upstream.fetch_manifest("private/app", "1", None)
        server.asked.clear()
        await upstream.fetch_manifest("private/app", "1", CREDENTIAL)
    assert registry.lines == ["/v2/private/app/manifests/1 Bearer"]


async def test_a_token_is_renewed_before_it_expires(upstreams: Make, time: Time) -> None:
    registry = Registry()
    registry.expires_in = 100
    with registry.server as server:
        upstream = one(upstreams, server)
        await upstream.fetch_manifest("public/app", "1", None)
        server.asked.clear()
        time.now += 74
        await upstream.fetch_manifest("public/app", "1", None)
        time.now += 2
        await upstream.fetch_manifest("public/app", "1", None)
    assert registry.lines == [
        "/v2/public/app/manifests/1 Bearer",
        "/token",
        "/v2/public/app/manifests/1 Bearer",
    ]


async def test_a_token_that_the_upstream_forgot_is_replaced_for_manifests_and_blobs(upstreams: Make) -> None:
    registry = Registry()
    with registry.server as server:
        upstream = one(upstreams, server)
        await upstream.fetch_manifest("public/app", "1", None)
        registry.tokens.clear()
        await upstream.fetch_manifest("public/app", "1", None)
        registry.tokens.clear()
        server.asked.clear()
        digest = digest_of(MANIFEST)
        upstream.open_blob("public/app", digest, None, abort=AbortHandle()).close()
    blob = f"/v2/public/app/blobs/{digest}"
    assert registry.lines == [f"{blob} Bearer", "/token", f"{blob} Bearer"]


async def test_many_questions_at_once_cost_one_token(upstreams: Make) -> None:
    registry = Registry()
    with registry.server as server:
        upstream = one(upstreams, server)
        await upstream.fetch_manifest("public/app", "1", None)
        server.asked.clear()
        await asyncio.gather(*(upstream.fetch_manifest("public/other", str(tag), None) for tag in range(20)))
    assert registry.lines.count("/token") == 1
    assert len(registry.lines) == 21


async def test_an_upstream_that_never_stops_challenging_ends_as_denied(upstreams: Make) -> None:
    count = iter(range(1000))

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            return json_reply({"token": "t"})
        realm = f"http://{asked.headers['host']}/token"
        challenge = f'Bearer realm="{realm}",service="{next(count)}",scope="repository:a:pull"'
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    with Server(answer) as server:
        with pytest.raises(UpstreamDenied):
            await one(upstreams, server).fetch_manifest("a", "1", None)
        assert len(server.asked) == 5


async def test_tokens_are_asked_for_with_the_right_to_pull_only(upstreams: Make) -> None:
    scopes: list[str] = []

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.path == "/token":
            scopes.extend(asked.query["scope"])
            return json_reply({"token": "t"})
        if asked.authorization:
            return Reply(200, {}, MANIFEST)
        realm = f"http://{asked.headers['host']}/token?kept=1"
        challenge = f'Bearer realm="{realm}",scope="repository:a/b:pull,push,delete repository:c:*"'
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

    with Server(answer) as server:
        await one(upstreams, server).fetch_manifest("a/b", "1", None)
        assert server.asked[1].query["kept"] == ["1"]
    assert scopes == ["repository:a/b:pull", "repository:c:pull"]


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_token_server_that_is_down_is_unavailable_not_denied(upstreams: Make, status: int) -> None:
    registry = Registry()
    registry.token_reply = lambda asked: error_reply(status, "UNAVAILABLE")
    with registry.server as server, pytest.raises(UpstreamUnavailable):
        await one(upstreams, server).fetch_manifest("public/app", "1", None)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        Reply(200, {}, b"{}"),
        Reply(200, {}, b'{"token": "s3cret\\nX-Evil: 1"}'),
        Reply(200, {}, b"x" * 70_000),
        Reply(404, {}, b""),
    ],
)
async def test_a_token_server_that_gives_no_token_is_invalid(upstreams: Make, reply: Reply) -> None:
    registry = Registry()
    registry.token_reply = lambda asked: reply
    with registry.server as server, pytest.raises(UpstreamInvalid) as caught:
        await one(upstreams, server).fetch_manifest("public/app", "1", None)
    assert "s3cret" not in str(caught.value)


async def test_no_error_repeats_what_was_sent(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if asked.authorization:
            login = base64.b64decode(asked.authorization.removeprefix("Basic ")).decode()
            return error_reply(418, "TEAPOT", f"{asked.authorization} {login}")
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate="Basic")

    with Server(answer) as server, pytest.raises(UpstreamInvalid, match="TEAPOT") as caught:
        await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
    sent = server.asked[1].authorization.removeprefix("Basic ")
    assert sent not in str(caught.value)
    assert "s3cret" not in str(caught.value)
