"""Opening a catalog: a new one, an old one, a newer one, a broken one, one that cannot be written."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from pullthrough.errors import CatalogBroken, DiskFull, FolderNewer, FolderNotWritable, StorageError
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import parse_repository_name
from pullthrough.oci.owners import source_at
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.sql.migrations import migration_config, upgrade
from pullthrough.storage.sql.schema import REVISIONS, metadata
from tests.owners import OWNER
from tests.unit.storage.processes import child

NGINX = parse_repository_name("docker-hub/library/nginx")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "catalog.sqlite"


def test_a_new_catalog_is_what_the_migrations_make(path: Path, tmp_path: Path) -> None:
    Catalog.open(path).close()
    migrated = tmp_path / "migrated.sqlite"
    engine = create_engine(f"sqlite:///{migrated}")
    with engine.begin() as connection:
        upgrade(connection)
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    assert _described(path) == _described(migrated)


def _described(path: Path) -> list[tuple[str, ...]]:
    """Every table, index and column, and the version."""
    with closing(sqlite3.connect(path)) as database:
        names = [row[0] for row in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
        sql = "SELECT name, sql LIKE '%AUTOINCREMENT%' FROM sqlite_master ORDER BY name"
        found = [tuple(map(str, row)) for row in database.execute(sql)]
        for name in names:
            for pragma in ("table_xinfo", "index_xinfo", "foreign_key_list"):
                found += sorted(tuple(map(str, row)) for row in database.execute(f"PRAGMA {pragma}('{name}')"))
        return [*found, *database.execute("SELECT version_num FROM alembic_version")]


def test_the_known_revisions_are_those_of_the_migrations(path: Path) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(migration_config(connection))
        known = [revision.revision for revision in script.walk_revisions()]
    engine.dispose()
    assert tuple(reversed(known)) == REVISIONS


def test_the_catalog_is_for_its_owner_only(path: Path) -> None:
    catalog = Catalog.open(path)
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    catalog.close()


def test_a_commit_is_on_the_disk_when_it_returns(path: Path) -> None:
    catalog = Catalog.open(path)
    with catalog.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
    catalog.close()


def test_a_current_catalog_opens_without_alembic(path: Path) -> None:
    Catalog.open(path).close()
    program = (
        "import sys; from pathlib import Path; from pullthrough.storage.catalog.catalog import Catalog; "
        f"Catalog.open(Path({str(path)!r})).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_newer_catalog_is_refused_and_not_changed(path: Path) -> None:
    Catalog.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(FolderNewer, match="9999") as caught:
        Catalog.open(path)
    assert caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"this is no database, but long enough to be looked at" * 40, b"<html>"])
def test_a_file_that_is_no_database_is_refused_with_what_to_do(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CatalogBroken, match=r"catalog\.sqlite is damaged") as caught:
        Catalog.open(path)
    assert "move catalog.sqlite" in caught.value.hint
    assert path.read_bytes() == content


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    connection.close()
    with pytest.raises(CatalogBroken, match="not a catalog of pullthrough"):
        Catalog.open(path)


def test_damage_met_later_is_named_too(path: Path) -> None:
    catalog = Catalog.open(path)
    for number in range(50):
        catalog.answers.save_listing(NGINX, OWNER, f"kind {number}", bytes(8000), now=1)
    catalog.close()
    content = bytearray(path.read_bytes())
    content[4096 * 4 :] = b"\xa5" * (len(content) - 4096 * 4)
    path.write_bytes(content)

    def read_all() -> None:
        broken = Catalog.open(path)
        try:
            for number in range(50):
                broken.answers.find_listing(NGINX, OWNER, f"kind {number}")
        finally:
            broken.close()

    with pytest.raises(CatalogBroken, match="damaged"):
        read_all()


def test_an_unfinished_creation_is_done_again(path: Path) -> None:
    path.touch()
    catalog = Catalog.open(path)
    assert catalog.usage.totals().blobs == 0
    catalog.close()


def test_a_killed_creation_leaves_a_catalog_that_opens(path: Path) -> None:
    def work(tell: Callable[[str], None]) -> None:
        tell("begin")
        Catalog.open(path)

    for _ in range(10):
        with child(work) as other:
            other.read_line()
            while other.ended is False and not path.exists():
                os.sched_yield()
            other.kill()
        catalog = Catalog.open(path)
        assert catalog.usage.totals().tags == 0
        catalog.close()
        path.unlink()


def test_processes_that_open_a_new_catalog_at_once_all_get_it(path: Path) -> None:
    def work(tell: Callable[[str], None]) -> None:
        catalog = Catalog.open(path)
        catalog.blobs.publish_blob(NGINX, OWNER, digest_of(b"%d" % os.getpid()), 1, boot_id="", now=1)
        tell("done")

    with child(work) as one, child(work) as two, child(work) as three:
        assert [other.read_line() for other in (one, two, three)] == ["done"] * 3
        assert [other.wait() for other in (one, two, three)] == [0, 0, 0]
    catalog = Catalog.open(path)
    assert catalog.usage.totals().blobs == 3
    catalog.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FolderNotWritable, match="cannot be opened"):
        Catalog.open(tmp_path / "absent" / "catalog.sqlite")


def test_a_catalog_that_cannot_be_written_is_named(path: Path) -> None:
    catalog = Catalog.open(path)
    with catalog.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(FolderNotWritable, match="cannot be written"):
        catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 1)
    catalog.close()


def test_a_full_disk_is_told_and_nothing_is_half_written(small_disk: Path) -> None:
    path = small_disk / "catalog.sqlite"
    catalog = Catalog.open(path)
    written = 0

    def write() -> None:
        nonlocal written
        for number in range(1000):
            catalog.answers.save_listing(NGINX, OWNER, f"kind {number}", bytes(20_000), now=number)
            written += 1

    with pytest.raises(DiskFull) as caught:
        write()
    assert caught.value.hint
    assert [
        catalog.answers.find_listing(NGINX, OWNER, f"kind {number}") is not None for number in range(written + 1)
    ] == [
        *([True] * written),
        False,
    ]
    assert catalog.database.find_damage() == []
    catalog.close()


def test_another_processs_long_transaction_is_a_clear_error(path: Path) -> None:
    catalog = Catalog.open(path)
    with catalog.database.reading() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process kept the catalog"):
        catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 1)
    other.execute("ROLLBACK")
    other.close()
    catalog.answers.save_absent_name(source_at("quay.io"), "acme/app", 1)
    catalog.close()
