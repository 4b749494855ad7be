"""Manifests for tests of what is stored: real bodies, parsed as the engine parses them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.manifests import Manifest, parse_manifest

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True)
class Sample:
    """A manifest with its exact bytes."""

    digest: Digest
    body: bytes
    manifest: Manifest


def image(config: bytes, layers: Sequence[bytes], **more: object) -> Sample:
    return sample(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "config": _descriptor(config, CONFIG),
            "layers": [_descriptor(layer, LAYER) for layer in layers],
            **more,
        }
    )


def index(children: Sequence[Sample]) -> Sample:
    return sample(
        {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [
                {
                    "digest": child.digest,
                    "size": len(child.body),
                    "mediaType": child.manifest.media_type,
                    "platform": {"os": "linux", "architecture": f"cpu{position}"},
                }
                for position, child in enumerate(children)
            ],
        }
    )


def sample(document: dict[str, object], media_type: str = "") -> Sample:
    # Indented as people do, so that a body written anew by a cache would not be the same.
    body = json.dumps(document, indent=3).encode()
    return Sample(digest_of(body), body, parse_manifest(body, media_type))


def _descriptor(body: bytes, media_type: str) -> dict[str, object]:
    return {"digest": digest_of(body), "size": len(body), "mediaType": media_type}
