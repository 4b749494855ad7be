"""Upstreams with images in them, and engines in front of them."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e import images
from tests.e2e.certificates import Certificate, self_signed
from tests.e2e.engine import Engine
from tests.e2e.images import Content, Image, Index
from tests.e2e.processes import environment, run
from tests.e2e.registry import Registry, TokenServer, adopt_blob
from tests.programs import ROOT, needs, needs_root

BUSYBOX = "library/busybox"
SCHEMA2 = "library/schema2"
SIGNED = "acme/signed"
DEBIAN = "library/debian"
BIG = "acme/big"
SIGNATURE = "application/vnd.example.signature"
BIG_LAYER_BYTES = (2 << 30) + (3 << 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@dataclass(frozen=True)
class Stock:
    """A storage folder of docker-registry with the images of this session; registries of tests share it."""

    storage: Path
    busybox: Index
    schema2: Image
    signed: Image
    #: Attached to `signed`: a registry without the referrers API keeps it under the tag `sha256-<hex>`.
    signature: Image
    referrers: Content


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """A folder for the whole session, with a name short enough for the sockets inside it."""
    with tempfile.TemporaryDirectory(prefix="pt-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of one test, gone after it: images are too large to keep (pytest's `tmp_path` keeps three runs)."""
    with tempfile.TemporaryDirectory(prefix="pt-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def stock(workshop: Path) -> Stock:
    """Everything small, pushed once."""
    busybox = Path(needs("busybox"))
    children = {
        f"linux/{architecture}": images.image(
            images.busybox_layers(busybox, mark=architecture), architecture=architecture
        )
        for architecture in dict.fromkeys((images.ARCHITECTURE, "amd64", "arm64", "s390x"))
    }
    signed = images.image(images.busybox_layers(busybox, mark="signed"))
    signature = images.artifact(SIGNATURE, b"signed by a test", subject=signed.manifest)
    made = Stock(
        storage=workshop / "storage",
        busybox=images.index(children),
        schema2=images.image(images.busybox_layers(busybox, mark="schema2"), docker=True),
        signed=signed,
        signature=signature,
        referrers=images.fallback_index(signature, artifact_type=SIGNATURE),
    )
    with fill_stock(workshop, made.storage) as registry:
        registry.push(BUSYBOX, "1.35", made.busybox)
        registry.push(SCHEMA2, "1", made.schema2)
        registry.push(SIGNED, "1", made.signed)
        registry.push(SIGNED, "", made.signature)
        registry.push_manifest(SIGNED, made.signed.digest.replace(":", "-"), made.referrers)
    return made


@contextmanager
def fill_stock(workshop: Path, storage: Path) -> Iterator[Registry]:
    """A registry over `storage` that takes pushes."""
    registry = Registry(Path(tempfile.mkdtemp(dir=workshop)) / "filling", storage)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def debian(workshop: Path, stock: Stock) -> Image:
    """Debian as debootstrap makes it, in the stock under `DEBIAN`. The first run on a machine takes half a minute."""
    made = images.image([_debian_layer(workshop)])
    with fill_stock(workshop, stock.storage) as registry:
        registry.push(DEBIAN, "12", made)
    return made


def _debian_layer(workshop: Path) -> bytes:
    cached = ROOT / ".cache" / "debian-12-minbase.tar"
    if not cached.exists():
        needs_root()
        cached.parent.mkdir(exist_ok=True)
        (cached.parent / ".gitignore").write_text("*\n")
        root, partial = workshop / "debian", cached.with_suffix(f".{os.getpid()}")
        env = environment(workshop)
        run([needs("debootstrap"), "--variant=minbase", "bookworm", root], env=env, timeout=300)
        shutil.rmtree(root / "var" / "cache" / "apt" / "archives")
        run(["tar", "--numeric-owner", "--sort=name", "-C", root, "-cf", partial, "."], env=env)
        shutil.rmtree(root)
        partial.rename(cached)
    return cached.read_bytes()


@pytest.fixture(scope="session")
def big(workshop: Path, stock: Stock) -> Image:
    """An image with a layer beyond 2 GiB, where 32-bit offsets and one call of sendfile end; in the stock as `BIG`."""
    config = Content(images.OCI_CONFIG, images.encode({"architecture": images.ARCHITECTURE, "os": "linux"}))
    layer, hasher = workshop / "big-layer", hashlib.sha256()
    block = random.Random(2).randbytes(1 << 20)
    with layer.open("wb") as file:
        for number in range(BIG_LAYER_BYTES >> 20):
            part = number.to_bytes(8, "big") + block[8:]  # no two alike: a wrong offset shows
            hasher.update(part)
            file.write(part)
    digest = f"sha256:{hasher.hexdigest()}"
    manifest = images.encode(
        {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": config.descriptor(),
            "layers": [{"mediaType": "application/octet-stream", "digest": digest, "size": BIG_LAYER_BYTES}],
        }
    )
    made = Image(Content(images.OCI_MANIFEST, manifest), (config,))
    adopt_blob(stock.storage, BIG, digest, layer)
    with fill_stock(workshop, stock.storage) as registry:
        registry.push(BIG, "1", made)
    return made


@pytest.fixture
def upstream(folder: Path, stock: Stock) -> Iterator[Registry]:
    """A docker-registry that holds the stock and has been asked nothing yet."""
    registry = Registry(folder / "registry", stock.storage)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


@pytest.fixture(scope="session")
def signer(workshop: Path) -> Certificate:
    return self_signed(workshop, "token-server")


@pytest.fixture
def tokens(signer: Certificate) -> Iterator[TokenServer]:
    """A token server that lets anybody pull; tests change that."""
    server = TokenServer(signer, users={"acme": "right"}, anonymous=True)
    with server.serving():
        yield server


@pytest.fixture
def guarded(folder: Path, stock: Stock, tokens: TokenServer) -> Iterator[Registry]:
    """Like `upstream`, but nothing is pulled without a token."""
    registry = Registry(folder / "guarded", stock.storage, auth=tokens.registry_auth)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()


class StartEngine(Protocol):
    def __call__(
        self,
        config: str = "",
        *,
        top: str = "",
        serve: str = "",
        workers: int = 1,
        environ: Mapping[str, str] | None = None,
    ) -> Engine:
        """A running engine. Of its file, `top` is what comes first, `serve` more of that table, `config` the rest."""


@pytest.fixture
def engine(folder: Path) -> Iterator[StartEngine]:
    """Start engines, each with a data folder of its own; all are stopped, and their logs shown, at the end."""
    started: list[Engine] = []

    def start(
        config: str = "",
        *,
        top: str = "",
        serve: str = "",
        workers: int = 1,
        environ: Mapping[str, str] | None = None,
    ) -> Engine:
        # How full the disk of whoever runs the tests is has no part in them.
        text = f'{top}[serve]\nworkers = {workers}\nmax_size = "never"\nmin_free = "never"\n{serve}\n{config}'
        made = Engine(folder / f"engine-{len(started)}", text, environ=environ, cold=True)
        started.append(made)
        made.start()
        return made

    try:
        yield start
    finally:
        for one in started:
            one.end()


def docker_hub(registry: Registry, more: str = "") -> str:
    """The configuration under which `registry` plays Docker Hub."""
    return f'[upstreams."registry-1.docker.io"]\nendpoint = "{registry.url}"\n{more}\n'
