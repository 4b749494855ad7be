"""Keys and certificates of the tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.processes import environment, run
from tests.programs import needs


@dataclass(frozen=True)
class Certificate:
    """A key and its certificate, both in PEM files."""

    key: Path
    cert: Path

    @property
    def der_base64(self) -> str:
        """The certificate's DER in base64 on one line, as JWT's `x5c` wants it."""
        lines = self.cert.read_text().splitlines()
        return "".join(lines[lines.index("-----BEGIN CERTIFICATE-----") + 1 : lines.index("-----END CERTIFICATE-----")])

    def sign(self, message: bytes) -> bytes:
        """RSASSA-PKCS1-v1_5 with SHA-256 (JWT's RS256)."""
        command = [needs("openssl"), "dgst", "-sha256", "-sign", str(self.key)]
        return subprocess.run(command, input=message, capture_output=True, check=True).stdout


def self_signed(folder: Path, name: str) -> Certificate:
    """A certificate that vouches for itself: a CA, or the key of a token server."""
    made = Certificate(folder / f"{name}.key", folder / f"{name}.crt")
    run(
        [
            *(needs("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-keyout", made.key, "-out", made.cert),
        ],
        env=environment(folder),
    )
    return made


def issue(ca: Certificate, folder: Path, name: str) -> Certificate:
    """A server's certificate for 127.0.0.1 and localhost, signed by `ca`."""
    made = Certificate(folder / f"{name}.key", folder / f"{name}.crt")
    request, extensions = folder / f"{name}.csr", folder / f"{name}.ext"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
    openssl, env = needs("openssl"), environment(folder)
    run(
        [
            *(openssl, "req", "-newkey", "rsa:2048", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", made.key, "-out", request),
        ],
        env=env,
    )
    run(
        [
            *(openssl, "x509", "-req", "-days", "2", "-in", request, "-out", made.cert),
            *("-CA", ca.cert, "-CAkey", ca.key, "-CAcreateserial", "-extfile", extensions),
        ],
        env=env,
    )
    return made
