"""Where the engine lets an upstream send it, and what it never tells anybody: the wiring, end to end."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.fakes.upstream import Action, Challenge, RawUpstream, Redirect, RedirectLoop, ScriptedUpstream, Status
from tests.integration.conftest import StartEngine
from tests.integration.lanes import error_of

TOKEN = "dckr_pat_0123456789abcdefTOPSECRET"
IMAGE, PRIVATE, LATER = make_image("public"), make_image("private"), make_image("later")
PATH = "/v2/docker-hub/acme/{}/manifests/1"


@pytest.fixture
def upstream() -> Iterator[ScriptedUpstream]:
    """Docker Hub's look-alike with an account."""
    with ScriptedUpstream(
        authentication="bearer", users={"acme": TOKEN}, private=frozenset({"acme/private", "acme/later"})
    ) as registry:
        for name, image in (("public", IMAGE), ("private", PRIVATE), ("later", LATER)):
            registry.add(f"acme/{name}", image, "1")
        yield registry


@pytest.fixture
def engine(start_engine: StartEngine) -> Engine:
    return start_engine(
        rule='username = "acme"\naccess_token_env = "THE_TOKEN"\nnegative = "never"',
        reach="retries = 0",
        environ={"THE_TOKEN": TOKEN},
    )


def test_nothing_follows_where_it_must_not_and_no_credential_goes_astray(
    engine: Engine, upstream: ScriptedUpstream
) -> None:
    """One table, for one engine: what the upstream says, and what comes of it."""
    raw = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with RawUpstream(raw) as stranger:
        elsewhere = stranger.url.replace("127.0.0.1", "localhost")
        realm = 'Bearer realm="{}/token",service="s",scope="repository:acme/public:pull"'
        refused: list[Action] = [
            Challenge(realm.format(elsewhere)),
            Challenge(realm.format("http://169.254.169.254")),
            Challenge(realm.format("https://auth.docker.io.evil.example")),
            Challenge(realm.format("file:///etc/passwd")),
            Redirect("http://169.254.169.254/latest/meta-data/"),
            Redirect("http://[fe80::1]/"),
            Redirect("http://10.255.255.1/v2/"),
            Redirect("file:///etc/passwd"),
            Redirect("ftp://127.0.0.1/"),
            RedirectLoop(),
        ]
        for number, action in enumerate(refused):
            script = upstream.script(action, kind="manifest", repository="acme/public")
            status, code, message = error_of(engine.get(PATH.format("public")))
            assert (status, code) in ((502, "UNAVAILABLE"), (503, "UNAVAILABLE")), (number, message)
            assert TOKEN not in message
            script.remove()
        assert stranger.heads == [], "an untrusted realm is never asked"

        # To another host it follows, without any of its credentials.
        script = upstream.script(Redirect(f"{elsewhere}/somewhere"), kind="manifest", repository="acme/private")
        assert engine.get(PATH.format("private")).status in (404, 502)
        script.remove()
        [head] = stranger.heads
        assert head.startswith(b"GET /somewhere")
        assert b"authorization" not in head.lower()

    assert engine.get(PATH.format("public")).body == IMAGE.manifest.body
    assert engine.get(PATH.format("private")).body == PRIVATE.manifest.body


def test_https_to_http_is_refused_and_an_invalid_certificate_is_an_error(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    engine = start_engine(
        more=f"""
        [rules.tls]
        upstream = "tls.example"
        [upstreams."tls.example"]
        endpoint = "{upstream.url.replace("http:", "https:")}"
        retries = 0
        """
    )
    status, code, message = error_of(engine.get("/v2/tls/acme/public/manifests/1"))
    assert (status, code) in ((502, "UNAVAILABLE"), (503, "UNAVAILABLE"))
    assert "TLS" in message or "certificate" in message or "https" in message


@pytest.mark.parametrize("token", [TOKEN, "a-wrong-token-wrong-token"], ids=["right", "wrong"])
def test_a_token_is_in_no_log_no_answer_no_metric_and_no_file(
    start_engine: StartEngine, upstream: ScriptedUpstream, token: str
) -> None:
    engine = start_engine(
        reach="retries = 0",
        environ={"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": token, "PULLTHROUGH_DOCKER_HUB_USERNAME": "acme"},
    )
    said = []
    for name in ("public", "private", "missing"):
        said.append(engine.get(PATH.format(name)))
        said.append(engine.get(f"/v2/docker-hub/acme/{name}/tags/list"))
    opened = engine.get(PATH.format("private")).status == 200
    assert opened is (token == TOKEN)
    blob = IMAGE.blobs[-1].digest
    said.append(engine.get(f"/v2/docker-hub/acme/public/blobs/{blob}"))
    upstream.script(Status(500), kind="manifest", repository="acme/later")
    upstream.script(Challenge(f'Bearer realm="http://localhost:1/{token}",service="{token}"'), kind="tags")
    said.append(engine.get(PATH.format("later")))
    said.append(engine.get("/v2/docker-hub/acme/later/tags/list"))
    upstream.clear_scripts()
    for path in ("/readyz", "/metrics", "/healthz", "/v2/_catalog"):
        said.append(engine.get(path))
    shown = engine.command("config", "show") + engine.command("config", "show", "--json", "--all")
    assert "fingerprint" in shown
    metrics = engine.metrics()
    assert f'pullthrough_upstream_credential_ok{{upstream="registry-1.docker.io"}} {1.0 if opened else 0.0}' in metrics
    assert json.loads(said[-4].body)["upstreams"]
    engine.stop()

    login = base64.b64encode(f"acme:{token}".encode()).decode()
    for secret in (token, login, "token-0000"):  # the last is how each token of this token service begins
        for answer in said:
            assert secret not in answer.body.decode(errors="replace")
            assert secret not in str(dict(answer.headers))
        assert secret not in shown
        for file in engine.folder.rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file
