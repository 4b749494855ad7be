"""Posting to a web address: how long it may take, over what it goes, and what a secret that is none keeps from being sent."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullthrough.demo.images import make_image
from pullthrough.engine.tell.webhook import post
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import RawUpstream, ScriptedUpstream
from tests.integration.conftest import StartEngine
from tests.integration.test_tls_listener import make_certificate

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
#: Far less than all the drops take, far more than passes between two of them.
SECONDS = 0.5


def drops() -> Iterator[bytes]:
    """A good answer that takes five seconds, none of them without a byte."""
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    pause = threading.Event()
    for _ in range(100):
        yield b"x"
        pause.wait(0.05)
    yield b"\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    """Of a receiver whose certificate this process trusts."""
    folder = tmp_path_factory.mktemp("certificate")
    make_certificate(folder, "receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
        yield context


def test_an_answer_drop_by_drop_ends_with_the_time_for_all_of_it() -> None:
    with RawUpstream(drops) as receiver, pytest.raises(TimeoutError):
        post(f"{receiver.url}/hook", {}, b"{}", SECONDS)


def test_so_does_one_over_tls(tls: ssl.SSLContext) -> None:
    with RawUpstream(drops, tls=tls) as receiver, pytest.raises(TimeoutError):
        post(f"{receiver.url}/hook", {}, b"{}", SECONDS)
    assert receiver.heads


def test_so_does_a_proxys(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawUpstream(drops) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(TimeoutError):
            post("https://receiver.example/hook", {}, b"{}", SECONDS)
    assert proxy.heads[0].startswith(b"CONNECT receiver.example:443 HTTP/1.")


def test_it_goes_over_tls_to_whom_this_machine_trusts(tls: ssl.SSLContext) -> None:
    with RawUpstream(TAKEN, tls=tls) as receiver:
        assert post(f"{receiver.url}/hook?key=k", {"X-A": "b"}, b"{}", 30.0) == 204
    assert receiver.heads[0].startswith(b"POST /hook?key=k HTTP/1.1\r\n")
    assert b"\r\nX-A: b\r\n" in receiver.heads[0]


def test_it_goes_to_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawUpstream(TAKEN) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert post("http://receiver.example/hook", {}, b"{}", 30.0) == 204
    assert proxy.heads[0].startswith(b"POST http://receiver.example/hook HTTP/1.1\r\n")


def test_a_redirect_is_not_followed_and_nonsense_is_an_error() -> None:
    with RawUpstream(b"HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\n\r\n", b"good morning\r\n\r\n") as receiver:
        assert post(receiver.url, {}, b"{}", 30.0) == 307
        with pytest.raises(OSError, match="no proper HTTP answer"):
            post(receiver.url, {}, b"{}", 30.0)
    assert len(receiver.heads) == 2


def test_an_engine_does_not_start_with_an_empty_secret(tmp_path: Path, workers: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("\n")
    config = (
        f'[serve]\nworkers = {workers}\n[ecr]\nwebhook_url = "http://127.0.0.1:9/"\nwebhook_secret_file = "{secret}"'
    )
    engine = Engine(tmp_path / "engine", config)
    with pytest.raises(AssertionError, match="pullthrough serve ended with 2"):
        engine.start()
    engine.end()
    said = engine.log.read_text()
    assert "ecr.webhook_secret_file: the file is empty, and events would not be signed with a secret" in said
    assert "openssl rand -hex 32" in said
    assert not engine.data.exists()


def test_an_event_waits_while_the_secret_is_empty(
    start_engine: StartEngine, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    upstream.add("acme/app", make_image("app"), "1")
    secret = tmp_path / "secret"
    secret.write_text("a secret that cannot be guessed")
    with RawUpstream(TAKEN) as receiver:
        engine = start_engine(
            more=f'[ecr]\nwebhook_url = "{receiver.url}/"\nwebhook_secret_file = "{secret}"',
        )
        secret.write_text("")
        assert engine.get("/v2/docker-hub/acme/app/manifests/1").status == 200
        wait_for(lambda: "the webhook's secret file is empty" in engine.log.read_text(), "a line in the log")
        assert receiver.heads == []
        secret.write_text("another one that cannot be guessed")
        wait_for(lambda: len(receiver.heads) == 1, "the event")
    assert b"\r\nx-pullthrough-signature: sha256=" in receiver.heads[0].lower()
