"""A real registry as the upstream: behind tokens, with credentials, with signatures attached to its images."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.clients import Skopeo
from tests.e2e.conftest import BUSYBOX, SCHEMA2, SIGNATURE, SIGNED, StartEngine, Stock, docker_hub
from tests.e2e.images import OCI_INDEX
from tests.e2e.registry import Registry, TokenServer


def test_one_token_is_enough_for_an_image(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    hub = engine(docker_hub(guarded))
    skopeo = Skopeo(folder / "skopeo")
    for _ in range(2):
        assert skopeo.pull(f"{hub.address}/docker-hub/{SCHEMA2}:1") == stock.schema2.digest
        assert guarded.asked() == {"GET manifest by tag -> 401": 1, "GET manifest by tag": 1, "GET blob": 4}
        assert tokens.asked == {f"anonymous repository:{SCHEMA2}:pull": 1}


def test_configured_account_pulls_what_is_private(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    tokens.anonymous = False
    token = folder / "token"
    token.write_text("right\n")
    token.chmod(0o600)
    account = f'docker_hub_username = "acme"\ndocker_hub_access_token_file = "{token}"\n'
    hub = engine(docker_hub(guarded), top=account)
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1") == stock.schema2.digest
    assert tokens.asked[f"acme repository:{SCHEMA2}:pull"] == 1
    assert "right" not in hub.log.read_text()


def test_token_from_the_environment(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    tokens.anonymous = False
    hub = engine(
        docker_hub(guarded),
        top='docker_hub_username = "acme"\n',
        environ={"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "right"},
    )
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1") == stock.schema2.digest
    assert tokens.asked == {f"acme repository:{SCHEMA2}:pull": 1}


def test_wrong_token_is_said_and_never_shown(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    tokens.anonymous = False
    hub = engine(
        docker_hub(guarded),
        top='docker_hub_username = "acme"\n',
        environ={"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "a-wrong-token"},
    )
    answer = hub.get(f"/v2/docker-hub/{SCHEMA2}/manifests/1")
    assert answer.status in {401, 403, 502}
    assert json.loads(answer.body)["errors"]
    assert b"a-wrong-token" not in answer.body
    assert "a-wrong-token" not in hub.log.read_text()


def test_renewed_token_is_taken_from_its_file_without_a_restart(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    tokens.anonymous = False
    token = folder / "token"
    token.write_text("expired\n")
    token.chmod(0o600)
    account = f'docker_hub_username = "acme"\ndocker_hub_access_token_file = "{token}"\n'
    hub = engine(docker_hub(guarded), top=account)
    assert hub.get(f"/v2/docker-hub/{SCHEMA2}/manifests/1").status >= 400
    token.write_text("right\n")
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1") == stock.schema2.digest


def test_wrong_token_does_not_break_public_content(
    folder: Path, stock: Stock, guarded: Registry, tokens: TokenServer, engine: StartEngine
) -> None:
    hub = engine(
        docker_hub(guarded),
        top='docker_hub_username = "acme"\n',
        environ={"PULLTHROUGH_DOCKER_HUB_ACCESS_TOKEN": "a-wrong-token"},
    )
    assert Skopeo(folder / "skopeo").pull(f"{hub.address}/docker-hub/{SCHEMA2}:1") == stock.schema2.digest


def test_signature_is_found_through_the_fallback_tag(stock: Stock, upstream: Registry, engine: StartEngine) -> None:
    """docker-registry has no referrers API: the engine reads `sha256-<hex>` instead, and keeps what it found."""
    hub = engine(docker_hub(upstream))
    path = f"/v2/docker-hub/{SIGNED}"

    found = hub.get(f"{path}/referrers/{stock.signed.digest}")
    assert found.status == 200
    assert found.headers["content-type"] == OCI_INDEX
    listed = json.loads(found.body)["manifests"]
    assert [(entry["digest"], entry["artifactType"]) for entry in listed] == [(stock.signature.digest, SIGNATURE)]
    assert upstream.asked() == {"GET referrers -> 404": 1, "GET manifest by tag": 1}

    manifest = hub.get(f"{path}/manifests/{stock.signature.digest}")
    assert manifest.body == stock.signature.manifest.body
    payload = stock.signature.blobs[1]
    assert hub.get(f"{path}/blobs/{payload.digest}").body == payload.body

    upstream.stop()
    hub.restart()
    assert json.loads(hub.get(f"{path}/referrers/{stock.signed.digest}").body)["manifests"] == listed
    assert hub.get(f"{path}/manifests/{stock.signature.digest}").body == stock.signature.manifest.body
    assert hub.get(f"{path}/blobs/{payload.digest}").body == payload.body


def test_fallback_tag_itself_can_be_pulled(stock: Stock, upstream: Registry, engine: StartEngine) -> None:
    """As signing tools of older versions do."""
    hub = engine(docker_hub(upstream))
    tag = stock.signed.digest.replace(":", "-")
    assert hub.get(f"/v2/docker-hub/{SIGNED}/manifests/{tag}").body == stock.referrers.body


def test_image_without_referrers_has_an_empty_list(stock: Stock, upstream: Registry, engine: StartEngine) -> None:
    hub = engine(docker_hub(upstream))
    found = hub.get(f"/v2/docker-hub/{BUSYBOX}/referrers/{stock.busybox.digest}")
    assert found.status == 200
    assert json.loads(found.body)["manifests"] == []


def test_tags_are_listed_as_upstream(stock: Stock, upstream: Registry, engine: StartEngine) -> None:
    hub = engine(docker_hub(upstream))
    path = f"/v2/docker-hub/{BUSYBOX}/tags/list"
    said = json.loads(hub.get(path).body)
    assert said == {"name": f"docker-hub/{BUSYBOX}", "tags": ["1.35"]}
    upstream.stop()
    assert json.loads(hub.get(path).body) == said
