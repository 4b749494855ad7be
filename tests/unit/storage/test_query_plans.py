"""No question that a pull asks reads a whole table, however many rows there are."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import parse_repository_name, parse_tag
from pullthrough.oci.owners import source_at
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.registry.repositories import Repositories
from tests.contracts.images import image, index
from tests.owners import OWNER

NGINX = parse_repository_name("docker-hub/library/nginx")
LATEST = parse_tag("latest")
BLOB = digest_of(b"layer")
IMAGE = image(b"{}", [b"layer", b"other"])
INDEX = index([IMAGE])

QUESTIONS: dict[str, Callable[[Catalog], object]] = {
    "find_tag": lambda catalog: catalog.manifests.find_tag(NGINX, OWNER, LATEST),
    "find_manifest": lambda catalog: catalog.manifests.find_manifest(NGINX, OWNER, IMAGE.digest),
    "find_blob": lambda catalog: catalog.blobs.find_blob(NGINX, OWNER, BLOB),
    "siblings": lambda catalog: catalog.blobs.siblings(NGINX, OWNER, BLOB),
    "find_listing": lambda catalog: catalog.answers.find_listing(NGINX, OWNER, "tags"),
    "find_negative": lambda catalog: catalog.answers.find_negative(NGINX, OWNER, "absent"),
    "find_absent_name": lambda catalog: catalog.answers.find_absent_name(source_at("quay.io"), "acme"),
    "has_repository": lambda catalog: Repositories(catalog.database).is_there(NGINX, OWNER),
    "repositories": lambda catalog: Repositories(catalog.database).names("a", 100),
    "save_manifest": lambda catalog: catalog.manifests.save_manifest(
        NGINX, OWNER, INDEX.digest, INDEX.body, INDEX.manifest, tag=LATEST, now=2
    ),
    "validate_tag": lambda catalog: catalog.manifests.validate_tag(NGINX, OWNER, LATEST, now=2, forced=True),
    "mark_tag_gone": lambda catalog: catalog.manifests.mark_tag_gone(NGINX, OWNER, LATEST, now=2, forced=True),
    "remove_tag": lambda catalog: catalog.manifests.remove_tag(NGINX, OWNER, LATEST),
    "publish_blob": lambda catalog: catalog.blobs.publish_blob(NGINX, OWNER, BLOB, 5, boot_id="", now=2),
    "grant_blob": lambda catalog: catalog.blobs.grant_blob(NGINX, OWNER, BLOB),
    "verify_blob": lambda catalog: catalog.blobs.verify_blob(BLOB, "boot"),
    "forget_blob": lambda catalog: catalog.blobs.forget_blob(BLOB),
    "save_listing": lambda catalog: catalog.answers.save_listing(NGINX, OWNER, "tags", b"", now=2),
    "save_negative": lambda catalog: catalog.answers.save_negative(NGINX, OWNER, "absent", 1),
    "save_absent_name": lambda catalog: catalog.answers.save_absent_name(source_at("quay.io"), "acme", 2),
    "record_pulls": lambda catalog: catalog.inventory.record_pulls({(NGINX, IMAGE.digest): 2}, {BLOB: 2}),
    "remove_images": lambda catalog: catalog.inventory.remove_images(
        catalog.inventory.images(), in_use=(), unused_since=10
    ),
    "named_blobs": lambda catalog: catalog.inventory.named_blobs([1, 2]),
}
#: Looks at every image, by intent: eviction orders them all.
ALL_IMAGES = "FROM repository_manifests JOIN repositories ON repositories.id = repository_manifests.repository_id"


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=LATEST, now=1)
    catalog.blobs.publish_blob(NGINX, OWNER, BLOB, 5, boot_id="", now=1)
    catalog.pins.pin(NGINX, "another", 1)
    yield catalog
    catalog.close()


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _x: object, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", note)
    yield seen
    event.remove(Engine, "before_cursor_execute", note)


@pytest.mark.parametrize("name", QUESTIONS)
def test_no_question_of_a_pull_reads_a_whole_table(
    catalog: Catalog, tmp_path: Path, statements: list[tuple[str, Any]], name: str
) -> None:
    QUESTIONS[name](catalog)
    asked = [
        (statement, parameters)
        for statement, parameters in statements
        if not statement.startswith(("BEGIN", "PRAGMA")) and ALL_IMAGES not in statement.replace("\n", "")
    ]
    assert asked
    connection = sqlite3.connect(tmp_path / "catalog.sqlite")
    for statement, parameters in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        # Pins are few, and a name the person who runs this gave.
        scans = [
            step for step in plan if step.startswith("SCAN") and not step.startswith(("SCAN CONSTANT", "SCAN pins"))
        ]
        assert scans == [], f"{statement}\n{plan}"
    connection.close()


@pytest.mark.parametrize("layers", [2, 200])
def test_the_number_of_statements_does_not_grow_with_the_image(
    catalog: Catalog, statements: list[tuple[str, Any]], layers: int
) -> None:
    large = image(b"{}", [b"%d" % number for number in range(layers)])
    catalog.manifests.save_manifest(NGINX, OWNER, large.digest, large.body, large.manifest, tag=LATEST, now=2)
    catalog.blobs.siblings(NGINX, OWNER, digest_of(b"1"))
    assert len(statements) <= 16
