"""The programs people pull with, each with storage of its own below one folder.

Every `pull` starts from empty storage, so that what it gets it got from the registry it was sent to, and returns the
digest that the program says it pulled.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.images import ARCHITECTURE, digest_of
from tests.e2e.processes import Process, environment, mounts_below, run, unmount_below
from tests.programs import ROOT, needs, needs_root


@dataclass
class Skopeo:
    """Copies images between registries and folders."""

    folder: Path
    _copies: int = field(default=0, init=False)

    def pull(self, reference: str, *, everything: bool = False, ca: Path | None = None) -> str:
        """Copy `HOST/NAME:TAG` into a new folder, as one platform or, with `everything`, as the whole index.

        With `ca`, over TLS that must be right for that certificate authority.
        """
        target = self._new_folder()
        trust: list[str | Path] = ["--src-tls-verify=false"]
        if ca:
            certificates = target.with_suffix(".certificates")
            certificates.mkdir()
            shutil.copy(ca, certificates / "ca.crt")
            trust = ["--src-cert-dir", certificates]
        command: list[str | Path] = [needs("skopeo"), "--insecure-policy", "--tmpdir", self.folder, "copy", *trust]
        if everything:
            command.append("--all")
        run([*command, f"docker://{reference}", f"dir:{target}"], env=environment(self.folder), timeout=300)
        return _check_copy(target)

    def login(self, registry: str, user: str, password: str) -> None:
        """Log in as people do with `| skopeo login -u USER --password-stdin`; the next pulls are made as that user."""
        self.folder.mkdir(exist_ok=True)
        command = [needs("skopeo"), "login", "-u", user, "--password-stdin", "--tls-verify=false", registry]
        done = subprocess.run(
            command, env=environment(self.folder), input=password, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def push(self, source: Path, reference: str) -> None:
        """Copy a `dir:` folder to `HOST/NAME:TAG`."""
        command = [needs("skopeo"), "--insecure-policy", "copy", "--dest-tls-verify=false"]
        run([*command, f"dir:{source}", f"docker://{reference}"], env=environment(self.folder), timeout=300)

    def copy(self, source: str, target: str) -> None:
        """Copy every platform from `HOST/NAME:TAG` to another one, through this machine."""
        self.folder.mkdir(exist_ok=True)
        command: list[str | Path] = [needs("skopeo"), "--insecure-policy", "--tmpdir", self.folder, "copy", "--all"]
        trust = ["--src-tls-verify=false", "--dest-tls-verify=false"]
        run(
            [*command, *trust, f"docker://{source}", f"docker://{target}"],
            env=environment(self.folder),
            timeout=300,
        )

    def delete(self, reference: str) -> None:
        """Delete the image that `HOST/NAME:TAG` is, which skopeo does by its digest."""
        run([needs("skopeo"), "delete", "--tls-verify=false", f"docker://{reference}"], env=environment(self.folder))

    def inspect(self, reference: str) -> str:
        """Read only the manifest, and return its digest."""
        said = run(
            [needs("skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"],
            env=environment(self.folder),
        )
        return digest_of(said.encode())

    def _new_folder(self) -> Path:
        self._copies += 1
        self.folder.mkdir(exist_ok=True)
        return self.folder / f"copy-{self._copies}"


def _check_copy(folder: Path) -> str:
    """Read a `dir:` copy as a stranger would: every blob that the manifest names is there and has its digest."""
    body = (folder / "manifest.json").read_bytes()
    manifest = json.loads(body)
    for child in manifest.get("manifests", []):
        child_body = (folder / f"{child['digest'].removeprefix('sha256:')}.manifest.json").read_bytes()
        assert digest_of(child_body) == child["digest"]
        _check_blobs(folder, json.loads(child_body))
    if "config" in manifest:
        _check_blobs(folder, manifest)
    return digest_of(body)


def _check_blobs(folder: Path, manifest: Mapping[str, object]) -> None:
    named = [manifest["config"], *_list(manifest["layers"])]
    for blob in named:
        assert isinstance(blob, dict)
        file = folder / blob["digest"].removeprefix("sha256:")
        assert file.stat().st_size == blob["size"]
        if blob["size"] < 1 << 28:  # of a larger one skopeo's own check has to do
            assert digest_of(file.read_bytes()) == blob["digest"]


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


@dataclass
class Podman:
    """Pulls into storage of its own with the `vfs` driver, which needs no mounts."""

    folder: Path
    #: `HOST:PORT/PREFIX` that stands in for docker.io, as a mirror in registries.conf.
    mirror: str = ""

    def __post_init__(self) -> None:
        needs("podman")
        needs_root()
        self.folder.mkdir()
        lines = ["unqualified-search-registries = []"]
        if self.mirror:
            lines += ["[[registry]]", 'prefix = "docker.io"', 'location = "docker.invalid"']
            lines += ["[[registry.mirror]]", f'location = "{self.mirror}"', "insecure = true"]
        (self.folder / "registries.conf").write_text("\n".join(lines))

    def pull(self, reference: str) -> str:
        return self._pull("--tls-verify=false", reference)

    def login(self, registry: str, user: str, password: str) -> None:
        """The next pulls and pushes are made as that user."""
        self._run("login", "--tls-verify=false", "-u", user, "-p", password, registry)

    def tag(self, reference: str, target: str) -> None:
        self._run("tag", reference, target)

    def push(self, reference: str) -> str:
        """Push what is stored under this name; its digest, as podman says."""
        digest_file = self.folder / "digest"
        self._run("push", "--quiet", "--tls-verify=false", "--digestfile", digest_file, reference)
        return digest_file.read_text().strip()

    def pull_from_mirror(self, reference: str) -> str:
        """Pull `docker.io/...`, by way of the mirror; that it may be plain HTTP is in registries.conf."""
        return self._pull(reference)

    def _pull(self, *arguments: str) -> str:
        self._run("rmi", "--all", "--force")
        self._run("pull", "--quiet", *arguments)
        return str(json.loads(self._run("image", "inspect", arguments[-1]))[0]["Digest"])

    def _run(self, *arguments: str | Path) -> str:
        return run(
            [
                *(needs("podman"), "--root", self.folder / "root", "--runroot", self.folder / "run"),
                *("--tmpdir", self.folder / "tmpdir", "--storage-driver", "vfs"),
                *("--cgroup-manager", "cgroupfs", "--events-backend", "none", *arguments),
            ],
            env=environment(self.folder, CONTAINERS_REGISTRIES_CONF=str(self.folder / "registries.conf")),
            timeout=300,
        )


@dataclass
class Containerd:
    """A containerd of its own, driven by `ctr`."""

    folder: Path

    @property
    def address(self) -> Path:
        return self.folder / "containerd.sock"

    @contextmanager
    def running(self) -> Iterator[None]:
        needs("containerd")
        needs("ctr")
        needs("runc")
        needs_root()
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "config.toml"
        config.write_text(
            f"""
version = 2
root = "{self.folder}/root"
state = "{self.folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "{self.address}"
[ttrpc]
address = "{self.folder}/ttrpc.sock"
"""
        )
        command: list[str | Path] = [needs("containerd"), "--config", config]
        with Process("containerd", command, env=environment(self.folder), log=self.folder / "log") as process:
            process.wait_for_line("containerd successfully booted")
            yield
        _no_mounts_left(self.folder)

    def pull(self, reference: str, *, hosts: Path | None = None) -> str:
        """Pull over plain HTTP, or as the `hosts.toml` files below `hosts` say; everything held before is dropped."""
        self.forget()
        how = ["--hosts-dir", str(hosts)] if hosts else ["--plain-http"]
        self.ctr("images", "pull", *how, "--snapshotter", "native", "--platform", f"linux/{ARCHITECTURE}", reference)
        return self.digest(reference)

    def digest(self, reference: str) -> str:
        found = re.search(rf"^{re.escape(reference)} .*(sha256:[0-9a-f]{{64}})", self.ctr("images", "ls"), re.MULTILINE)
        assert found, f"containerd does not list {reference}"
        return found[1]

    def run_image(self, reference: str) -> str:
        """What the image's own command prints."""
        return self.ctr("run", "--rm", "--net-host", "--snapshotter", "native", reference, "one-run")

    def forget(self) -> None:
        """Drop every image, and wait until the bytes are gone too: containerd keeps what it can find again."""
        images = self.ctr("images", "ls", "--quiet").split()
        if images:
            self.ctr("images", "rm", "--sync", *images)
        assert not self.ctr("content", "ls", "--quiet").split()

    def ctr(self, *arguments: str) -> str:
        command = [needs("ctr"), "--address", str(self.address), *arguments]
        return run(command, env=environment(self.folder), timeout=300)


def write_hosts(folder: Path, upstream: str, server: str, *, path: str = "") -> Path:
    """containerd's hosts.toml for `upstream`: plain, or with a path of its own (as ECR's documentation shows).

    https://github.com/containerd/containerd/blob/v1.6.20/docs/hosts.md
    """
    host = folder / upstream
    host.mkdir(parents=True)
    lines = [f'server = "https://{upstream}.invalid"', f'[host."{server}{path}"]', 'capabilities = ["pull", "resolve"]']
    if path:
        lines.append("override_path = true")
    (host / "hosts.toml").write_text("\n".join(lines) + "\n")
    return folder


@dataclass
class Dockerd:
    """A Docker daemon of its own on a containerd of its own, with one registry mirror for Docker Hub."""

    folder: Path
    mirror: str

    @contextmanager
    def running(self) -> Iterator[None]:
        needs("dockerd")
        needs("docker")
        containerd = Containerd(self.folder / "c")
        self.folder.mkdir()
        (self.folder / "daemon.json").write_text("{}")
        command: list[str | Path] = [
            *(needs("dockerd"), "--config-file", self.folder / "daemon.json", "--host", self._host),
            *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--pidfile", self.folder / "pid", "--containerd", containerd.address, "--storage-driver", "vfs"),
            *("--iptables=false", "--ip6tables=false", "--bridge=none", "--userland-proxy=false"),
            *("--registry-mirror", self.mirror),
        ]
        with containerd.running():
            try:
                env = environment(self.folder)
                with Process("dockerd", command, env=env, log=self.folder / "log") as process:
                    process.wait_for_line("API listen on")
                    yield
            finally:
                # dockerd leaves its network namespace mounted, and its data folder, which it mounts on itself.
                unmount_below(self.folder / "exec")
                unmount_below(self.folder / "data")
        _no_mounts_left(self.folder)

    def pull(self, reference: str) -> str:
        for known in self._docker("images", "--quiet", "--no-trunc").split():
            self._docker("rmi", "--force", known)
        self._docker("pull", "--quiet", reference)
        digests = json.loads(self._docker("image", "inspect", reference))[0]["RepoDigests"]
        return str(digests[0]).partition("@")[2]

    @property
    def _host(self) -> str:
        return f"unix://{self.folder}/docker.sock"

    def _docker(self, *arguments: str) -> str:
        return run([needs("docker"), "--host", self._host, *arguments], env=environment(self.folder), timeout=300)


def _no_mounts_left(folder: Path) -> None:
    left = mounts_below(folder)
    unmount_below(folder)
    assert not left, f"mounts left behind: {left}"


@dataclass
class Crane:
    """Google's go-containerregistry: another reading of the specification than containers/image."""

    folder: Path

    def pull(self, reference: str) -> str:
        self.folder.mkdir(exist_ok=True)
        target = self.folder / "layout"
        shutil.rmtree(target, ignore_errors=True)
        self._run("pull", "--insecure", "--format", "oci", reference, str(target))
        described = json.loads((target / "index.json").read_bytes())["manifests"][0]["digest"]
        for file in (target / "blobs" / "sha256").iterdir():
            assert digest_of(file.read_bytes()) == f"sha256:{file.name}"
        return str(described)

    def digest(self, reference: str) -> str:
        return self._run("digest", "--insecure", reference).strip()

    def tags(self, repository: str) -> list[str]:
        return self._run("ls", "--insecure", repository).split()

    def _run(self, *arguments: str) -> str:
        return run([needs("crane"), *arguments], env=environment(self.folder), timeout=300)


@dataclass
class AwsCli:
    """Amazon's command line, with nothing but `environ` to tell it where and as whom; its home folder is empty."""

    folder: Path
    environ: Mapping[str, str]

    def text(self, *arguments: str) -> str:
        self.folder.mkdir(exist_ok=True)
        return run([ROOT / ".venv" / "bin" / "aws", *arguments], env=environment(self.folder, **self.environ))

    def json(self, *arguments: str) -> Any:
        """What it prints, parsed; None where it prints nothing."""
        said = self.text(*arguments, "--output", "json")
        return json.loads(said) if said else None

    def error(self, *arguments: str) -> str:
        """What it says on standard error of a call that must fail."""
        self.folder.mkdir(exist_ok=True)
        command = [str(ROOT / ".venv" / "bin" / "aws"), *arguments]
        env = environment(self.folder, **self.environ)
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == 254 or done.returncode == 255, f"exit {done.returncode}: {done.stdout}{done.stderr}"
        assert not done.stdout
        return done.stderr


@dataclass
class Builtin:
    """`pullthrough pull`, the client that ships with the engine."""

    folder: Path

    def pull(self, image: str, *, registry: str) -> str:
        return str(self.report(image, registry=registry)["digest"])

    def report(self, image: str, *, registry: str) -> Mapping[str, Any]:
        """What `--json` says."""
        self.folder.mkdir(exist_ok=True)
        command = [pullthrough(), "pull", image, "--registry", registry, "--json"]
        said: Mapping[str, Any] = json.loads(run(command, env=environment(self.folder), timeout=300))
        return said


def pullthrough() -> str:
    """The installed command, as `make setup` leaves it."""
    command = ROOT / ".venv" / "bin" / "pullthrough"
    assert os.access(command, os.X_OK), "run `make setup` first"
    return str(command)
