"""Clients that ask for a large manifest and do not read it cost next to nothing, and get it whole when they do."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest

from pullthrough.demo.images import Image, make_artifact
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from tests.e2e.certificates import Certificate, self_signed
from tests.fakes.upstream import Replace
from tests.integration.sites import KIB, MIB, Corner, Download, Site, open_site, resident_bytes

READERS = 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="module", params=["plain", "tls", "plain-asyncio", "tls-asyncio"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Site]:
    how, _, loop = request.param.partition("-")
    serve = f'loop = "{loop or "auto"}"\n'
    if how == "tls":
        serve += f'tls_cert = "{certificate.cert}"\ntls_key = "{certificate.key}"\n'
    with open_site(tmp_path_factory.mktemp("slow"), 1, serve=serve, corners=8) as opened:
        yield opened


def connect(site: Site, certificate: Certificate) -> socket.socket:
    url = urlsplit(site.engine.url)
    connection = socket.socket()
    connection.settimeout(60)
    # So that little waits in the kernel.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
    connection.connect((url.hostname, url.port))
    if url.scheme == "http":
        return connection
    context = ssl.create_default_context(cafile=str(certificate.cert))
    context.check_hostname = False
    return context.wrap_socket(connection)


def large_image(seed: str) -> Image:
    image = make_artifact(seed, subject=None, annotations={"note": "n" * (MAX_MANIFEST_BYTES - 2000)})
    assert MAX_MANIFEST_BYTES - 2000 < len(image.manifest.body) <= MAX_MANIFEST_BYTES
    return image


def path_of(corner: Corner) -> str:
    return f"/v2/{corner.prefix}/{corner.repository}/manifests/1"


def test_a_reader_that_stands_still_holds_a_slice_and_not_the_manifest(site: Site, certificate: Certificate) -> None:
    corner = site.corner()
    image = corner.add(large_image("slow"))
    with ExitStack() as stack:

        def ask() -> Download:
            way = connect(site, certificate)
            return stack.enter_context(Download(site.engine, path_of(corner), connection=way))

        assert ask().rest() == image.manifest.body
        before = resident_bytes(site.engine.pid)
        readers = [ask() for _ in range(READERS)]
        for reader in readers:
            assert reader.read(1000) == image.manifest.body[:1000]
        grown = resident_bytes(site.engine.pid) - before
        for reader in readers:
            assert reader.rest() == image.manifest.body[1000:]
    # With TLS what is encrypted waits in buffers of the connection's own.
    each = (700 if site.engine.url.startswith("https") else 150) * KIB
    assert grown < READERS * each, f"{grown / MIB:.1f} MiB for {READERS} slow clients"


@pytest.mark.parametrize("query", ["", "?last=0"])
def test_readers_of_a_long_list_that_stand_still_share_it(site: Site, certificate: Certificate, query: str) -> None:
    """Also one that is a part of it."""
    corner = site.corner()
    corner.add(large_image("listed"))
    tags = [f"{number:06}{'x' * 100}" for number in range(60_000)]
    body = json.dumps({"name": corner.repository, "tags": tags}).encode()
    corner.script(Replace(body), kind="tags")
    path = f"/v2/{corner.prefix}/{corner.repository}/tags/list"
    assert json.loads(site.engine.get(path).body)["tags"] == tags
    with ExitStack() as stack:
        before = resident_bytes(site.engine.pid)
        readers = [
            stack.enter_context(Download(site.engine, path + query, connection=connect(site, certificate)))
            for _ in range(READERS)
        ]
        for reader in readers:
            assert reader.status == 200
            reader.read(1000)
        grown = resident_bytes(site.engine.pid) - before
        assert len(readers[0].rest()) > 6 * MIB
    assert grown < READERS * MIB, f"{grown / MIB:.1f} MiB for {READERS} slow clients of {len(body) / MIB:.1f} MiB"


def test_a_client_that_goes_away_in_the_middle_is_noticed(site: Site, certificate: Certificate) -> None:
    corner = site.corner()
    image = corner.add(large_image("gone"))
    for _ in range(3):
        with Download(site.engine, path_of(corner), connection=connect(site, certificate)) as download:
            download.read(1000)
    if site.engine.url.startswith("https"):
        # One that says it is leaving: what is written to it then is lost, and was warned of each time.
        with connect(site, certificate) as connection:
            assert isinstance(connection, ssl.SSLSocket)
            download = Download(site.engine, path_of(corner), connection=connection)
            download.read(1000)
            with suppress(OSError):
                connection.unwrap()
    assert corner.engine.get(path_of(corner)).body == image.manifest.body
    assert corner.engine.get(path_of(corner), method="HEAD").headers["content-length"] == str(len(image.manifest.body))
    assert "Traceback" not in site.logged()
    assert " WARNING " not in site.logged()
