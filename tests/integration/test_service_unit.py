"""The systemd unit of the examples: what systemd says of it, and that the engine gets along with what it allows."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import bcrypt
import pytest

from pullthrough.demo.images import make_blob, make_image
from tests import confined
from tests.aws import Account, key_settings, push, small_image
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import RawUpstream, ScriptedUpstream
from tests.integration.pushing import Pusher
from tests.integration.sites import MIB, children
from tests.integration.test_disk import age
from tests.integration.test_tls_listener import make_certificate
from tests.programs import ROOT, missing, needs

UNIT = ROOT / "examples" / "systemd" / "pullthrough.service"
#: In tenths: 2.0. What is left is that the engine is on the network, and where the reasons stand in the unit.
EXPOSURE = "20"

#: System calls that the unit refuses and the engine does without, and why that is well.
REFUSED = {
    "cachestat": "systemd 252 does not know it: what is in memory is asked with preadv2(2), page by page",
    "fchown": "SQLite as root gives a new file to the owner of the catalog, and does not mind a refusal",
    "io_uring_setup": "uvloop asks whether there is one, and takes epoll where there is not",
}
#: strace is older than these.
_NUMBERS = {451: "cachestat"}


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [needs("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_exposure_is_low() -> None:
    done = analyze("security", "--offline=yes", f"--threshold={EXPOSURE}", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    text, count = re.subn(r"^ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text(), flags=re.MULTILINE)
    assert count == 1
    copy.write_text(text)
    done = analyze("verify", copy)
    assert (done.returncode, done.stderr) == (0, "")


# --- a real run ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The folder of `cert.pem` and `key.pem`, which the SDK trusts as well."""
    folder = tmp_path / "certificate"
    folder.mkdir()
    make_certificate(folder, "engine")
    return folder


class Run:
    """The engine under the unit's restrictions, each of its system calls written down."""

    def __init__(self, folder: Path, upstream: ScriptedUpstream, hook: RawUpstream, scheme: str, certificate: Path):
        self.account = Account("")
        self._trace = folder / "trace"
        (folder / "htpasswd").write_bytes(b"ann:" + bcrypt.hashpw(b"right", bcrypt.gensalt(4)) + b"\n")
        (folder / "hook").write_text("a secret that cannot be guessed")
        tls = f'tls_cert = "{certificate}/cert.pem"\ntls_key = "{certificate}/key.pem"' if scheme == "https" else ""
        config = f"""
            standard_rules = false
            [serve]
            workers = 2
            pull_auth = true
            max_size = "4MiB"
            min_free = "never"
            range_ahead = "1MiB"
            pull_time_flush = "100ms"
            {tls}
            [rules.docker-hub]
            upstream = "registry-1.docker.io"
            username = "acme"
            access_token_command = ["sh", "-c", "sleep 0 & wait; echo token | cat"]
            [upstreams."registry-1.docker.io"]
            endpoint = "{upstream.url.replace("127.0.0.1", "localhost")}"
            [ecr]
            htpasswd_file = "{folder}/htpasswd"
            webhook_url = "{hook.url}/"
            webhook_secret_file = "{folder}/hook"
            {key_settings(folder, self.account)}
            """
        tracer: list[str | Path] = [
            needs("strace"),
            *("-D", "-f", "-qq", "-A", "-s", "300", "-e", "signal=none", "-o", self._trace),
        ]
        within = [*tracer, sys.executable, ROOT / "tests" / "confined.py", UNIT]
        self.engine = Engine(folder / "engine", config, within=within)
        self.hook = hook
        self._certificate = certificate

    def start(self) -> None:
        self.engine.start()
        self.account = Account(self.engine.url)

    def connect(self) -> socket.socket:
        host, _, port = self.engine.address.partition(":")
        plain = socket.create_connection((host, int(port)), timeout=60)
        if self.engine.url.startswith("http:"):
            return plain
        context = ssl.create_default_context(cafile=str(self._certificate / "cert.pem"))
        return context.wrap_socket(plain, server_hostname=host)

    def lines(self) -> Iterator[str]:
        """What the engine did from its first instruction on; what its start under restrictions took is not its own."""
        began = False
        for line in self._trace.read_text(errors="replace").splitlines():
            if "confined.py" in line and "execve(" in line:
                began = False
            began = began or bool(re.search(r'execve\("[^"]*/pullthrough", ', line))
            if began:
                yield line

    def calls(self) -> set[str]:
        names = (re.match(r"\d+ +(\w+)\(", line) for line in self.lines())
        return {_name(match[1]) for match in names if match}

    def families(self) -> set[str]:
        return {match[1] for line in self.lines() if (match := re.search(r" socket\((AF_\w+),", line))}


def _name(traced: str) -> str:
    number = re.fullmatch(r"syscall_(0x[0-9a-f]+)", traced)
    return _NUMBERS.get(int(number[1], 16), traced) if number else traced


@pytest.fixture
def run(
    tmp_path: Path, upstream: ScriptedUpstream, scheme: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Run]:
    needs("systemd-analyze")
    tried = subprocess.run(
        [needs("strace"), "-qq", "-o", os.devnull, "true"], capture_output=True, text=True, check=False
    )
    if tried.returncode:
        missing(f"processes cannot be traced here: {tried.stderr.strip()}")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate / "cert.pem"))
    with RawUpstream(b"HTTP/1.1 204 No Content\r\n\r\n") as hook:
        made = Run(tmp_path, upstream, hook, scheme, certificate)
        yield made
        made.engine.end()


BIG, SMALL = make_blob("big", 3 * MIB), make_blob("small", 2000)
IMAGE = make_image("app", layers=(BIG, SMALL))


def pull(run: Run) -> None:
    """Cold, warm, and from the disk; whole, in ranges, and beyond what has arrived."""
    engine, login = run.engine, {"Authorization": "Basic YW5uOnJpZ2h0"}  # ann:right
    prefix = "/v2/docker-hub/acme/app"
    assert engine.get("/v2/").status == 401
    assert engine.get("/v2/", headers={"Authorization": "Basic YW5uOndyb25n"}).status == 401
    assert engine.get(f"{prefix}/manifests/1", headers=login).outcome == "miss"
    tail = {"Range": f"bytes={2 * MIB}-{2 * MIB + 99}"}
    assert engine.get(f"{prefix}/blobs/{BIG.digest}", headers={**login, **tail}).body == BIG.read()[2 * MIB :][:100]
    for blob in (BIG, SMALL):
        assert engine.get(f"{prefix}/blobs/{blob.digest}", headers=login).body == blob.read()
    file = engine.data / "blobs" / "sha256" / BIG.digest[7:9] / BIG.digest[7:]
    wait_for(file.exists, "the blob in the store")
    descriptor = os.open(file, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    for _ in range(8):  # both workers get some
        assert engine.get(f"{prefix}/blobs/{BIG.digest}", headers=login).body == BIG.read()
        assert engine.get(f"{prefix}/manifests/1", headers=login).status == 200
        assert engine.get(f"{prefix}/blobs/{BIG.digest}", headers={**login, **tail}).status == 206


@pytest.mark.slow
def test_a_real_run_needs_no_more_than_the_unit_allows(run: Run, upstream: ScriptedUpstream, tmp_path: Path) -> None:
    upstream.add("acme/app", IMAGE, "1")
    run.start()
    engine = run.engine
    pull(run)

    ecr = run.account.client("ecr")
    ecr.create_repository(repositoryName="own/app")
    push(ecr, "own/app", small_image(), "1")
    run.account.client("secretsmanager").create_secret(Name="a", SecretString="b")
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    with closing(run.connect()) as way:
        pusher = Pusher(engine, "own/other", {"Authorization": f"Basic {token}"})
        blob = make_blob("pushed", 100_000)
        location = pusher.begin(way)
        assert pusher.patch(location, blob.read(0, 50_000), 0, way).status == 202
        assert pusher.put(location, blob.digest, blob.read(50_000), way=way).status == 201

    assert "pullthrough_requests_total" in engine.metrics()
    for command in (("keys", "list"), ("events",), ("check",), ("refresh", "docker-hub/acme/app:1"), ("lifecycle",)):
        engine.command(*command)
    engine.signal(signal.SIGHUP)
    if engine.url.startswith("https:"):
        wait_for(lambda: engine.log.read_text().count("the certificate was read again") == 2, "both workers to read it")
    first = children(engine.pid)[0]
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: first not in children(engine.pid) and len(children(engine.pid)) == 2, "a new worker")
    wait_for(lambda: bool(run.hook.heads), "an event to be told")
    engine.stop()

    age(engine)
    run.start()
    engine.command("evict")
    engine.stop()

    unit = UNIT.read_text()
    refused = run.calls() - confined.allowed_calls(unit)
    assert refused <= REFUSED.keys(), f"the unit refuses {refused - REFUSED.keys()}"
    assert run.families() <= set(" ".join(confined.directives(unit, "RestrictAddressFamilies")).split())
    # What was meant to happen did.
    assert {"setpriority", "fsync", "flock", "link", "unlink", "vfork", "prctl"} <= run.calls()
    log = engine.log.read_text()
    assert "Traceback" not in log
    assert "Operation not permitted" not in log
