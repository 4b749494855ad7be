from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pullthrough.errors import FolderLocked, FolderNotWritable
from pullthrough.storage.files.folder import DataFolder, read_boot_id
from tests.unit.storage.processes import child
from tests.waiting import no_sleep


def hold(path: Path) -> Callable[[Callable[[str], None]], None]:
    def work(tell: Callable[[str], None]) -> None:
        DataFolder.open(path)
        tell(str(os.getpid()))
        os.read(os.pipe()[0], 1)  # until killed

    return work


def test_the_folder_and_its_parents_are_made_for_their_owner_only(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "a" / "b") as folder:
        assert folder.path == tmp_path / "a" / "b"
        for path in (folder.path, folder.blobs_path, folder.fills_path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.mkdir()
    path.chmod(0o750)
    DataFolder.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_second_process_is_refused_and_told_who_has_the_folder(tmp_path: Path) -> None:
    with child(hold(tmp_path / "data")) as other:
        pid = other.read_line()
        with pytest.raises(FolderLocked, match=f"process {pid}") as caught:
            DataFolder.open(tmp_path / "data", sleep=no_sleep)
        assert "--data" in caught.value.hint


def test_a_killed_owner_leaves_the_folder_free(tmp_path: Path) -> None:
    with child(hold(tmp_path / "data")) as other:
        other.read_line()
        other.kill()
        DataFolder.open(tmp_path / "data").close()


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "data"), pytest.raises(FolderLocked, match=str(os.getpid())):
        DataFolder.open(tmp_path / "data", sleep=no_sleep)


def test_closing_gives_the_folder_back(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path / "data")
    folder.close()
    folder.close()
    DataFolder.open(tmp_path / "data").close()


def test_attaching_neither_takes_the_lock_nor_gives_it_back(tmp_path: Path) -> None:
    with DataFolder.open(tmp_path / "data"):
        attached = DataFolder.attach(tmp_path / "data")
        attached.close()
        with pytest.raises(FolderLocked):
            DataFolder.open(tmp_path / "data", sleep=no_sleep)
        attached = DataFolder.attach(tmp_path / "data")
    DataFolder.open(tmp_path / "data").close()
    attached.close()


def test_attaching_to_what_is_no_data_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderNotWritable, match="not a data folder"):
        DataFolder.attach(tmp_path)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(FolderNotWritable, match=f"{tmp_path}/data"):
        DataFolder.open(tmp_path / "data")
    with pytest.raises(FolderNotWritable, match="not a folder"):
        DataFolder.open(tmp_path / "data" / "below")


@pytest.mark.parametrize("where", ["folder", "subfolder"])
def test_a_folder_of_another_user_is_refused_at_the_start(tmp_path: Path, where: str) -> None:
    path = tmp_path / "data"
    DataFolder.open(path).close()
    for parent in (*reversed(tmp_path.parents), tmp_path):
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp"):
            parent.chmod(0o755)

    (path / "lock").chmod(0o666)
    path.chmod(0o755 if where == "folder" else 0o777)
    if where == "folder":
        (path / "lock").unlink()

    def work(tell: Callable[[str], None]) -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        else:
            path.chmod(0o500)
            (path / "blobs").chmod(0o500)
        try:
            DataFolder.open(path)
        except FolderNotWritable as error:
            tell(f"refused: {error}")

    with child(work) as other:
        assert other.read_line().startswith(f"refused: the data folder {path}")
        assert other.wait() == 0


def test_the_boot_is_the_kernels(tmp_path: Path) -> None:
    assert read_boot_id() == read_boot_id()
    with DataFolder.open(tmp_path / "data") as folder:
        assert folder.boot_id == read_boot_id()
        assert DataFolder.attach(tmp_path / "data", boot_id="other").boot_id == "other"
