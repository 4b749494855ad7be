"""What a start of the engine loads: not what only the AWS APIs and logins need, which would be paid for at every start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pullthrough.demo.images import make_image
from tests.aws import Account
from tests.e2e.certificates import self_signed
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.conftest import StartEngine

#: Packages, each of which takes long to load.
LATE = {"bcrypt", "botocore", "cryptography"}
IMAGE = make_image("app")


def loaded(engine: Engine) -> set[str]:
    """The packages that any process of the engine has loaded so far, as Python itself tells it (`-X importtime`)."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +([A-Za-z0-9_]+)", engine.log.read_text(), re.MULTILINE))


@pytest.mark.parametrize("auth", ["keys", "none"])
def test_start_and_pulls_load_nothing_of_the_apis(
    start_engine: StartEngine, upstream: ScriptedUpstream, auth: str
) -> None:
    upstream.add("library/app", IMAGE, "1")
    engine = start_engine(more=f'[ecr]\nauth = "{auth}"\n', environ={"PYTHONPROFILEIMPORTTIME": "1"})
    path = "/v2/docker-hub/library/app"
    for _ in range(2):
        assert engine.get(f"{path}/manifests/1").status == 200
        assert engine.get(f"{path}/blobs/{IMAGE.blobs[0].digest}").status == 200
    assert "aiohttp" in loaded(engine)
    assert not loaded(engine) & LATE


def test_first_call_of_an_api_loads_the_models(start_engine: StartEngine) -> None:
    """So that the test before can fail."""
    engine = start_engine(more='[ecr]\nauth = "none"\n', environ={"PYTHONPROFILEIMPORTTIME": "1"})
    Account(engine.url).client("ecr").describe_repositories()
    assert "botocore" in loaded(engine)


_CERTIFICATES = """
import os
from pullthrough.server.process import import_aiohttp

before = dict(os.environ)
import_aiohttp()
from aiohttp import connector

print(dict(os.environ) == before, connector._SSL_CONTEXT_VERIFIED.cert_store_stats()["x509"])
"""


@pytest.mark.parametrize("is_named", [True, False])
def test_the_systems_certificates_are_not_read_for_a_client_that_is_not_used(tmp_path: Path, is_named: bool) -> None:
    """aiohttp reads them as it is imported."""
    certificate = self_signed(tmp_path, "authority").cert
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT_")}
    environ |= {"SSL_CERT_FILE": str(certificate)} if is_named else {}
    done = subprocess.run(
        [sys.executable, "-c", _CERTIFICATES], env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["True", "0"], done.stderr
