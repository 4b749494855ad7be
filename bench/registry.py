"""A registry with many images, written into a catalog at once: pushing them one by one would take hours.

The rows are those that a push leaves, inserted in one transaction; the manifests are real, the blobs that they name are
not there, which no listing looks at.

A program that imports nothing of ours: the interpreter of the version that is measured runs it.

    python bench/registry.py CATALOG REPOSITORIES IMAGES IMAGES_OF_THE_LARGEST
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

_MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_ROWS_AT_ONCE = 5000


def fill(catalog: Path, *, repository_count: int, image_count: int, large_count: int) -> None:
    """Make the catalog file with that many repositories and tagged images."""
    names = tuple(f"team-{number % 20:02}/app-{number:05}" for number in range(repository_count))
    each = (image_count - large_count) // (repository_count - 1)
    counts = [image_count - each * (repository_count - 1), *([each] * (repository_count - 1))]
    now = time.time()
    # Makes an empty catalog of the version that is measured.
    subprocess.run([sys.executable, "-m", "pullthrough", "check", "--data", str(catalog.parent)], check=True)
    with closing(sqlite3.connect(catalog)) as connection, connection:
        made = [{"id": number, "name": name, "created_at": now, "kept": True} for number, name in enumerate(names, 1)]
        _insert(connection, "repositories", made)
        image = 0
        rows: list[tuple[dict[str, Any], ...]] = []
        for repository, count in enumerate(counts, 1):
            for number in range(count):
                image += 1
                rows.append(_rows(image, repository, f"1.{number}", now + number))
                if len(rows) == _ROWS_AT_ONCE or image == image_count:
                    for table, group in zip(
                        ("manifests", "repository_manifests", "tags"), zip(*rows, strict=True), strict=True
                    ):
                        _insert(connection, table, group)
                    rows = []


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    columns = ", ".join(rows[0])
    values = ", ".join(f":{column}" for column in rows[0])
    connection.executemany(f"INSERT INTO {table} ({columns}) VALUES ({values})", rows)


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
