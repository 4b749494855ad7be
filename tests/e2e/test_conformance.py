"""The conformance program of the OCI distribution specification, version 1.1, all of it passed."""

from __future__ import annotations

import base64
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.aws import Account, key_settings
from tests.e2e.conftest import StartEngine
from tests.e2e.engine import Engine
from tests.e2e.processes import environment, run
from tests.programs import needs

#: Cases of the program that `.ci/run` builds. Two more are off by default: cancelling an upload.
CASES = 860
#: What the version 1.1 leaves to registries, and its program does not test by default.
MORE = {
    "OCI_API_BLOBS_UPLOAD_CANCEL": "true",
    "OCI_API_BLOBS_DIGEST_HEADER": "true",
    "OCI_API_MANIFESTS_DIGEST_HEADER": "true",
}


def count_cases(folder: Path, engine: Engine, **settings: str) -> tuple[int, int]:
    """How many cases passed, and how many did not, whatever the reason, skipped ones among them."""
    program = needs("oci-conformance")
    results = folder / "results"
    environ = environment(
        folder,
        OCI_REGISTRY=engine.address,
        OCI_TLS="disabled",
        OCI_VERSION="1.1",
        OCI_RESULTS_DIR=str(results),
        **settings,
    )
    said = run([program], env=environ, timeout=300)
    assert "OCI Conformance Result: Pass" in said
    suites = ElementTree.parse(results / "junit.xml").getroot()
    counts = {
        name: int(suites.attrib.get(name, "0")) for name in ("tests", "errors", "failures", "skipped", "disabled")
    }
    total = counts.pop("tests")
    return total - sum(counts.values()), sum(counts.values())


@pytest.mark.parametrize("workers", [1, 2], ids=["one worker", "two workers"])
def test_the_default_settings(folder: Path, engine: StartEngine, workers: int) -> None:
    passed, rest = count_cases(folder, engine('[ecr]\nauth = "none"', workers=workers))
    assert passed >= CASES
    assert rest == 2


def test_all_that_it_can_test_with_a_login(folder: Path, engine: StartEngine) -> None:
    registry = engine(key_settings(folder, Account("")), serve="pull_auth = true", workers=2)
    data = Account(registry.url).client("ecr").get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    passed, rest = count_cases(folder, registry, OCI_USERNAME=user, OCI_PASSWORD=password, **MORE)
    assert passed >= CASES + 2
    assert rest == 0
