"""The two C programs beside this module, compiled when first needed into the work folder."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from bench.machine import Unavailable, need

_HERE = Path(__file__).parent


def has_openssl_headers() -> bool:
    return _compiles(["-E", "-x", "c", "-"], "#include <openssl/ssl.h>\n")


def floor_program(work: Path) -> Path:
    """Raises Unavailable without a compiler or OpenSSL's headers: a slower hash would be no floor."""
    if not has_openssl_headers():
        raise Unavailable("the floor needs a C compiler and OpenSSL's headers (Debian: apt-get install gcc libssl-dev)")
    return _build(work, "floor", ["-lcrypto"])


def load_program(work: Path) -> Path:
    """The load generator; without OpenSSL's headers it is built without TLS."""
    if has_openssl_headers():
        return _build(work, "load", ["-DWITH_TLS", "-lssl", "-lcrypto", "-lpthread"])
    return _build(work, "load", ["-lpthread"])


def _build(work: Path, name: str, flags: list[str]) -> Path:
    source, target = _HERE / f"{name}.c", work / "bin" / name
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    compiler = need("cc", "gcc")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-Wall", "-D_GNU_SOURCE", "-o", str(target), str(source), *flags]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Unavailable(f"{source.name} does not compile: {run.stderr[-400:]}")
    return target


def _compiles(flags: list[str], text: str) -> bool:
    compiler = shutil.which("cc")
    if compiler is None:
        return False
    return subprocess.run([compiler, *flags], input=text, text=True, capture_output=True, check=False).returncode == 0
