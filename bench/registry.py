"""A registry with many images, written into a catalog at once: pushing them one by one would take hours.

The rows are those that a push leaves, inserted through the storage layer's own tables in one transaction; the manifests
are real, the blobs that they name are not there, which no listing looks at.

A program, and one that imports nothing of the measurement: the interpreter of the version that is measured runs it.

    python bench/registry.py CATALOG REPOSITORIES IMAGES IMAGES_OF_THE_LARGEST
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from pullthrough.storage.database import Database
from pullthrough.storage.schema import manifests, repositories, repository_manifests, tags

_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_ROWS_AT_ONCE = 5000


def fill(catalog: Path, *, repository_count: int, image_count: int, large_count: int) -> None:
    """Make the catalog file with that many repositories and tagged images."""
    catalog.parent.mkdir(parents=True, exist_ok=True)
    names = tuple(f"team-{number % 20:02}/app-{number:05}" for number in range(repository_count))
    each = (image_count - large_count) // (repository_count - 1)
    counts = [image_count - each * (repository_count - 1), *([each] * (repository_count - 1))]
    now = time.time()
    database = Database.open(catalog)
    try:
        with database.writing() as connection:
            connection.execute(
                insert(repositories),
                [{"id": number, "name": name, "created_at": now, "kept": True} for number, name in enumerate(names, 1)],
            )
            image = 0
            rows: list[tuple[dict[str, Any], ...]] = []
            for repository, count in enumerate(counts, 1):
                for number in range(count):
                    image += 1
                    rows.append(_rows(image, repository, f"1.{number}", now + number))
                    if len(rows) == _ROWS_AT_ONCE or image == image_count:
                        for table, group in zip(
                            (manifests, repository_manifests, tags), zip(*rows, strict=True), strict=True
                        ):
                            connection.execute(insert(table), list(group))
                        rows = []
    finally:
        database.close()


def _rows(image: int, repository: int, tag: str, at: float) -> tuple[dict[str, Any], ...]:
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MEDIA_TYPE,
            "config": _descriptor(_CONFIG_TYPE, f"config {image}", 2000),
            "layers": [_descriptor(_LAYER_TYPE, f"layer {image} {layer}", 10_000_000) for layer in range(3)],
        }
    ).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    return (
        {"digest": digest, "body": body},
        {
            "id": image,
            "repository_id": repository,
            "digest": digest,
            "media_type": _MEDIA_TYPE,
            "stored_at": at,
            "pushed_at": at,
            "is_pushed": True,
            "size_bytes": 30_000_000,
            "config_media_type": _CONFIG_TYPE,
        },
        {"repository_id": repository, "name": tag, "image_id": image, "validated_at": at, "forced_at": 0.0},
    )


def _descriptor(media_type: str, seed: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(seed.encode()).hexdigest()}", "size": size}


if __name__ == "__main__":
    counts = [int(argument) for argument in sys.argv[2:]]
    fill(Path(sys.argv[1]), repository_count=counts[0], image_count=counts[1], large_count=counts[2])
