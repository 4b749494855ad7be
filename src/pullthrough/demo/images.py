"""Images made of nothing: the same seed always gives the same bytes, of any size and kind.

For the demo and for tests. Layers are pseudo-random bytes, not archives: they can be pulled and verified, not run.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, parse_digest

_CHUNK_BYTES = 1024 * 1024

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
#: https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidance-for-an-empty-descriptor
EMPTY_CONFIG = "application/vnd.oci.empty.v1+json"

#: Docker Hub's attestation entries carry this platform.
UNKNOWN_PLATFORM = "unknown/unknown"


@dataclass(frozen=True, slots=True)
class Blob:
    """A config or a layer. The body is in memory, or in a file that the caller keeps in place."""

    digest: Digest
    size_bytes: int
    media_type: str
    body: bytes | Path

    def read(self, start: int = 0, stop: int | None = None) -> bytes:
        """Blocking where the body is a file."""
        if isinstance(self.body, bytes):
            return self.body[start:stop]
        with self.body.open("rb") as file:
            file.seek(start)
            return file.read(-1 if stop is None else max(0, stop - start))

    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size_bytes}


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest's exact bytes, and what a registry has to know about it."""

    digest: Digest
    media_type: str
    body: bytes
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = ()
    subject: Digest | None = None

    def descriptor(self, platform: str = "") -> dict[str, object]:
        descriptor: dict[str, object] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.body),
        }
        if platform:
            os_name, _, rest = platform.partition("/")
            architecture, _, variant = rest.partition("/")
            descriptor["platform"] = {"os": os_name, "architecture": architecture} | (
                {"variant": variant} if variant else {}
            )
        return descriptor


@dataclass(frozen=True, slots=True)
class Image:
    """An image, an index or an artifact: `manifest` is what a tag points to, `children` what an index names."""

    manifest: StoredManifest
    blobs: tuple[Blob, ...] = ()
    children: tuple[Image, ...] = ()
    platform: str = ""

    @property
    def digest(self) -> Digest:
        return self.manifest.digest

    def all_manifests(self) -> tuple[StoredManifest, ...]:
        """This manifest, then those of all children, depth first."""
        return (self.manifest, *(manifest for child in self.children for manifest in child.all_manifests()))

    def all_blobs(self) -> tuple[Blob, ...]:
        """The blobs of this image and of all children; each digest once."""
        blobs = (*self.blobs, *(blob for child in self.children for blob in child.all_blobs()))
        return tuple({blob.digest: blob for blob in blobs}.values())

    @property
    def size_bytes(self) -> int:
        """Of all manifests and blobs together."""
        return sum(len(manifest.body) for manifest in self.all_manifests()) + sum(
            blob.size_bytes for blob in self.all_blobs()
        )

    def child(self, platform: str) -> Image:
        """The image for `platform`, also from an index within the index. Raises KeyError."""
        for child in self.children:
            if child.platform == platform and not child.children:
                return child
            try:
                return child.child(platform)
            except KeyError:
                continue
        raise KeyError(platform)


def pseudo_random_chunks(seed: str, size_bytes: int) -> Iterator[bytes]:
    """`size_bytes` bytes that no compression shortens and that differ at every offset, made about as fast as copied."""
    block = random.Random(seed).randbytes(min(size_bytes, _CHUNK_BYTES))
    for number, start in enumerate(range(0, size_bytes, _CHUNK_BYTES)):
        length = min(_CHUNK_BYTES, size_bytes - start)
        yield (number.to_bytes(8, "big") + block[8:] if number else block)[:length]


def make_blob(
    seed: str,
    size_bytes: int,
    *,
    media_type: str = OCI_LAYER,
    algorithm: str = "sha256",
    folder: Path | None = None,
) -> Blob:
    """A blob of exactly `size_bytes`. With `folder` the body is written there and never held in memory whole."""
    if folder is None:
        return blob_of(b"".join(pseudo_random_chunks(seed, size_bytes)), media_type, algorithm=algorithm)
    hasher = hashlib.new(algorithm)
    unnamed = folder / f".{hashlib.sha256(seed.encode()).hexdigest()}-{size_bytes}.part"
    with unnamed.open("wb") as file:
        for chunk in pseudo_random_chunks(seed, size_bytes):
            hasher.update(chunk)
            file.write(chunk)
    digest = parse_digest(f"{algorithm}:{hasher.hexdigest()}")
    path = unnamed.rename(folder / f"{algorithm}-{digest.hex}")
    return Blob(digest, size_bytes, media_type, path)


def blob_of(body: bytes, media_type: str = OCI_LAYER, *, algorithm: str = "sha256") -> Blob:
    return Blob(digest_of(body, algorithm), len(body), media_type, body)


def make_image(
    seed: str,
    *,
    layer_sizes: tuple[int, ...] = (4096,),
    platform: str = "linux/amd64",
    docker: bool = False,
    algorithm: str = "sha256",
    subject: Image | None = None,
    folder: Path | None = None,
    layers: tuple[Blob, ...] | None = None,
) -> Image:
    """An image for one platform. A layer size of 0 gives the zero-length blob.

    `docker` chooses Docker's media types instead of OCI's; `algorithm` is that of the layers' digests; `layers` gives
    layers made before, in place of `layer_sizes`, so that images can share them.
    """
    if layers is None:
        layer_type = DOCKER_LAYER if docker else OCI_LAYER
        layers = tuple(
            make_blob(f"{seed}/{number}", size, media_type=layer_type, algorithm=algorithm, folder=folder)
            for number, size in enumerate(layer_sizes)
        )
    os_name, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    config = blob_of(
        _json(
            {
                "architecture": architecture,
                "os": os_name,
                **({"variant": variant} if variant else {}),
                "config": {"Labels": {"seed": seed}},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            }
        ),
        DOCKER_CONFIG if docker else OCI_CONFIG,
    )
    media_type = media_types.DOCKER_MANIFEST if docker else media_types.OCI_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config.descriptor(),
        "layers": [layer.descriptor() for layer in layers],
    }
    return Image(_manifest(document, subject=subject), (config, *layers), platform=platform)


def make_index(*children: Image, docker: bool = False, nested_in: str = "") -> Image:
    """An index over images, or over other indexes. Children without a platform are listed as unknown/unknown.

    `nested_in` sets an annotation of that text, so that two indexes over the same children differ.
    """
    media_type = media_types.DOCKER_LIST if docker else media_types.OCI_INDEX
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [
            child.manifest.descriptor("" if child.children else child.platform or UNKNOWN_PLATFORM)
            for child in children
        ],
    }
    annotations = {"io.pullthrough.demo.nested-in": nested_in} if nested_in else {}
    return Image(_manifest(document, annotations=annotations), children=children)


def make_artifact(
    seed: str,
    *,
    subject: Image | None,
    artifact_type: str = "application/vnd.example.signature",
    size_bytes: int = 256,
    annotations: dict[str, str] | None = None,
) -> Image:
    """An OCI artifact, such as a signature, that refers to `subject`."""
    config = blob_of(b"{}", EMPTY_CONFIG)
    layer = make_blob(seed, size_bytes, media_type=artifact_type)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    }
    image = Image(_manifest(document, subject=subject, annotations=annotations or {}), (config, layer))
    return replace(image, manifest=replace(image.manifest, artifact_type=artifact_type))


def _manifest(
    document: dict[str, object], *, subject: Image | None = None, annotations: dict[str, str] | None = None
) -> StoredManifest:
    if subject is not None:
        document["subject"] = subject.manifest.descriptor()
    if annotations:
        document["annotations"] = annotations
    body = _json(document)
    return StoredManifest(
        digest_of(body),
        str(document["mediaType"]),
        body,
        annotations=tuple((annotations or {}).items()),
        subject=subject.digest if subject is not None else None,
    )


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, indent=3).encode()
