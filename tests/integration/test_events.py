"""Events of real pulls: kept over a restart, shown by the command, posted and signed to a webhook."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pullthrough.demo.images import make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import free_port, wait_for
from tests.fakes.upstream import ScriptedUpstream, Status
from tests.integration.conftest import StartEngine

SECRET = b"shared secret"


class Receiver:
    """A web address that takes note of what it is told, and answers what it is told to answer."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                signed = self.headers["X-Pullthrough-Timestamp"].encode() + b"." + body
                expected = "sha256=" + hmac.new(SECRET, signed, hashlib.sha256).hexdigest()
                status = receiver.answers.pop(0) if receiver.answers else 200
                if self.headers["X-Pullthrough-Signature"] != expected:
                    status = 403
                if status == 200:
                    receiver.taken.append(json.loads(body))
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?key=hidden"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def shown(engine: Engine, last: int = 50) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(engine.command("events", "--last", str(last), "--json"))["events"]
    return events


def test_pulls_are_told_and_kept_over_a_restart(start_engine: StartEngine, upstream: ScriptedUpstream) -> None:
    image = make_image("app")
    upstream.add("acme/app", image, "1")
    engine = start_engine()
    assert engine.get("/v2/docker-hub/acme/app/manifests/1").status == 200
    assert engine.get("/v2/docker-hub/acme/app/manifests/1").status == 200  # a hit is no event
    assert engine.get("/v2/docker-hub/acme/app/manifests/2").status == 404
    upstream.script(Status(500), kind="manifest", reference="3")
    assert engine.get("/v2/docker-hub/acme/app/manifests/3").status == 503

    def told() -> bool:
        return len(shown(engine)) == 3

    wait_for(told, "the events")
    engine.stop()
    failed, missing, fetched = (event["detail"] for event in shown(engine))
    assert fetched == {
        "rule-version": "1",
        "sync-status": "SUCCESS",
        "ecr-repository-prefix": "docker-hub",
        "repository-name": "docker-hub/acme/app",
        "upstream-registry-url": "registry-1.docker.io",
        "image-tag": "1",
        "image-digest": str(image.manifest.digest),
    }
    assert (missing["image-tag"], missing["failure-code"]) == ("2", "ImageNotFound")
    assert (failed["image-tag"], failed["failure-code"]) == ("3", "UpstreamUnavailable")
    assert "docker-hub/acme/app:1" in engine.command("events")
    assert len(shown(engine, 1)) == 1


def test_a_webhook_that_is_not_there_is_named_with_its_reason(
    start_engine: StartEngine, upstream: ScriptedUpstream
) -> None:
    upstream.add("acme/app", make_image("app"), "1")
    engine = start_engine(more=f'[ecr]\nwebhook_url = "http://127.0.0.1:{free_port()}/"')
    assert engine.get("/v2/docker-hub/acme/app/manifests/1").status == 200
    wait_for(lambda: "the webhook cannot be reached: Connection refused" in engine.log.read_text(), "a log line")


def test_the_webhook_is_told_signed_and_again_after_a_failure(
    start_engine: StartEngine, upstream: ScriptedUpstream, receiver: Receiver, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    for number in range(4):
        upstream.add(f"acme/app{number}", make_image(f"app{number}"), "1")
    receiver.answers = [503]
    more = f'[ecr]\naccount = "123456789012"\nwebhook_url = "{receiver.url}"\nwebhook_secret_file = "{secret}"'
    engine = start_engine(more=more)
    for number in range(4):
        assert engine.get(f"/v2/docker-hub/acme/app{number}/manifests/1").status == 200
    wait_for(lambda: len(receiver.taken) == 4, "the webhook to be told")
    names = {event["detail"]["repository-name"] for event in receiver.taken}
    assert names == {f"docker-hub/acme/app{number}" for number in range(4)}
    assert {event["account"] for event in receiver.taken} == {"123456789012"}
    assert "could not be delivered" in engine.log.read_text()
    assert "hidden" not in engine.log.read_text()
