"""A catalog of an earlier version with something in it, opened by this one."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from sqlalchemy import Connection, create_engine, text

from pullthrough.oci import media_types
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import parse_repository_name, parse_tag
from pullthrough.oci.owners import OWN, UNKNOWN
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.registry.images import Filter, Images
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.storage.sql.migrations import migration_config
from tests.contracts.images import Sample, image, index, sample
from tests.owners import OWNER

NGINX = parse_repository_name("docker-hub/library/nginx")
LATEST = parse_tag("latest")
LAYER = b"layer" * 10
IMAGE = image(b"{}", [LAYER])
INDEX = index([IMAGE])
SIGNATURE = sample(
    {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": "application/x.signature",
        "config": {"digest": digest_of(b"{}"), "size": 2, "mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": [],
        "subject": {"digest": INDEX.digest, "size": len(INDEX.body), "mediaType": media_types.OCI_INDEX},
    }
)


def _store(connection: Connection, number: int, what: Sample) -> None:
    connection.execute(text("INSERT INTO manifests VALUES (:d, :b)"), {"d": what.digest, "b": what.body})
    connection.execute(
        text("INSERT INTO repository_manifests VALUES (:n, 1, :d, :m, :at, :at)"),
        {"n": number, "d": what.digest, "m": what.manifest.media_type, "at": 100.0 + number},
    )
    for position, blob in enumerate(what.manifest.blobs):
        connection.execute(
            text("INSERT INTO manifest_blobs VALUES (:n, :d, 1, 'layer', :p, :s, '')"),
            {"n": number, "d": blob.digest, "p": position, "s": blob.size_bytes},
        )
    for child in what.manifest.children:
        connection.execute(
            text("INSERT INTO manifest_children VALUES (:n, :d, 1, 0, '')"), {"n": number, "d": child.digest}
        )


def test_what_the_first_version_stored_is_described_and_goes_on_being_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), "0001")
        connection.execute(text("INSERT INTO repositories VALUES (1, :name, 50)"), {"name": NGINX})
        for number, what in enumerate((IMAGE, INDEX, SIGNATURE), start=1):
            _store(connection, number, what)
        connection.execute(text("INSERT INTO tags VALUES (1, 'latest', 2, 100, 0, NULL)"))
        connection.execute(text("INSERT INTO blobs VALUES (:d, 50, 100, NULL, 'boot')"), {"d": digest_of(LAYER)})
        connection.execute(text("INSERT INTO repository_blobs VALUES (1, :d)"), {"d": digest_of(LAYER)})
        # A body that is damaged is `check`'s matter.
        connection.execute(text("INSERT INTO manifests VALUES ('sha256:bad', CAST('no manifest' AS BLOB))"))
        connection.execute(text("INSERT INTO repository_manifests VALUES (9, 1, 'sha256:bad', '', 109, NULL)"))
    engine.dispose()

    catalog = Catalog.open(path)
    found = {image.digest: image for image in Images(catalog.database).page(NGINX, Filter(), after="", limit=10)}
    assert len(found) == 4
    assert found[IMAGE.digest].size_bytes == found[INDEX.digest].size_bytes == len(LAYER) + 2
    assert [found[what.digest].pushed_at for what in (IMAGE, INDEX, SIGNATURE)] == [101, 102, 103]
    assert found[IMAGE.digest].artifact_type == IMAGE.manifest.artifact_type
    assert (found[SIGNATURE.digest].artifact_type, found[SIGNATURE.digest].subject) == (
        "application/x.signature",
        INDEX.digest,
    )
    assert found[INDEX.digest].tags == (LATEST,)
    # Whose it is follows from the rules that are there at the first start.
    repositories = Repositories(catalog.database)
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is None
    assert repositories.unknown_names() == [NGINX]
    repositories.settle_owners({NGINX: OWNER})
    assert catalog.manifests.find_tag(NGINX, OWNER, LATEST) is not None
    assert repositories.unknown_names() == []
    # As what this version stores itself.
    catalog.manifests.save_manifest(NGINX, OWNER, IMAGE.digest, IMAGE.body, IMAGE.manifest, tag=None, now=200)
    (again,) = (
        i for i in Images(catalog.database).page(NGINX, Filter(), after="", limit=10) if i.digest == IMAGE.digest
    )
    assert again == found[IMAGE.digest]
    settings = Repositories(catalog.database).find(NGINX)
    assert settings is not None
    assert (settings.tag_mutability, settings.mutability_filters, settings.scan_on_push) == ("MUTABLE", (), False)
    # All of it may be evicted, and none of it is collected.
    assert len(catalog.inventory.images()) == 4
    assert Pushed(catalog.database).collect_blobs(loose_since=1e9, in_use=()) == []
    assert catalog.blobs.find_blob(NGINX, OWNER, digest_of(LAYER)).granted
    assert catalog.database.find_damage() == []
    images = catalog.inventory.images()
    assert len(catalog.inventory.remove_images(images, in_use=(), unused_since=1e9).images) == 4
    assert not Repositories(catalog.database).is_there(NGINX, OWNER)
    catalog.close()


def test_whose_content_the_second_version_had_is_worked_out(tmp_path: Path) -> None:
    """Where anything was pushed it is the registry's own; the rest is its rules' to say."""
    path = tmp_path / "catalog.sqlite"
    names = [parse_repository_name(name) for name in ("quay/pulled", "team/pushed", "team/empty")]
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migration_config(connection), "0002")
        connection.execute(text("INSERT INTO manifests VALUES (:d, :b)"), {"d": IMAGE.digest, "b": IMAGE.body})
        connection.execute(
            text("INSERT INTO blobs VALUES (:d, :s, 1, NULL, 'boot')"), {"d": digest_of(LAYER), "s": len(LAYER)}
        )
        for number, name in enumerate(names, start=1):
            connection.execute(
                text("INSERT INTO repositories (id, name, created_at, kept) VALUES (:n, :name, 1, 1)"),
                {"n": number, "name": name},
            )
            connection.execute(
                text("INSERT INTO repository_blobs (repository_id, digest) VALUES (:n, :d)"),
                {"n": number, "d": digest_of(LAYER)},
            )
            for kind in ("tags", f"referrers:{IMAGE.digest}"):
                connection.execute(
                    text(
                        "INSERT INTO listings (repository, kind, validated_at, body) VALUES (:r, :k, 1, CAST('[]' AS BLOB))"
                    ),
                    {"r": name, "k": kind},
                )
        for number, is_pushed in ((1, False), (2, True)):
            connection.execute(
                text(
                    "INSERT INTO repository_manifests (id, repository_id, digest, media_type, stored_at, is_pushed) "
                    "VALUES (:n, :n, :d, :m, 1, :p)"
                ),
                {"n": number, "d": IMAGE.digest, "m": IMAGE.manifest.media_type, "p": is_pushed},
            )
    engine.dispose()

    catalog = Catalog.open(path)
    assert [Repositories(catalog.database).find_owner(name) for name in names] == [UNKNOWN, OWN, ""]
    assert catalog.blobs.find_blob(names[1], OWN, digest_of(LAYER)).granted
    assert not catalog.blobs.find_blob(names[2], None, digest_of(LAYER)).granted, (
        "an upstream may fill it: it proves anew"
    )
    repositories = Repositories(catalog.database)
    # The lists' names too: what is listed is kept by name alone.
    assert repositories.unknown_names() == sorted(names)
    repositories.settle_owners({names[0]: OWNER})
    assert catalog.blobs.find_blob(names[0], OWNER, digest_of(LAYER)).granted
    assert catalog.answers.find_listing(names[0], OWNER, "tags") is not None
    assert catalog.answers.find_listing(names[0], OWNER, f"referrers:{IMAGE.digest}") is None, (
        "they were kept in another form"
    )
    assert catalog.answers.find_listing(names[1], OWNER, "tags") is None
    assert catalog.database.find_damage() == []
    catalog.close()
