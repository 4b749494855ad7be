"""Images made on this machine: layers, configs, manifests and indexes, byte for byte the same in every run.

The root file systems are real (Debian's static busybox, a debootstrap of Debian), so that a pulled image runs.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
#: What the images print when they are run.
GREETING = "hello from a pulled image"


@dataclass(frozen=True)
class Content:
    """Bytes with the media type and digest under which a manifest names them."""

    media_type: str
    body: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.body)

    def descriptor(self, **more: object) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body), **more}


@dataclass(frozen=True)
class Image:
    """An image of one platform, or an artifact. The manifest names `blobs`: the config, then the layers."""

    manifest: Content
    blobs: tuple[Content, ...]

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def manifests(self) -> tuple[Content, ...]:
        return (self.manifest,)

    @property
    def everything(self) -> tuple[Content, ...]:
        """All blobs, each once."""
        return tuple({blob.digest: blob for blob in self.blobs}.values())


@dataclass(frozen=True)
class Index:
    """A multi-arch image: children by `os/architecture`."""

    manifest: Content
    children: Mapping[str, Image]

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def manifests(self) -> tuple[Content, ...]:
        """Children first: a registry wants them before the index that names them."""
        return (*(child.manifest for child in self.children.values()), self.manifest)

    @property
    def everything(self) -> tuple[Content, ...]:
        return tuple({blob.digest: blob for child in self.children.values() for blob in child.blobs}.values())

    @property
    def native(self) -> Image:
        """The child for this machine."""
        return self.children[f"linux/{ARCHITECTURE}"]


def digest_of(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def encode(document: object) -> bytes:
    """JSON as registries' tools write it: the bytes are what the digest is made of."""
    return json.dumps(document, separators=(",", ":")).encode()


def tar(files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """A tar archive with folders for every parent, owned by root, without times."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        links = links or {}
        folders = {str(parent) for name in (*files, *links) for parent in Path(name).parents} - {"."}
        for folder in sorted(folders):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, body in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), 0o755
            archive.addfile(entry, io.BytesIO(body))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()


def image(layers: Sequence[bytes], *, architecture: str = ARCHITECTURE, docker: bool = False) -> Image:
    """An image of uncompressed `layers` (tar archives), in OCI's media types or in Docker's schema 2."""
    config = Content(
        DOCKER_CONFIG if docker else OCI_CONFIG,
        encode(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Cmd": ["/bin/sh", "-c", f"echo {GREETING}"], "Env": ["PATH=/bin:/usr/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
                "history": [{"created_by": f"layer {number}"} for number in range(len(layers))],
            }
        ),
    )
    packed = [Content(DOCKER_LAYER if docker else OCI_LAYER, gzip.compress(layer, 1, mtime=0)) for layer in layers]
    media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in packed],
        }
    )
    return Image(Content(media_type, manifest), (config, *packed))


def index(children: Mapping[str, Image]) -> Index:
    entries = []
    for name, child in children.items():
        system, architecture = name.split("/")
        entries.append(child.manifest.descriptor(platform={"os": system, "architecture": architecture}))
    body = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    return Index(Content(OCI_INDEX, body), children)


def artifact(artifact_type: str, body: bytes, *, subject: Content) -> Image:
    """What signing tools attach to an image: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md"""
    config = Content(OCI_EMPTY, b"{}")
    payload = Content(artifact_type, body)
    manifest = encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": config.descriptor(),
            "layers": [payload.descriptor()],
            "subject": subject.descriptor(),
        }
    )
    return Image(Content(OCI_MANIFEST, manifest), (config, payload))


def fallback_index(*referrers: Image, artifact_type: str) -> Content:
    """What stands under the tag `sha256-<hex>` of a subject where a registry has no referrers API."""
    entries = [referrer.manifest.descriptor(artifactType=artifact_type) for referrer in referrers]
    return Content(OCI_INDEX, encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))


def busybox_layers(busybox: Path, *, mark: str) -> list[bytes]:
    """A root file system in three layers, one of them a megabyte, one far below the 64 KB a fill holds back."""
    return [
        tar(
            {"bin/busybox": busybox.read_bytes()},
            {f"bin/{name}": "busybox" for name in ("sh", "echo", "cat", "ls", "true", "uname", "sleep")},
        ),
        tar({"etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n", "etc/group": b"root:x:0:\n"}),
        tar({"etc/mark": mark.encode(), "tmp/.keep": b""}),
    ]
