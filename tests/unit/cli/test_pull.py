"""`pull`: which cache it asks, and how it prints what the client reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.client.reports import CacheStatus, FetchReport, ImagePart, PullReport
from pullthrough.errors import DigestMismatch, UpstreamUnavailable
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import ImageReference
from tests.unit.cli.support import Command

DIGEST = digest_of(b"")
REPORT = PullReport(
    image="docker-hub/library/nginx:1.27",
    registry="http://127.0.0.1:5000/",
    platform="linux/amd64",
    digest=DIGEST,
    manifest_digest=DIGEST,
    manifests=(
        FetchReport(ImagePart.INDEX, DIGEST, 512, 0.002, 0.001, CacheStatus("hit", "docker-hub", 3600, "fresh")),
    ),
    blobs=(FetchReport(ImagePart.LAYER, DIGEST, 3 * 1024**2, 1.25, 0.05, None),),
    seconds=1.3,
)


class FakePull:
    def __init__(self, outcome: PullReport | Exception = REPORT) -> None:
        self._outcome = outcome
        self.asked: list[dict[str, Any]] = []

    def __call__(self, image: ImageReference, **options: Any) -> PullReport:
        self.asked.append({"image": str(image), **options})
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def test_the_report_is_a_table_with_size_time_and_source(run: Command) -> None:
    outcome = run("pull", "docker-hub/library/nginx:1.27", pull=FakePull())
    assert (outcome.code, outcome.err) == (0, "")
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["index", DIGEST[:19], "512", "B", "2ms", "1ms", "hit,", "1h", "old,", "fresh"] in lines
    assert ["layer", DIGEST[:19], "3.0", "MiB", "1.25s", "50ms", "not", "said"] in lines
    assert f"docker-hub/library/nginx:1.27 for linux/amd64 is {DIGEST}\n" in outcome.out
    assert outcome.out.endswith("3.0 MiB in 1.3s, every digest verified\n")


def test_with_json_the_report_is_the_clients(run: Command) -> None:
    assert run("pull", "a", "--json", pull=FakePull()).json == REPORT.to_dict()


@pytest.mark.parametrize(
    ("arguments", "environ", "registry"),
    [
        (["a"], {}, "http://127.0.0.1:5000"),
        (["a"], {"PULLTHROUGH_SERVE_LISTEN": "127.0.0.1:5009"}, "http://127.0.0.1:5009"),
        (
            ["a"],
            {"PULLTHROUGH_SERVE_LISTEN": "0.0.0.0:5009", "PULLTHROUGH_SERVE_ANONYMOUS_PULL": "1"},
            "http://127.0.0.1:5009",
        ),
        (
            ["a"],
            {"PULLTHROUGH_SERVE_LISTEN": "[::]:5009", "PULLTHROUGH_SERVE_ANONYMOUS_PULL": "1"},
            "http://[::1]:5009",
        ),
        (["docker.io/a"], {}, "http://127.0.0.1:5000"),
        (["localhost:5001/docker-hub/a"], {}, "http://localhost:5001"),
        (["a"], {"PULLTHROUGH_DOCKER_HUB_USERNAME": "no-token-needed"}, "http://127.0.0.1:5000"),
        (
            ["a", "--registry", "https://cache.example.com"],
            {"PULLTHROUGH_SERVE_WORKERS": "ignored"},
            "https://cache.example.com",
        ),
    ],
)
def test_the_cache_is_the_one_named_else_the_images_host_else_the_settings(
    run: Command, arguments: list[str], environ: dict[str, str], registry: str
) -> None:
    pull = FakePull()
    assert run("pull", *arguments, environ=environ, pull=pull).code == 0
    assert pull.asked == [{"image": arguments[0], "registry": registry, "platform": None, "progress": None}]


def test_a_cache_with_a_certificate_is_asked_over_tls(run: Command, tmp_path: Path) -> None:
    (tmp_path / "pem").write_text("")
    pull = FakePull()
    environ = {"PULLTHROUGH_SERVE_TLS_CERT": "pem", "PULLTHROUGH_SERVE_TLS_KEY": "pem"}
    assert run("pull", "a", "--platform", "linux/arm64", environ=environ, pull=pull).code == 0
    assert (pull.asked[0]["registry"], pull.asked[0]["platform"]) == ("https://127.0.0.1:5000", "linux/arm64")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamUnavailable("no connection", upstream="127.0.0.1:5000"), ExitCode.UNREACHABLE),
        (DigestMismatch("other bytes", expected="a", actual="b"), ExitCode.CONTENT),
    ],
)
def test_a_pull_that_fails_says_why_and_prints_no_table(run: Command, error: Exception, code: ExitCode) -> None:
    outcome = run("pull", "a", pull=FakePull(error))
    assert (outcome.code, outcome.out) == (code, "")
    assert str(error) in outcome.err


def test_what_is_no_image_asks_nothing(run: Command) -> None:
    pull = FakePull()
    assert run("pull", "A/b", pull=pull).code == ExitCode.USAGE
    assert pull.asked == []
