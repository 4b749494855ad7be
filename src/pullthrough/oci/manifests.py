"""What a manifest names: its config, layers, children and subject. The bytes themselves are never changed.

https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md and image-index.md
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pullthrough.errors import DigestInvalid, ManifestInvalid
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.documents import parse_object
from pullthrough.oci.texts import whole_text

#: The limit of registries in use (distribution, ECR: 4,194,304 bytes).
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
#: More descriptors than any image has; keeps a hostile manifest from filling the catalog.
MAX_DESCRIPTORS = 10_000
MAX_MEDIA_TYPE_LENGTH = 255
#: Of one blob, and of all that a manifest names together: the catalog's numbers end at 1 << 63.
_MAX_SIZE_BYTES = 1 << 50


@dataclass(frozen=True, slots=True)
class Descriptor:
    """One entry of a manifest. `size_bytes` is what the manifest claims, not yet measured."""

    digest: Digest
    size_bytes: int
    media_type: str
    #: `os/architecture[/variant]`, for the children of an index; empty otherwise.
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest. `children` are manifests, `config` and `layers` are blobs."""

    media_type: str
    config: Descriptor | None
    layers: tuple[Descriptor, ...]
    children: tuple[Descriptor, ...]
    subject: Descriptor | None
    artifact_type: str
    annotations: dict[str, str]

    @property
    def is_index(self) -> bool:
        return self.media_type in media_types.INDEXES

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config first, then the layers in their order; each digest once."""
        named = (self.config, *self.layers) if self.config else self.layers
        return tuple({blob.digest: blob for blob in named}.values())


def parse_manifest(body: bytes, media_type: str = "") -> Manifest:
    """Parse a manifest of any kind this cache keeps.

    `media_type` is the Content-Type it came with; where that says nothing useful, the body's own `mediaType` decides,
    then its form (`manifests` is an index). Raises ManifestInvalid, for schema 1 too: registries stopped serving it.
    """
    if len(body) > MAX_MANIFEST_BYTES:
        raise ManifestInvalid(f"the manifest has {len(body):,} bytes; the limit is {MAX_MANIFEST_BYTES:,}")
    try:
        document = parse_object(body)
    except ValueError as error:
        raise ManifestInvalid(f"the manifest cannot be read: {error} (it begins with {body[:40]!r})") from error
    media_type = _media_type(document, media_type)
    annotations = document.get("annotations")
    manifest = Manifest(
        media_type=media_type,
        config=_optional_descriptor(document, "config") if media_type not in media_types.INDEXES else None,
        layers=()
        if media_type in media_types.INDEXES
        else _descriptors(document, "blobs" if media_type == media_types.OCI_ARTIFACT else "layers"),
        children=_descriptors(document, "manifests") if media_type in media_types.INDEXES else (),
        subject=_optional_descriptor(document, "subject"),
        artifact_type=_artifact_type(document),
        annotations={whole_text(str(k)): whole_text(str(v)) for k, v in annotations.items()}
        if isinstance(annotations, dict)
        else {},
    )
    if sum(blob.size_bytes for blob in manifest.blobs) > _MAX_SIZE_BYTES:
        raise ManifestInvalid(f"the manifest's blobs have more than {_MAX_SIZE_BYTES:,} bytes together")
    return manifest


def _media_type(document: dict[str, Any], content_type: str) -> str:
    """The manifest's kind. Raises ManifestInvalid where the declared ones contradict the form or each other."""
    content_type = content_type.partition(";")[0].strip().lower()
    declared = document.get("mediaType")
    if declared is not None and not isinstance(declared, str):
        raise ManifestInvalid("the manifest's mediaType is not a string")
    if content_type in media_types.MANIFESTS:
        # Both may be there and differ; a client would then read one thing and another client the other
        # (GHSA-77vh-xpmg-72qh).
        if declared and declared != content_type:
            raise ManifestInvalid(f"the manifest came as {content_type} but says it is {declared[:160]!r}")
        media_type = content_type
    elif declared in media_types.MANIFESTS:
        media_type = declared
    elif document.get("schemaVersion") == 1:
        raise ManifestInvalid("the manifest is of Docker schema 1, which is not supported")
    elif isinstance(document.get("manifests"), list):
        media_type = media_types.OCI_INDEX
    elif isinstance(document.get("layers"), list):
        media_type = media_types.OCI_MANIFEST
    else:
        raise ManifestInvalid("the manifest is neither an image nor an index")
    if media_type in media_types.INDEXES and "layers" in document:
        raise ManifestInvalid("the manifest has both the form of an index and of an image")
    if media_type in media_types.IMAGES and "manifests" in document:
        raise ManifestInvalid("the manifest has both the form of an image and of an index")
    return media_type


def _artifact_type(document: dict[str, Any]) -> str:
    """`artifactType`, else the config's media type (distribution specification 1.1, listing referrers)."""
    artifact_type = document.get("artifactType")
    if isinstance(artifact_type, str) and artifact_type:
        return whole_text(artifact_type[:MAX_MEDIA_TYPE_LENGTH])
    config = document.get("config")
    media_type = config.get("mediaType") if isinstance(config, dict) else None
    return whole_text(media_type[:MAX_MEDIA_TYPE_LENGTH]) if isinstance(media_type, str) else ""


def _optional_descriptor(document: dict[str, Any], key: str) -> Descriptor | None:
    value = document.get(key)
    return None if value is None else _descriptor(value, key)


def _descriptors(document: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    values = document.get(key)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ManifestInvalid(f"the manifest's {key} is not a list")
    if len(values) > MAX_DESCRIPTORS:
        raise ManifestInvalid(f"the manifest's {key} has {len(values):,} entries; the limit is {MAX_DESCRIPTORS:,}")
    return tuple(_descriptor(value, key) for value in values)


def _descriptor(value: object, key: str) -> Descriptor:
    if not isinstance(value, dict):
        raise ManifestInvalid(f"an entry of the manifest's {key} is not an object")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
    try:
        parsed = parse_digest(digest if isinstance(digest, str) else "")
    except DigestInvalid as error:
        raise ManifestInvalid(f"an entry of the manifest's {key} has no valid digest: {error}") from error
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_SIZE_BYTES:
        raise ManifestInvalid(f"{digest} in the manifest's {key} has no valid size")
    if not isinstance(media_type, str) or len(media_type) > MAX_MEDIA_TYPE_LENGTH or not media_type.isprintable():
        raise ManifestInvalid(f"{digest} in the manifest's {key} has no valid mediaType")
    return Descriptor(parsed, size, media_type, _platform(value.get("platform")))


def _platform(value: object) -> str:
    if not isinstance(value, dict):
        return ""
    parts = [value.get("os"), value.get("architecture"), value.get("variant")]
    return whole_text("/".join(part for part in parts if isinstance(part, str) and part)[:100])
