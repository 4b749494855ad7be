"""A manifest alone, with a login: what is sent to whom, and what is verified."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pullthrough.client.manifest import fetch_manifest
from pullthrough.client.registry import Login
from pullthrough.demo.images import make_image
from pullthrough.errors import DigestMismatch, UpstreamDenied
from pullthrough.oci.names import parse_image_reference
from tests.fakes.upstream import Corrupt, Redirect, ScriptedUpstream

IMAGE = make_image("manifest", layer_sizes=(10,))
LOGIN = Login("acme", "the-password-nobody-may-see")
APP = parse_image_reference("team/app:1")


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    users = {LOGIN.username: LOGIN.password}
    with ScriptedUpstream(authentication="basic", users=users) as upstream:
        upstream.add("team/app", IMAGE, "1")
        yield upstream


async def test_a_manifest_costs_one_request_with_the_login(upstream: ScriptedUpstream) -> None:
    fetched = await fetch_manifest(APP, registry=upstream.url, login=LOGIN)
    assert fetched.report.digest == IMAGE.digest
    assert [(record.method, record.kind) for record in upstream.requests] == [("GET", "manifest")]


async def test_a_login_that_is_refused_is_said_without_it(upstream: ScriptedUpstream) -> None:
    with pytest.raises(UpstreamDenied, match="answered 401") as caught:
        await fetch_manifest(APP, registry=upstream.url, login=Login("acme", "wrong-password"))
    assert "wrong-password" not in f"{caught.value} {caught.value.hint}"
    assert "sends no credentials" not in str(caught.value)
    with pytest.raises(UpstreamDenied, match="sends no credentials"):
        await fetch_manifest(APP, registry=upstream.url)


async def test_a_redirect_to_another_host_goes_without_the_login(upstream: ScriptedUpstream) -> None:
    with ScriptedUpstream() as other:
        other.add("team/app", IMAGE, "1")
        upstream.script(Redirect(f"http://localhost:{other.url.rpartition(':')[2]}/v2/team/app/manifests/1"))
        await fetch_manifest(APP, registry=upstream.url, login=LOGIN)
        assert [record.headers.get("authorization") for record in other.requests] == [None]


async def test_another_body_than_stated_is_refused(upstream: ScriptedUpstream) -> None:
    upstream.script(Corrupt(at=3), kind="manifest")
    with pytest.raises(DigestMismatch):
        await fetch_manifest(APP, registry=upstream.url, login=LOGIN)


def test_a_login_is_not_shown() -> None:
    assert LOGIN.password not in repr(LOGIN)
