"""What the upstream tests share: a client whose waits are recorded instead of waited, and certificates."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pullthrough.upstream.interfaces import Upstreams
from tests.integration.upstream.clients import Recorder, Time, make_upstreams
from tests.programs import needs

#: Names of real registries, of which the tests play the servers.
NAMES = (
    "registry-1.docker.io",
    "auth.docker.io",
    "production.cloudflare.docker.com",
    "ghcr.io",
    "pkg-containers.githubusercontent.com",
    "quay.io",
    "cdn01.quay.io",
    "registry.k8s.io",
    "us-west1-docker.pkg.dev",
    "public.ecr.aws",
    "d5l0dvt14r5h8.cloudfront.net",
    "registry.example.com",
    "auth.example.com",
    "evil.example.net",
    "localhost",
)


@dataclass(frozen=True)
class Certificates:
    folder: Path
    ca: Path
    client: Path
    client_key: Path

    def server(self, *, wants_client: bool = False, name: str = "server") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        if wants_client:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self.ca)
        return context


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A CA, a server certificate for all NAMES, one for another name, and a client certificate."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")

    def openssl(*arguments: str) -> None:
        subprocess.run([needs("openssl"), *arguments], cwd=folder, check=True, capture_output=True)

    def issue(name: str, extensions: str) -> None:
        (folder / f"{name}.ext").write_text(extensions)
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(
            *("x509", "-req", "-days", "2", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
        )

    openssl("req", "-x509", *key, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt")
    names = ",".join(f"DNS:{name}" for name in NAMES)
    issue("server", f"subjectAltName={names},IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    issue("other", "subjectAltName=DNS:other.example.com\nextendedKeyUsage=serverAuth\n")
    issue("client", "extendedKeyUsage=clientAuth\n")
    return Certificates(folder, folder / "ca.crt", folder / "client.crt", folder / "client.key")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def upstreams(recorder: Recorder, time: Time) -> AsyncIterator[Callable[..., Upstreams]]:
    """Makes Upstreams that are closed after the test; keywords as for `make_upstreams`."""
    made: list[Upstreams] = []

    def make(**options: object) -> Upstreams:
        made.append(make_upstreams(recorder, time, **options))  # type: ignore[arg-type] # passed through
        return made[-1]

    yield make
    for each in made:
        await each.close()
