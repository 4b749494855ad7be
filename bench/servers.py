"""The candidates: each starts its server on 127.0.0.1, pinned, and says under which paths it has an image."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import ssl
import subprocess
import time
import urllib.parse
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.assets import ACCEPT, MANIFEST_TYPE, Assets, Image, write_docker_registry_tree
from bench.builds import HERE, Build
from bench.machine import CLIENT_CORE, SERVER_CORE, Unavailable, free_port, need
from bench.native import floor_program
from bench.processes import Process

DRAYAGE = "drayage==0.2.9"


@dataclass(frozen=True)
class Server:
    """A running candidate. `prefix` stands before a repository's name in its paths."""

    name: str
    process: Process
    port: int
    prefix: str = ""
    tls: bool = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def blob_path(self, image: Image) -> str:
        return f"/v2/{self.prefix}{image.repository}/blobs/{image.layer.digest}"

    def manifest_path(self, image: Image, reference: str) -> str:
        return f"/v2/{self.prefix}{image.repository}/manifests/{reference}"

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection(
                "127.0.0.1",
                self.port,
                timeout=timeout,
                # The measurements' own certificate, made on this machine for loopback.
                context=ssl._create_unverified_context(),
            )
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def get(self, path: str) -> tuple[int, bytes]:
        """A whole small answer."""
        connection = self.connect()
        try:
            connection.request("GET", path, headers={"Accept": ACCEPT})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def drain(self, path: str) -> int:
        """Read a body of any size to its end; returns its bytes. Raises AssertionError for anything but 200."""
        connection = self.connect()
        try:
            connection.request("GET", path, headers={"Accept": ACCEPT})
            response = connection.getresponse()
            assert response.status == 200, f"{self.name}: {response.status} for {path}: {response.read(300)!r}"
            buffer = bytearray(1 << 20)
            total = 0
            while count := response.readinto(buffer):
                total += count
            return total
        finally:
            connection.close()

    def warm(self, image: Image, *, blobs: bool = True) -> None:
        """Ask for all of an image once, so that a cache has it; the manifest's bytes are checked."""
        for reference in (image.tag, image.digest):
            status, body = self.get(self.manifest_path(image, reference))
            assert status == 200, f"{self.name}: {status} for the manifest {reference}: {body[:300]!r}"
            assert body == image.manifest.read_bytes(), f"{self.name} answered another manifest for {reference}"
        for blob in image.blobs if blobs else ():
            size = self.drain(f"/v2/{self.prefix}{image.repository}/blobs/{blob.digest}")
            assert size == blob.size_bytes, f"{self.name} sent {size} of {blob.size_bytes} bytes of {blob.digest}"


#: Starts a candidate in an empty folder of its own; the context ends it.
Start = Callable[[Path], "contextlib.AbstractContextManager[Server]"]


def _answers(server: Server, path: str = "/v2/") -> Callable[[], bool]:
    def ready() -> bool:
        try:
            return server.get(path)[0] < 500
        except (OSError, http.client.HTTPException):
            return False

    return ready


@contextlib.contextmanager
def _serving(server: Server) -> Iterator[Server]:
    try:
        server.process.wait_until(_answers(server), f"an answer from {server.name}")
        yield server
    finally:
        server.process.stop()


# nginx: the peer for warm bodies, and the upstream of every cold one.


def write_nginx_config(
    folder: Path, assets: Assets, ports: dict[int, str], *, tls: bool = False, log: str = "access.log"
) -> Path:
    """One process that serves the images as files. `ports`: extra directives for each listening port."""
    manifests = []
    for image in assets.images:
        for reference in (image.tag, image.digest):
            manifests.append(
                f"location = /v2/{image.repository}/manifests/{reference} {{ default_type {MANIFEST_TYPE};"
                f' add_header Docker-Content-Digest "{image.digest}"; }}'
            )
    security = (
        f"ssl_certificate {assets.certificate}; ssl_certificate_key {assets.key}; ssl_protocols TLSv1.3;"
        " ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;"
        if tls
        else ""
    )
    servers = [
        f"""server {{
            listen 127.0.0.1:{port}{" ssl" if tls else ""} backlog=511;
            {extra}
            root {assets.root};
            default_type application/octet-stream;
            location = /v2/ {{ default_type application/json; return 200 "{{}}"; }}
            {" ".join(manifests)}
        }}"""
        for port, extra in ports.items()
    ]
    config = folder / "nginx.conf"
    temp = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config.write_text(
        f"""daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    {temp}
    log_format transfers '$request_method $uri $status $body_bytes_sent "$http_range"';
    access_log {folder}/{log} transfers;
    sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; keepalive_timeout 300s;
    {security}
    {"".join(servers)}
}}
"""
    )
    return config


def nginx(assets: Assets, *, tls: bool = False) -> Start:
    program = need("nginx", "nginx-light")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        port = free_port()
        config = write_nginx_config(folder, assets, {port: ""}, tls=tls)
        process = Process([program, "-c", str(config), "-p", str(folder)], folder / "output", core=SERVER_CORE)
        with _serving(Server("nginx", process, port, tls=tls)) as server:
            yield server

    return start


@dataclass(frozen=True)
class Upstream:
    """nginx as the registry behind the caches, on the clients' core. The second port sends no faster than `slow_rate`."""

    server: Server
    slow_port: int
    _log: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def slow_url(self) -> str:
        return f"http://127.0.0.1:{self.slow_port}"

    def transfers(self, digest: str) -> tuple[int, int]:
        """Requests by GET for a blob so far, and the body bytes sent for them."""
        bodies = [
            int(line.split()[3])
            for line in self._log.read_text().splitlines()
            if line.startswith("GET ") and line.split()[1].endswith(digest)
        ]
        return len(bodies), sum(bodies)


#: A fast line to a registry: 1 Gbit/s.
SLOW_RATE = "120m"


@contextlib.contextmanager
def upstream(assets: Assets, folder: Path) -> Iterator[Upstream]:
    folder.mkdir(parents=True, exist_ok=True)
    port, slow_port = free_port(), free_port()
    config = write_nginx_config(folder, assets, {port: "", slow_port: f"limit_rate {SLOW_RATE};"})
    command = [need("nginx", "nginx-light"), "-c", str(config), "-p", str(folder)]
    process = Process(command, folder / "output", core=CLIENT_CORE)
    with _serving(Server("upstream", process, port)) as server:
        yield Upstream(server, slow_port, folder / "access.log")


# docker-registry (distribution 2.8)


def _docker_registry(root: Path, folder: Path, port: int, extra: dict[str, object]) -> Process:
    program = need("docker-registry", "docker-registry")
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(root)}, "cache": {"blobdescriptor": "inmemory"}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **extra,
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(config))  # JSON is YAML
    # Its tracing exporter would look for a collector.
    env = {"OTEL_TRACES_EXPORTER": "none"}
    return Process([program, "serve", str(path)], folder / "output", core=SERVER_CORE, env=env)


def docker_registry(assets: Assets) -> Start:
    """As a plain registry: the images are in its own storage. Logs as it does by default."""
    need("docker-registry", "docker-registry")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        write_docker_registry_tree(assets, folder / "data")
        port = free_port()
        with _serving(Server("docker-registry", _docker_registry(folder / "data", folder, port, {}), port)) as server:
            yield server

    return start


def docker_registry_proxy(upstream_url: str) -> Start:
    """In proxy mode, its pull-through cache."""
    need("docker-registry", "docker-registry")

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        port = free_port()
        process = _docker_registry(folder / "data", folder, port, {"proxy": {"remoteurl": upstream_url}})
        with _serving(Server("docker-registry proxy", process, port)) as server:
            yield server

    return start


# drayage


def drayage(work: Path, upstream_url: str) -> Start:
    """A pull-through cache in Rust, from a wheel that holds its program; installed into a folder of its own."""
    program = _install_drayage(work)

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        port = free_port()
        cache = folder / "cache"
        cache.mkdir()
        config = folder / "config.toml"
        config.write_text(
            f'listen = "127.0.0.1:{port}"\ncache_dir = "{cache}"\n[upstreams.docker_io]\nregistry = "{upstream_url}"\n'
        )
        process = Process([str(program), "serve", "-c", str(config)], folder / "output", core=SERVER_CORE)
        with _serving(Server("drayage", process, port)) as server:
            yield server

    return start


def _install_drayage(work: Path) -> Path:
    folder = work / "drayage"
    program = folder / "bin" / "drayage"
    if not program.exists():
        print(f"installing {DRAYAGE} into {folder} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", DRAYAGE]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
        if run.returncode != 0:
            raise Unavailable(f"drayage can not be installed: {run.stderr.strip()[-300:]}")
    try:
        subprocess.run([str(program), "--version"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"drayage does not run on this machine: {error}") from error
    return program


# ours

#: `listening` and the address are promised in one line of the log.
_READY = re.compile(r"^.*\blistening\b.*?(https?)://([\[\]0-9a-zA-Z.:]+):(\d+)", re.MULTILINE)


def write_engine_config(path: Path, endpoints: Sequence[str], extra_serve: str = "", extra: str = "") -> None:
    """Docker Hub's rule with its upstream at `endpoints`; everything else as it comes, log and metrics included.

    The limits of the disk are off: what else lies on this machine's disk must not decide what is measured.
    """
    quoted = ", ".join(f'"{endpoint}"' for endpoint in endpoints)
    path.write_text(
        f'[serve]\nmax_size = "never"\nmin_free = "1MiB"\n{extra_serve}\n'
        f'[upstreams."registry-1.docker.io"]\nendpoint = [{quoted}]\n{extra}\n'
    )


def start_engine(
    folder: Path,
    config: Path,
    *,
    build: Build = HERE,
    core: int | None = SERVER_CORE,
    port: int = 0,
    data: Path | None = None,
) -> Server:
    """Start `pullthrough serve` and wait for its ready line. The caller stops the process."""
    command = [*build.program(), "serve", "--config", str(config), "--data", str(data or folder / "data")]
    process = Process([*command, "--listen", f"127.0.0.1:{port}"], folder / "output", core=core)
    try:
        process.wait_until(lambda: _READY.search(process.text()) is not None, "its ready line")
    except BaseException:
        process.stop()
        raise
    found = _READY.search(process.text())
    assert found is not None
    return Server(build.label("pullthrough"), process, int(found[3]), prefix="docker-hub/", tls=found[1] == "https")


def engine(build: Build, assets: Assets, endpoint: str, *, tls: bool = False) -> Start:
    build.program()  # or Unavailable

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        config = folder / "pullthrough.toml"
        extra = f'tls_cert = "{assets.certificate}"\ntls_key = "{assets.key}"\n' if tls else ""
        write_engine_config(config, [endpoint], extra)
        server = start_engine(folder, config, build=build)
        with _serving(server):
            yield server

    return start


# the floor


def floor(work: Path, upstream_url: str) -> Start:
    program = floor_program(work)
    upstream_port = urllib.parse.urlsplit(upstream_url).port

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Server]:
        log = folder / "output"
        process = Process([str(program), str(upstream_port), str(folder / "blob")], log, core=SERVER_CORE)
        try:
            process.wait_until(lambda: log.read_bytes().startswith(b"listening "), "its port")
            yield Server("floor", process, int(log.read_text().split()[1]))
        finally:
            process.stop()

    return start


@contextlib.contextmanager
def fresh(start: Start, folder: Path) -> Iterator[Server]:
    """A candidate in an emptied folder, which is removed behind it, but kept with its log after a failure."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with start(folder) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_settled(server: Server) -> None:
    """Until the work behind the last answer is done: publishing, copying, writing back."""
    time.sleep(0.05)
    server.process.settle()
