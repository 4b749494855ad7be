"""The listener with a certificate: clients that check it are content, and a renewed one needs no restart."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path

import pytest

from tests.e2e.certificates import issue, self_signed
from tests.e2e.clients import Skopeo
from tests.e2e.conftest import BUSYBOX, StartEngine, Stock, docker_hub
from tests.e2e.processes import wait_for
from tests.e2e.registry import Registry


@pytest.mark.parametrize("workers", [1, 2])
def test_skopeo_pulls_over_tls_that_it_checks(
    folder: Path, stock: Stock, upstream: Registry, engine: StartEngine, workers: int
) -> None:
    ca = self_signed(folder, "ca")
    server = issue(ca, folder, "server")
    tls = f'tls_cert = "{server.cert}"\ntls_key = "{server.key}"\n'
    hub = engine(docker_hub(upstream), serve=tls, workers=workers)
    skopeo = Skopeo(folder / "skopeo")
    reference = f"{hub.address}/docker-hub/{BUSYBOX}:1.35"
    assert hub.url.startswith("https://")
    for _ in ("cold", "warm"):
        assert skopeo.pull(reference, ca=ca.cert) == stock.busybox.native.digest
    with pytest.raises(AssertionError, match="certificate"):
        skopeo.pull(reference, ca=self_signed(folder, "stranger").cert)


@pytest.mark.parametrize("workers", [1, 2])
def test_certificate_is_read_again_on_sighup(
    folder: Path, upstream: Registry, engine: StartEngine, workers: int
) -> None:
    ca = self_signed(folder, "ca")
    first, second = issue(ca, folder, "first"), issue(ca, folder, "second")
    used = folder / "used.crt", folder / "used.key"
    used[0].write_bytes(first.cert.read_bytes())
    used[1].write_bytes(first.key.read_bytes())
    tls = f'tls_cert = "{used[0]}"\ntls_key = "{used[1]}"\n'
    hub = engine(docker_hub(upstream), serve=tls, workers=workers)
    host, _, port = hub.address.rpartition(":")

    def shown() -> str:
        return ssl.get_server_certificate((host, int(port))).strip()

    assert shown() == first.cert.read_text().strip()
    used[0].write_bytes(second.cert.read_bytes())
    used[1].write_bytes(second.key.read_bytes())
    hub.signal(signal.SIGHUP)
    # Every worker reads it for itself: several answers in a row come from all of them.
    wait_for(lambda: all(shown() == second.cert.read_text().strip() for _ in range(8)), "the new certificate")
