"""Uploads as files: what has arrived, who may write, and what a process knows of a hash that another one began."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.errors import UploadUnknown
from pullthrough.oci.digests import digest_of
from pullthrough.oci.names import parse_repository_name
from pullthrough.storage.files.uploads import Upload, Uploads

TEAM = parse_repository_name("team/app")


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path)


@pytest.fixture
def upload(uploads: Uploads) -> Iterator[Upload]:
    opened = uploads.try_open(TEAM, uploads.begin(TEAM))
    assert opened
    yield opened
    opened.close()


def test_an_upload_goes_on_where_it_stopped_also_in_another_process(uploads: Uploads, tmp_path: Path) -> None:
    upload_id = uploads.begin(TEAM)
    for turn, part in enumerate((b"one ", b"two ", b"three")):
        # Every second turn as after a restart: nothing is in memory.
        now = uploads if turn % 2 else Uploads(tmp_path)
        opened = now.try_open(TEAM, upload_id)
        assert opened
        opened.append(part)
        opened.close()
    assert uploads.size(TEAM, upload_id) == 13
    opened = uploads.try_open(TEAM, upload_id)
    assert opened
    assert opened.digest("sha256") == digest_of(b"one two three")
    assert opened.digest("sha512") == digest_of(b"one two three", "sha512")
    opened.close()


@given(parts=st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=50)), max_size=8))
def test_the_digest_is_right_whichever_worker_wrote_what(
    parts: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("uploads")
    workers = (Uploads(folder), Uploads(folder))
    upload_id = workers[0].begin(TEAM)
    for which, part in parts:
        opened = workers[which].try_open(TEAM, upload_id)
        assert opened
        opened.append(part)
        opened.close()
    for worker in workers:
        opened = worker.try_open(TEAM, upload_id)
        assert opened
        body = b"".join(part for _, part in parts)
        assert opened.digest("sha256") == f"sha256:{hashlib.sha256(body).hexdigest()}"
        opened.append(b"more")
        assert opened.digest("sha256") == f"sha256:{hashlib.sha256(body + b'more').hexdigest()}"
        os.truncate(opened.path, len(body))
        opened.close()
        worker.take_hash(upload_id)


def test_one_at_a_time(uploads: Uploads, upload: Upload) -> None:
    assert uploads.try_open(TEAM, upload.id) is None
    upload.close()
    again = uploads.try_open(TEAM, upload.id)
    assert again
    again.close()


def test_what_was_discarded_or_published_is_no_upload_any_more(uploads: Uploads, upload: Upload) -> None:
    upload.append(b"x")
    upload.discard()
    with pytest.raises(UploadUnknown):
        uploads.try_open(TEAM, upload.id)
    with pytest.raises(UploadUnknown):
        uploads.size(TEAM, upload.id)
    assert list(uploads.files()) == []


def test_who_opened_it_just_before_it_ended_finds_nothing(uploads: Uploads, upload: Upload) -> None:
    upload.path.rename(upload.path.with_name("blob"))
    upload.close()
    with pytest.raises(UploadUnknown):
        uploads.try_open(TEAM, upload.id)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../uploads", "x" * 36, "00000000-0000-0000-0000-000000000000", "a/b", "\0", "١" * 36]
)
def test_an_id_that_we_did_not_give_is_unknown(uploads: Uploads, upload: Upload, name: str) -> None:
    for unknown in (name, f"{upload.id}.json", upload.id.upper()):
        with pytest.raises(UploadUnknown):
            uploads.size(TEAM, unknown)
        with pytest.raises(UploadUnknown):
            uploads.try_open(TEAM, unknown)


def test_an_upload_is_that_of_its_repository(uploads: Uploads, upload: Upload) -> None:
    with pytest.raises(UploadUnknown, match="team/other"):
        uploads.size(parse_repository_name("team/other"), upload.id)


def test_what_nobody_writes_to_goes_and_the_rest_stays(uploads: Uploads, upload: Upload, tmp_path: Path) -> None:
    fresh, old = uploads.begin(TEAM), uploads.begin(TEAM)
    stray = tmp_path / "00000000-0000-0000-0000-000000000000.json"
    stray.write_text("{}")
    for path in (uploads.path(old), tmp_path / f"{old}.json", upload.path, stray):
        os.utime(path, (1000, 1000))
    removed = uploads.remove_stale(2000)
    assert {path.name.partition(".")[0] for path, _ in removed} == {old, stray.stem}
    assert uploads.size(TEAM, fresh) == uploads.size(TEAM, upload.id) == 0
    assert {path.name for path in uploads.files()} == {fresh, f"{fresh}.json", upload.id, f"{upload.id}.json"}
