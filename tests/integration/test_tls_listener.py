"""TLS at the listener: the same bytes, the certificate read again on SIGHUP, and no wrong body ended as a right one."""

from __future__ import annotations

import http.client
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Corrupt, Throttle, Valve
from tests.integration.sites import HELD_BACK, MIB, Broken, Corner, Site, open_site, resident_bytes
from tests.programs import needs


def make_certificate(folder: Path, name: str) -> None:
    """`cert.pem` and `key.pem`, for 127.0.0.1, with that common name."""
    curve, files = "prime256v1", {name: str(folder / f"{name}.pem") for name in ("key", "cert")}
    subprocess.run(
        [
            *(needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", f"ec_paramgen_curve:{curve}", "-nodes"),
            *("-keyout", files["key"], "-out", files["cert"], "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder, "first")
    return folder


@pytest.fixture(scope="module", params=[(1, "asyncio"), (2, "auto")], ids=["one-worker-asyncio", "two-workers"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificates: Path
) -> Iterator[Site]:
    workers, loop = request.param
    serve = (
        f'prefetch = false\nloop = "{loop}"\n'
        f'tls_cert = "{certificates / "cert.pem"}"\ntls_key = "{certificates / "key.pem"}"'
    )
    with open_site(tmp_path_factory.mktemp("tls"), workers, serve=serve, corners=20) as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def secure(engine: Engine, certificates: Path) -> ssl.SSLSocket:
    host, _, port = engine.address.partition(":")
    context = ssl.create_default_context(cafile=str(certificates / "cert.pem"))
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=60), server_hostname=host)


def test_bodies_and_ranges_are_right_cold_and_warm(corner: Corner, certificates: Path) -> None:
    blob = corner.blob(5 * MIB + 17)
    assert corner.engine.url.startswith("https://")
    for outcome in ("miss", "hit"):
        with corner.open(blob, connection=secure(corner.engine, certificates)) as download:
            assert download.rest() == blob.read()
            assert download.outcome == outcome
        corner.wait_published(blob)
        answer = corner.get(blob, headers={"Range": f"bytes={MIB}-{2 * MIB + 5}"})
        assert (answer.status, answer.body) == (206, blob.read(MIB, 2 * MIB + 6))
    assert corner.cost(blob) == {"GET": 1}


def test_the_first_bytes_come_while_the_upstream_still_sends(corner: Corner, certificates: Path) -> None:
    blob, valve = corner.blob(300_000), Valve(HELD_BACK + 1000)
    corner.script(Throttle(valve))
    with corner.open(blob, connection=secure(corner.engine, certificates)) as download:
        assert download.read(1000) == blob.read(0, 1000)
        valve.let_all()
        assert download.rest() == blob.read(1000)


def test_a_wrong_digest_breaks_the_connection_off(corner: Corner, certificates: Path) -> None:
    blob = corner.blob(300_000)
    corner.script(Corrupt(at=299_999))
    with corner.open(blob, connection=secure(corner.engine, certificates)) as download, pytest.raises(Broken):
        download.rest()
    assert not corner.is_published(blob)


def test_slow_readers_take_little_memory(corner: Corner, certificates: Path) -> None:
    blob = corner.blob(32 * MIB)
    corner.get(blob)
    corner.wait_published(blob)
    before = sum(map(resident_bytes, corner.site.pids))
    downloads = [corner.open(blob, connection=secure(corner.engine, certificates)) for _ in range(30)]
    for download in downloads:
        assert download.read(1000) == blob.read(0, 1000)
    grown = sum(map(resident_bytes, corner.site.pids)) - before
    for download in downloads:
        download.close()
    # Buffers of the connection and one chunk; never the body.
    assert grown < 30 * 1.2 * MIB, f"{grown / MIB:.1f} MiB for 30 slow clients"
    wait_for(lambda: corner.site.is_idle, "the engine to rest after they left")


def test_plain_http_on_the_tls_port_is_no_crash(corner: Corner) -> None:
    host, _, port = corner.engine.address.partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            assert not connection.recv(1000).startswith(b"HTTP/1.1 200")
        except ConnectionResetError:
            pass
    assert corner.engine.get("/healthz").status == 200


def test_sighup_reads_the_certificate_again_and_a_bad_one_changes_nothing(site: Site, certificates: Path) -> None:
    def names() -> set[str]:
        """As all workers show them."""
        seen = set()
        for _ in range(8):
            with secure(site.engine, certificates) as connection:
                subject = connection.getpeercert()
                assert subject
                seen.add(str(dict(entry[0] for entry in subject["subject"])["commonName"]))  # type: ignore[misc]
        return seen

    (before,) = names()
    make_certificate(certificates, f"after {before}"[-40:])
    count = site.logged().count("the certificate was read again")
    site.engine.signal(signal.SIGHUP)
    wait_for(lambda: site.logged().count("the certificate was read again") == count + site.workers, "the signal")
    (after,) = names()
    assert after != before

    good = (certificates / "cert.pem").read_text()
    (certificates / "cert.pem").write_text("no certificate")
    site.engine.signal(signal.SIGHUP)
    wait_for(lambda: site.logged().count("the old certificate stays in use") >= site.workers, "the signal")
    (certificates / "cert.pem").write_text(good)
    assert names() == {after}


def test_a_kept_connection_outlives_the_reload(site: Site, certificates: Path) -> None:
    with secure(site.engine, certificates) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            response = http.client.HTTPResponse(connection)
            response.begin()
            assert response.status == 200
            response.read()
            site.engine.signal(signal.SIGHUP)
