"""Stored blobs: files that go or change under the engine, and downloads of signed and token-guarded bodies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pullthrough.demo.images import Blob, make_blob, make_image
from tests.e2e.engine import Engine
from tests.e2e.processes import wait_for
from tests.fakes.upstream import Close, Gate, Hang, ScriptedUpstream, Status
from tests.integration.sites import Broken, Corner, Download, Site, configuration, open_site

SIZE = 300_000


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("blobs"), request.param, serve="prefetch = false") as site:
        yield site


@pytest.fixture
def corner(site: Site) -> Corner:
    return site.corner()


def stored(corner: Corner) -> tuple[Blob, Path]:
    blob = corner.blob(SIZE)
    assert corner.get(blob).body == blob.read()
    corner.wait_published(blob)
    hexadecimal = blob.digest.partition(":")[2]
    return blob, corner.engine.data / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal


def test_a_blob_whose_file_is_gone_is_filled_again(corner: Corner) -> None:
    blob, path = stored(corner)
    path.unlink()
    assert corner.get(blob).body == blob.read()
    wait_for(path.exists, "the file")
    assert corner.cost(blob) == {"GET": 2}


@pytest.mark.parametrize("length", [0, 1000, SIZE + 1])
def test_a_blob_whose_file_has_another_length_is_filled_again(corner: Corner, length: int) -> None:
    blob, path = stored(corner)
    with path.open("r+b") as file:
        file.truncate(length)
    assert corner.get(blob).body == blob.read()
    wait_for(lambda: path.exists() and path.stat().st_size == SIZE, "the whole file")
    assert corner.cost(blob) == {"GET": 2}


def test_a_blob_that_is_removed_while_it_is_read_is_read_to_its_end(corner: Corner) -> None:
    blob, path = stored(corner)
    with corner.open(blob) as download:
        download.read(10)
        path.unlink()
        assert download.rest() == blob.read(10)


def test_after_a_restart_of_the_machine_a_damaged_blob_is_filled_again_and_a_good_one_only_read(
    tmp_path: Path, site: Site
) -> None:
    """The catalog is told another boot id; the file's size stays what it was."""
    with open_site(tmp_path, site.workers, serve="prefetch = false") as own:
        (good, _), corner = stored(own.corner()), own.corner()
        bad, path = stored(corner)
        good_corner = Corner(own, "c0", "acme/c0")
        own.engine.stop()
        with path.open("r+b") as file:
            file.seek(SIZE // 2)
            file.write(b"damage")
        with closing(sqlite3.connect(own.engine.data / "catalog.sqlite")) as catalog:
            catalog.execute("UPDATE blobs SET verified_boot = 'another'")
            catalog.commit()
        own.engine.start()
        for _ in range(2):
            assert corner.get(bad).body == bad.read()
            assert good_corner.get(good).body == good.read()
            corner.wait_published(bad)
        assert corner.cost(bad) == {"GET": 2}
        assert good_corner.cost(good) == {"GET": 1}
        assert "damaged" in own.logged()


# --- upstreams that guard and redirect their blobs -------------------------------------------------------------------


def guarded(tmp_path: Path, upstream: ScriptedUpstream, workers: int) -> Iterator[Site]:
    more = f'token_realms = ["{upstream.host}"]'
    engine = Engine(tmp_path / "engine", configuration(upstream, workers, "prefetch = false", more))
    try:
        engine.start()
        yield Site(engine, upstream, workers, ["c0"])
    finally:
        engine.end()


def test_a_token_that_runs_out_in_the_middle_is_renewed(tmp_path: Path, site: Site) -> None:
    with ScriptedUpstream(authentication="bearer") as upstream:
        for own in guarded(tmp_path, upstream, site.workers):
            corner = own.corner()
            blob = corner.blob(SIZE)
            for connection in own.two_connections():
                # Each worker has a token of its own from here on.
                with Download(own.engine, corner.path(blob.digest), method="HEAD", connection=connection) as head:
                    assert head.status == 200
            gate = Gate()
            corner.script(Hang(gate, after_bytes=100_000), Close(100_000), nth=range(1, 2))
            with corner.open(blob) as download:
                assert download.read(100) == blob.read(0, 100)
                gate.wait_reached()
                upstream.tokens.revoke_all()
                gate.open()
                assert download.rest() == blob.read(100)
            # As the registry counts: the body, the refused attempt to go on, and the one with a new token.
            assert [record.status for record in corner.asked(blob)] == [200, 401, 206]
            assert corner.asked(blob)[-1].range == "bytes=100000-"


def test_a_redirected_blob_is_resumed_by_the_registry_and_not_by_the_old_address(tmp_path: Path, site: Site) -> None:
    """Signed addresses run out: each attempt asks the registry for a new one."""
    with ScriptedUpstream(cdn_address="127.0.0.2") as upstream:
        for own in guarded(tmp_path, upstream, site.workers):
            corner = own.corner()
            blob = corner.blob(SIZE)
            upstream.script(Close(100_000), kind="cdn", nth=1)
            assert corner.get(blob).body == blob.read()
            assert len(corner.asked(blob)) == 2
            signed = upstream.requests.select(kind="cdn")
            assert [record.range for record in signed] == ["", "bytes=100000-"]
            assert "signature" not in own.logged()


def test_a_signed_address_that_is_refused_at_the_resumption_ends_cleanly_and_is_asked_anew(
    tmp_path: Path, site: Site
) -> None:
    with ScriptedUpstream(cdn_address="127.0.0.2") as upstream:
        for own in guarded(tmp_path, upstream, site.workers):
            corner = own.corner()
            blob = corner.blob(SIZE)
            upstream.script(Status(403), kind="cdn", nth=1)
            upstream.script(Close(100_000), kind="cdn", nth=1)
            with corner.open(blob) as download, pytest.raises(Broken):
                download.rest()
            upstream.clear_scripts()
            assert corner.get(blob).body == blob.read()


def test_a_foreign_blob_of_the_same_bytes_is_one_file(corner: Corner, site: Site) -> None:
    other = site.corner()
    blob = make_blob("shared", SIZE)
    corner.add(make_image("one", layers=(blob,)))
    other.add(make_image("two", layers=(blob,)))
    assert corner.get(blob).body == blob.read()
    corner.wait_published(blob)
    assert other.get(blob).body == blob.read()
    assert corner.cost(blob) == {"GET": 1}
    assert other.cost(blob) == {"HEAD": 1}
