"""Logins and keys against a running engine, with one worker and with two: what one is told, the other obeys at once."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from pullthrough.demo.images import make_image
from tests.aws import Account, fails_with
from tests.e2e.engine import Answer, Engine
from tests.e2e.processes import environment, free_port, run
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.conftest import StartEngine
from tests.integration.ecr import TRIES
from tests.integration.lanes import error_of
from tests.integration.sites import children

IMAGE = make_image("login", layer_sizes=(10_000,))
PATH = "/v2/docker-hub/library/app/manifests/1"
LOGIN = "pull_auth = true"


@pytest.fixture
def upstream(upstream: ScriptedUpstream) -> ScriptedUpstream:
    upstream.add("library/app", IMAGE, "1")
    return upstream


def keys(engine: Engine, *arguments: str) -> Any:
    return json.loads(engine.command("keys", *arguments, "--json"))


def account(engine: Engine, key: dict[str, str]) -> Account:
    return Account(engine.url, key["access_key_id"], key["secret_access_key"])


def password_of(engine: Engine, key: dict[str, str]) -> str:
    """What `aws ecr get-login-password` prints."""
    (data,) = account(engine, key).client("ecr").get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"] == engine.url
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    return password


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def pulls(engine: Engine, headers: dict[str, str]) -> set[int]:
    """The statuses of several pulls, of which each worker gets some."""
    return {engine.get(PATH, headers=headers).status for _ in range(TRIES)}


def test_the_first_key_is_shown_once_and_logs_in(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine(serve=LOGIN)
    shown = keys(engine, "show")
    with pytest.raises(AssertionError, match="shown once"):
        keys(engine, "show")
    assert [key["name"] for key in keys(engine, "list")["keys"]] == ["admin"]
    assert account(engine, shown).client("sts").get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:user/admin"
    assert pulls(engine, basic("AWS", password_of(engine, shown))) == {200}
    # It is kept.
    engine.restart()
    assert pulls(engine, basic("AWS", password_of(engine, shown))) == {200}


def test_the_start_says_which_command_shows_the_first_key(start_engine: StartEngine, tmp_path: Path) -> None:
    engine = start_engine()
    (line,) = (line for line in engine.log.read_text().splitlines() if " keys show" in line)
    # Also in a folder without the engine's configuration.
    shown = run(["sh", "-c", f"cd / && {line}"], env=environment(tmp_path / "home"))
    assert shown.startswith("export AWS_ACCESS_KEY_ID=AKIA")
    assert [key["name"] for key in keys(engine, "list")["keys"]] == ["admin"]


@pytest.mark.parametrize(("serve", "is_open"), [("", True), (LOGIN, False)])
def test_the_start_pastes_no_pull_that_lacks_its_login(start_engine: StartEngine, serve: str, is_open: bool) -> None:
    said = start_engine(serve=serve).log.read_text()
    assert ("Try it:\n" in said, "Try it, once logged in" in said) == (is_open, not is_open)
    assert ("Pushes and the AWS APIs need" in said, "Pulls, pushes and" in said) == (is_open, not is_open)
    assert (" pull 127.0.0.1:" in said) == is_open


def test_without_login_a_client_is_asked_for_it(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine(serve=LOGIN)
    for path in ("/v2/", PATH, "/v2/_catalog", "/v2/docker-hub/library/app/tags/list"):
        answer = engine.get(path)
        assert error_of(answer)[:2] == (401, "UNAUTHORIZED")
        assert answer.headers["www-authenticate"] == f'Basic realm="{engine.url}/",service="ecr.amazonaws.com"'
    for headers in (basic("AWS", "x"), basic("bob", "x"), {"Authorization": "Bearer x"}):
        assert pulls(engine, headers) == {401}
    assert upstream.requests.count() == 0
    # What watches the engine needs none.
    assert engine.get("/healthz").status == 200


def test_where_pulls_are_open_a_login_is_asked_for_to_push_only(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    engine = start_engine()
    assert pulls(engine, {}) == {200}
    answer = engine.get("/v2/own/app/blobs/uploads/", method="POST")
    assert error_of(answer)[:2] == (401, "UNAUTHORIZED")
    # Clients that know Basic are told of it at the door, and send an empty login where they have none.
    assert engine.get("/v2/").headers["www-authenticate"].startswith("Basic realm=")
    assert pulls(engine, basic("", "")) == {200}
    # A wrong login is not passed over.
    assert pulls(engine, basic("AWS", "x")) == {401}
    key = keys(engine, "create", "ci", "--role", "admin")
    login = basic("AWS", password_of(engine, key))
    assert engine.get("/v2/own/app/blobs/uploads/", method="POST", headers=login).status == 202


def test_a_renewed_or_removed_key_ends_for_every_worker_at_once(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    engine = start_engine(serve=LOGIN)
    made = keys(engine, "create", "ci")
    login = basic("AWS", password_of(engine, made))
    assert pulls(engine, login) == {200}
    renewed = keys(engine, "renew", "ci")
    assert pulls(engine, login) == {401}
    with fails_with("InvalidSignatureException"):
        account(engine, made).client("ecr").get_authorization_token()
    login = basic("AWS", password_of(engine, renewed))
    assert pulls(engine, login) == {200}
    assert keys(engine, "remove", "ci") == {"name": "ci", "removed": True}
    assert pulls(engine, login) == {401}
    for _ in range(TRIES):
        with fails_with("UnrecognizedClientException", "security token"):
            account(engine, renewed).client("ecr").get_authorization_token()


def test_a_role_allows_what_it_says(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine()
    key = keys(engine, "create", "puller")
    client = account(engine, key).client("ecr")
    with fails_with(
        "AccessDeniedException",
        "User: arn:aws:iam::000000000000:user/puller is not authorized to perform: ecr:PutRegistryPolicy on resource: *",
        "because no identity-based policy allows the ecr:PutRegistryPolicy action",
    ):
        client.put_registry_policy(policyText="{}")
    answer = engine.get("/v2/own/app/blobs/uploads/", method="POST", headers=basic("AWS", password_of(engine, key)))
    status, code, message = error_of(answer)
    assert (status, code) == (403, "DENIED")
    assert "not authorized to perform: ecr:InitiateLayerUpload" in message


def test_policies_are_obeyed_by_every_worker_at_once(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine()
    admin = account(engine, keys(engine, "show")).client("ecr")
    login = basic("AWS", password_of(engine, keys(engine, "create", "puller")))
    assert pulls(engine, {}) == pulls(engine, login) == {200}
    deny = {"Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage"}
    name = {"repositoryName": "docker-hub/library/app"}
    admin.set_repository_policy(**name, policyText=json.dumps({"Version": "2012-10-17", "Statement": deny}))
    assert (pulls(engine, {}), pulls(engine, login)) == ({401}, {403})
    admin.delete_repository_policy(**name)
    assert pulls(engine, {}) == pulls(engine, login) == {200}
    only = {**deny, "Principal": {"AWS": "arn:aws:iam::000000000000:user/puller"}, "Resource": "*"}
    admin.put_registry_policy(policyText=json.dumps({"Version": "2012-10-17", "Statement": only}))
    assert (pulls(engine, {}), pulls(engine, login)) == ({200}, {403})
    admin.delete_registry_policy()
    assert pulls(engine, login) == {200}


def test_users_of_the_htpasswd_file_pull(start_engine: StartEngine, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    file = tmp_path / "htpasswd"
    file.write_text(f"bob:{hashed}\n")
    engine = start_engine(serve=LOGIN, more=f'[ecr]\nhtpasswd_file = "{file}"')
    assert pulls(engine, basic("bob", "hunter2")) == {200}
    assert pulls(engine, basic("bob", "hunter3")) == {401}
    file.write_text(f"alice:{hashed}\n")
    assert pulls(engine, basic("bob", "hunter2")) == {401}
    assert pulls(engine, basic("alice", "hunter2")) == {200}
    assert "hunter" not in engine.log.read_text()


def test_the_listen_address_decides_not_the_clients(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    """Clients come from loopback here; the listener on all addresses asks them to log in all the same."""
    port = free_port()
    engine = start_engine(serve=f'mirrors = {{ "0.0.0.0:{port}" = "docker-hub" }}')

    def get(headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("GET", "/v2/library/app/manifests/1", headers=headers)
            response = connection.getresponse()
            return Answer(response.status, {n.lower(): v for n, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    assert pulls(engine, {}) == {200}
    assert {get({}).status for _ in range(TRIES)} == {401}
    login = basic("AWS", password_of(engine, keys(engine, "show")))
    assert {get(login).status for _ in range(TRIES)} == {200}


def test_with_no_authentication_everybody_is_the_root(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine(more='[ecr]\nauth = "none"')
    assert "is for throw-away use" in engine.log.read_text()
    client = Account(engine.url, "anything", "at-all", region="mars-north-1").client("sts")
    assert client.get_caller_identity()["Arn"] == "arn:aws:iam::000000000000:root"
    assert pulls(engine, basic("AWS", "anything")) == {200}
    assert engine.get("/v2/own/app/blobs/uploads/", method="POST").status == 202
    # What a browser sends for a web page without asking first.
    page = {"Origin": "http://page.example", "Content-Type": "text/plain"}
    assert engine.get("/v2/own/app/blobs/uploads/", method="POST", headers=page).status == 403
    # And where the page's own name leads here.
    calls = {
        "Origin": "http://page.example",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "secretsmanager.ListSecrets",
    }
    assert engine.get("/", method="POST", headers=calls).status == 400
    del calls["Origin"]
    assert engine.get("/", method="POST", headers=calls).status == 200


def test_without_the_encryption_key_pulls_go_on_and_logins_are_told(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    engine = start_engine()
    key = keys(engine, "show")
    login = basic("AWS", password_of(engine, key))
    engine.stop()
    sealing_key = engine.data.with_name("data.key")
    assert sealing_key.stat().st_mode & 0o777 == 0o600
    sealing_key.rename(engine.folder / "elsewhere")
    engine.start()
    assert pulls(engine, {}) == {200}
    status, code, message = error_of(engine.get(PATH, headers=login))
    assert (status, code) == (503, "UNAVAILABLE")
    assert "encrypted with" in message
    (engine.folder / "elsewhere").rename(sealing_key)
    assert pulls(engine, login) == {200}


def test_no_secret_half_is_in_the_data_folder_or_the_log(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine()
    made = [keys(engine, "show"), keys(engine, "create", "ci"), keys(engine, "renew", "ci")]
    tokens = [password_of(engine, made[0]), password_of(engine, made[2])]
    for token in tokens:
        assert pulls(engine, basic("AWS", token)) == {200}
    engine.stop()
    kept = b"".join(path.read_bytes() for path in [*engine.data.rglob("*"), engine.log] if path.is_file())
    for secret in [*(key["secret_access_key"] for key in made), *tokens]:
        assert secret.encode() not in kept


def test_keys_are_made_without_an_engine_too(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    engine = start_engine(serve=LOGIN)
    engine.stop()
    made = keys(engine, "create", "ci")
    engine.start()
    assert pulls(engine, basic("AWS", password_of(engine, made))) == {200}


def test_a_start_loads_no_cryptography(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    """What takes long to import waits until somebody needs it."""
    engine = start_engine()
    assert pulls(engine, {}) == {200}
    for pid in (engine.pid, *children(engine.pid)):
        mapped = Path(f"/proc/{pid}/maps").read_text()
        assert "/cryptography/" not in mapped
        assert "/bcrypt/" not in mapped
