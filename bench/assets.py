"""The images that are pulled, made once into the work folder, the same bytes on every machine.

`<work>/assets/<set>/v2/<repository>/{blobs,manifests}/...` is at once what nginx serves as an upstream (files named as the
paths of the distribution API) and the source that docker-registry's own tree is linked from.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from bench.machine import need

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
#: What containerd sends.
ACCEPT = (
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    f"{MANIFEST_TYPE}, application/vnd.oci.image.index.v1+json, */*"
)
MIB = 1024 * 1024


@dataclass(frozen=True)
class Blob:
    digest: str
    size_bytes: int
    path: Path


@dataclass(frozen=True)
class Image:
    """An image by its names upstream. `blobs` has the config first."""

    repository: str
    tag: str
    digest: str
    manifest: Path
    blobs: tuple[Blob, ...]

    @property
    def layer(self) -> Blob:
        """The last blob: the only layer of the images with one."""
        return self.blobs[-1]


@dataclass(frozen=True)
class Assets:
    """`root` is what an upstream serves; sizes are smaller in a quick run."""

    root: Path
    images: tuple[Image, ...]
    certificate: Path
    key: Path
    small_mib: int
    medium_mib: int
    large_mib: int

    def image(self, repository: str) -> Image:
        return next(image for image in self.images if image.repository == repository)

    def of_size(self, mib: int) -> Image:
        """The image with a single layer of that many MiB."""
        return self.image(_sized(mib))

    @property
    def whole(self) -> Image:
        """The image of several layers that can really be unpacked."""
        return self.image("library/image")


def _sized(mib: int) -> str:
    return f"library/blob-{mib}m"


def prepare(work: Path, *, quick: bool) -> Assets:
    """Make what is not there yet."""
    small, medium, large = (16, 64, 128) if quick else (256, 1024, 2048)
    folder = work / "assets" / ("quick" if quick else "full")
    images = [_single_layer_image(folder, mib) for mib in (small, medium, large)]
    images.append(_whole_image(folder, layers=4 if quick else 8))
    certificate, key = _certificate(work / "assets")
    return Assets(folder, tuple(images), certificate, key, small, medium, large)


def _single_layer_image(folder: Path, mib: int) -> Image:
    repository = _sized(mib)
    if image := _read(folder, repository):
        return image
    print(f"making {repository} ...", flush=True)
    draft = _draft(folder)
    sha = hashlib.sha256()
    block = random.Random(mib).randbytes(MIB)
    with draft.open("wb") as out:
        for index in range(mib):
            # Each MiB differs, so that no two ranges of the blob can be confused.
            chunk = index.to_bytes(8, "big") + block[8:]
            sha.update(chunk)
            out.write(chunk)
    layer = _place_blob(folder, repository, draft, sha.hexdigest())
    return _write_image(folder, repository, [layer], diff_ids=[layer.digest], layer_type="tar")


def _whole_image(folder: Path, layers: int) -> Image:
    """Layers of 4 to 60 MiB of files that compress by half or so, as those of real images do."""
    repository = "library/image"
    if image := _read(folder, repository):
        return image
    print(f"making {repository} ...", flush=True)
    rng = random.Random(7)
    blobs, diff_ids = [], []
    for index in range(layers):
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for number in range(rng.randint(8, 120) if layers > 4 else 8):
                size = rng.randint(1, 1024) * 1024
                body = rng.randbytes(size // 2) + b"pullthrough " * (size // 24)
                info = tarfile.TarInfo(f"srv/{index}/{number}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
        # wbits 31: a gzip frame without a time of day in it.
        packer = zlib.compressobj(1, wbits=31)
        packed = packer.compress(plain.getvalue()) + packer.flush()
        draft = _draft(folder)
        draft.write_bytes(packed)
        blobs.append(_place_blob(folder, repository, draft, hashlib.sha256(packed).hexdigest()))
        diff_ids.append(f"sha256:{hashlib.sha256(plain.getvalue()).hexdigest()}")
    return _write_image(folder, repository, blobs, diff_ids=diff_ids, layer_type="tar+gzip")


def _draft(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "draft"


def _place_blob(folder: Path, repository: str, draft: Path, hexdigest: str) -> Blob:
    path = folder / "v2" / repository / "blobs" / f"sha256:{hexdigest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.replace(path)
    return Blob(f"sha256:{hexdigest}", path.stat().st_size, path)


def _write_image(folder: Path, repository: str, layers: list[Blob], *, diff_ids: list[str], layer_type: str) -> Image:
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    draft = _draft(folder)
    draft.write_bytes(config)
    blob = _place_blob(folder, repository, draft, hashlib.sha256(config).hexdigest())
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(blob, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, f"application/vnd.oci.image.layer.v1.{layer_type}") for layer in layers],
        },
        indent=2,
    ).encode()
    manifests = folder / "v2" / repository / "manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    (manifests / f"sha256:{hashlib.sha256(manifest).hexdigest()}").write_bytes(manifest)
    (manifests / "latest").write_bytes(manifest)
    image = _read(folder, repository)
    assert image is not None
    return image


def _descriptor(blob: Blob, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": blob.digest, "size": blob.size_bytes}


def _read(folder: Path, repository: str) -> Image | None:
    """An image that an earlier run made whole (the tag is written last)."""
    tag = folder / "v2" / repository / "manifests" / "latest"
    if not tag.exists():
        return None
    body = tag.read_bytes()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    document = json.loads(body)
    blobs = tuple(
        Blob(entry["digest"], entry["size"], folder / "v2" / repository / "blobs" / entry["digest"])
        for entry in (document["config"], *document["layers"])
    )
    return Image(repository, "latest", digest, tag.with_name(digest), blobs)


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "tls.crt", folder / "tls.key"
    if not certificate.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "3650", "-subj", "/CN=localhost", "-addext"]
        command += ["subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def write_docker_registry_tree(assets: Assets, root: Path) -> None:
    """The images as docker-registry keeps them on disk, blobs as hard links.

    https://github.com/distribution/distribution/blob/v2.8.2/registry/storage/paths.go
    """
    shutil.rmtree(root, ignore_errors=True)
    store = root / "docker/registry/v2"
    for image in assets.images:
        repository = store / "repositories" / image.repository
        for blob in image.blobs:
            _link_blob(store, blob.digest, blob.path)
            _write_link(repository / "_layers/sha256" / blob.digest[7:], blob.digest)
        _link_blob(store, image.digest, image.manifest)
        _write_link(repository / "_manifests/revisions/sha256" / image.digest[7:], image.digest)
        tag = repository / "_manifests/tags" / image.tag
        _write_link(tag / "current", image.digest)
        _write_link(tag / "index/sha256" / image.digest[7:], image.digest)


def _link_blob(store: Path, digest: str, source: Path) -> None:
    data = store / "blobs/sha256" / digest[7:9] / digest[7:] / "data"
    if not data.exists():
        data.parent.mkdir(parents=True)
        os.link(source, data)


def _write_link(folder: Path, digest: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "link").write_text(digest)
