"""TLS: which certificates are trusted, and who gets to see ours."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pullthrough.errors import UpstreamRefused, UpstreamUnavailable
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, one, over_tls, reached_at
from tests.integration.upstream.conftest import Certificates
from tests.integration.upstream.servers import STUCK_SECONDS, Asked, Reply, Server

MANIFEST = b'{"schemaVersion": 2}'
HOST = "registry.example.com"


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, MANIFEST)


async def ask(upstream: Upstream) -> None:
    await upstream.fetch_manifest("a", "1", None)


async def test_a_ca_of_ones_own_is_trusted_where_it_is_named(upstreams: Make, certificates: Certificates) -> None:
    with Server(serving, tls=certificates.server()) as server:
        await ask(upstreams(settings={HOST: over_tls(certificates.ca)}, hosts={HOST: server}).get(HOST))


async def test_a_certificate_of_an_unknown_ca_is_refused_without_retries(
    upstreams: Make, certificates: Certificates
) -> None:
    with Server(serving, tls=certificates.server()) as server:
        upstream = upstreams(settings={HOST: reached_at(retries=2)}, hosts={HOST: server}).get(HOST)
        with pytest.raises(UpstreamRefused, match="certificate") as caught:
            await ask(upstream)
        assert "ca_file" in caught.value.hint
        assert (server.connections, server.asked) == (1, [])


async def test_a_certificate_for_another_name_is_refused(upstreams: Make, certificates: Certificates) -> None:
    with (
        Server(serving, tls=certificates.server(name="other")) as server,
        pytest.raises(UpstreamRefused, match="certificate"),
    ):
        await ask(upstreams(settings={HOST: over_tls(certificates.ca)}, hosts={HOST: server}).get(HOST))


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that takes one connection, reads a little, answers and closes: the address as an https endpoint."""

    def serve() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(65536)
            sock.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(STUCK_SECONDS)


async def test_plain_http_where_tls_should_be_is_refused_with_a_hint(upstreams: Make) -> None:
    with (
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as endpoint,
        pytest.raises(UpstreamRefused, match="no TLS") as caught,
    ):
        await ask(one(upstreams, endpoint))
    assert "http://" in caught.value.hint


async def test_a_server_that_breaks_the_handshake_is_unavailable(upstreams: Make) -> None:
    with answering(b"") as endpoint, pytest.raises(UpstreamUnavailable):
        await ask(one(upstreams, endpoint))


async def test_a_client_certificate_is_shown_to_the_upstream_and_not_where_it_redirects(
    upstreams: Make, certificates: Certificates
) -> None:
    tls = certificates.server(wants_client=True)
    with Server(serving, tls=tls) as target:

        def redirect(asked: Asked, sock: socket.socket) -> Reply:
            return Reply(307, {"Location": f"https://evil.example.net:{target.port}/x"})

        with Server(redirect, tls=tls) as server:
            upstream = upstreams(
                settings={
                    HOST: over_tls(certificates.ca, client_cert=certificates.client, client_key=certificates.client_key)
                },
                hosts={HOST: server, "evil.example.net": target},
            ).get(HOST)
            await ask(upstream)
        assert [bool(shown) for shown in server.client_certificates] == [True]
        assert [bool(shown) for shown in target.client_certificates] == [False]


async def test_certificate_files_that_cannot_be_used_are_named_by_their_settings(
    upstreams: Make, tmp_path: Path
) -> None:
    (tmp_path / "bad.pem").write_text("not a certificate")
    for ca in (tmp_path / "bad.pem", tmp_path / "missing.pem"):
        with Server(serving) as server:
            upstream = upstreams(settings={HOST: over_tls(ca)}, hosts={HOST: server}).get(HOST)
            with pytest.raises(UpstreamRefused) as caught:
                await ask(upstream)
            assert "ca_file" in caught.value.hint


async def test_a_renewed_ca_file_is_read_without_a_restart(
    upstreams: Make, certificates: Certificates, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.client, ca)
    with Server(serving, tls=certificates.server()) as server:
        upstream = upstreams(settings={HOST: over_tls(ca)}, hosts={HOST: server}).get(HOST)
        with pytest.raises(UpstreamRefused):
            await ask(upstream)
        shutil.copy(certificates.ca, ca)
        await ask(upstream)
