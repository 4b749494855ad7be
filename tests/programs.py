"""Programs that tests run: where they are, or a skip that says what to install.

`TESTS_NO_SKIP=1` (set by `.ci/run`) makes a missing program a failure, so that a green run means that
everything ran.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]

#: Debian's package of each program, where it is not named like the program.
_PACKAGES = {
    "ctr": "containerd",
    "dockerd": "docker.io",
    "docker": "docker.io",
    "busybox": "busybox-static",
    "ip": "iproute2",
    "nginx": "nginx-light",
    "htpasswd": "apache2-utils",
    "node": "nodejs",
    "systemd-analyze": "systemd",
}
#: Built from source where a toolchain is there; never a failure when it is not.
_OPTIONAL = dict.fromkeys(("crane", "oci-conformance"), "`.ci/run` builds it where Go is installed")
#: Debian keeps daemons where an ordinary user's PATH does not reach.
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/go/bin"))


def needs(program: str) -> str:
    """The path of `program`; the calling test is skipped where it is not installed."""
    built = ROOT / ".cache" / "bin" / program
    found = str(built) if built.is_file() else shutil.which(program, path=_PATH)
    if found:
        return found
    if program in _OPTIONAL:
        pytest.skip(f"{program} is not here; {_OPTIONAL[program]}")
    missing(f"{program} is not installed; on Debian: apt-get install {_PACKAGES.get(program, program)}")


def needs_root() -> None:
    """Skip the calling test unless it runs as root: container daemons mount and change owners."""
    if os.geteuid() != 0:
        missing("this test starts a container daemon, which needs root")


def missing(reason: str) -> NoReturn:
    """Skip the calling test for what the machine lacks, or fail it where nothing may be skipped."""
    if os.environ.get("TESTS_NO_SKIP") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
