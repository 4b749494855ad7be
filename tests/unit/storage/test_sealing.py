"""Values encrypted at rest: nobody else's key opens them, and no instant of a key's replacement loses one."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from pullthrough.errors import CatalogBroken, SealingKeyMissing
from pullthrough.storage.secrets.access_keys import AccessKeys
from pullthrough.storage.secrets.master_keys import KEY_VARIABLE, MasterKey, MasterKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.secrets.secret_rows import Value
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.schema import secret_versions
from tests.unit.storage.processes import child

TEXT = Value(b"a secret value", is_binary=False)
TOKEN = "0" * 32


@dataclass
class House:
    """A data folder and the key beside it."""

    folder: Path
    stack: ExitStack

    @property
    def key(self) -> Path:
        return self.folder / "data.key"

    @property
    def keys(self) -> list[str]:
        return self.key.read_text().split()

    def open(self) -> Database:
        database = Database.open(self.folder / "catalog.sqlite")
        self.stack.callback(database.close)
        return database

    def sealer(self, environ: Mapping[str, str] | None = None) -> Sealer:
        """As a new process has it."""
        return Sealer(MasterKeys(self.key, environ or {}))

    def secrets(self, sealer: Sealer | None = None, database: Database | None = None) -> Secrets:
        return Secrets(database or self.open(), sealer or self.sealer(), account="0" * 12, region="us-east-1")

    def fill(self) -> None:
        """Two secrets and an API key."""
        secrets = self.secrets()
        for name in ("one", "two"):
            secrets.create(name, token=TOKEN, value=TEXT)
        AccessKeys(self.open(), self.sealer()).add("bob", "pull", "AKIA", b"half", 0.0)

    def check(self) -> None:
        """All that `fill` stored can be read by a new process."""
        for name in ("one", "two"):
            assert self.secrets().read(name).value == TEXT
        keys = AccessKeys(self.open(), self.sealer())
        assert [keys.open(key) for key in keys.list()] == [b"half"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(tmp_path, stack)


def new_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def test_a_value_comes_back_and_is_not_in_the_file(house: House) -> None:
    house.sealer().check(house.open())
    house.fill()
    house.check()
    house.sealer().check(house.open())
    for file in house.folder.iterdir():
        assert TEXT.content not in file.read_bytes()


def test_the_same_value_is_never_encrypted_to_the_same(house: House) -> None:
    house.fill()
    with house.open().reading() as connection:
        sealed = connection.execute(select(secret_versions.c.sealed)).scalars().all()
    assert len(set(sealed)) == 2


def test_a_value_is_bound_to_its_row(house: House) -> None:
    database, sealer = house.open(), house.sealer()
    sealed = database.write(sealer.seal, b"x", b"secret/a/1")
    assert sealer.open(sealed, b"secret/a/1") == b"x"
    with pytest.raises(CatalogBroken, match="secret/b/1"):
        sealer.open(sealed, b"secret/b/1")
    with pytest.raises(CatalogBroken):
        sealer.open(sealed[:-1] + bytes([sealed[-1] ^ 1]), b"secret/a/1")


@given(st.binary(max_size=64), st.booleans())
def test_bytes_that_nobody_sealed_are_refused(sealed: bytes, is_ours: bool) -> None:
    key = MasterKey(bytes(32))
    sealer = Sealer(MasterKeys(Path("/nonexistent"), {KEY_VARIABLE: key.secret.hex()}))
    with pytest.raises((CatalogBroken, SealingKeyMissing)):
        sealer.open(b"\x01" + key.key_id + sealed if is_ours else sealed, b"context")


# --- where the key is ------------------------------------------------------------------------------------------------


def test_the_key_is_made_when_something_is_first_encrypted(house: House) -> None:
    house.secrets().create("empty", token=TOKEN, value=None)
    assert not house.key.exists()
    house.fill()
    assert house.key.stat().st_mode & 0o777 == 0o600
    assert [len(base64.b64decode(key)) for key in house.keys] == [32]


def test_several_workers_make_one_key(house: House) -> None:
    workers = [house.secrets() for _ in range(4)]
    threads = [
        threading.Thread(
            target=lambda number, secrets: secrets.create(f"s{number}", token=TOKEN, value=TEXT), args=work
        )
        for work in enumerate(workers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(house.keys) == 1
    assert [house.secrets().read(f"s{number}").value for number in range(4)] == [TEXT] * 4


def test_without_its_key_nothing_is_read_or_written_and_no_other_key_is_made(house: House) -> None:
    house.fill()
    away = house.key.rename(house.folder / "away")
    secrets = house.secrets()
    with pytest.raises(SealingKeyMissing, match="is missing"):
        house.sealer().check(house.open())
    with pytest.raises(SealingKeyMissing, match="is missing") as raised:
        secrets.read("one")
    assert str(house.key) in raised.value.message
    assert "backup" in raised.value.hint
    with pytest.raises(SealingKeyMissing):
        secrets.put_value("one", token="1" * 32, value=TEXT)
    with pytest.raises(SealingKeyMissing):
        house.sealer().rotate(house.open())
    assert not house.key.exists()
    assert secrets.find("one").name == "one"
    away.rename(house.key)
    assert secrets.read("one").value == TEXT


def test_a_key_that_vanishes_while_the_engine_runs_is_not_replaced(house: House) -> None:
    secrets = house.secrets()
    secrets.create("one", token=TOKEN, value=TEXT)
    house.key.unlink()
    assert secrets.read("one").value == TEXT
    with pytest.raises(SealingKeyMissing):
        secrets.create("two", token=TOKEN, value=TEXT)
    assert not house.key.exists()


def test_with_another_key_nothing_is_read_or_written(house: House) -> None:
    house.fill()
    house.key.write_text(new_key())
    with pytest.raises(SealingKeyMissing, match="holds another one"):
        house.secrets().read("one")
    with pytest.raises(SealingKeyMissing):
        house.secrets().create("three", token=TOKEN, value=TEXT)


def test_a_key_that_others_may_read_is_refused(house: House) -> None:
    house.fill()
    house.key.chmod(0o640)
    with pytest.raises(SealingKeyMissing, match=r"mode 0640") as raised:
        house.secrets().read("one")
    assert "chmod 600" in raised.value.hint


def test_a_folder_that_cannot_be_written_is_named(house: House) -> None:
    sealer = Sealer(MasterKeys(house.folder / "missing" / "key", {}))
    with pytest.raises(SealingKeyMissing, match="missing/key cannot be written"):
        house.secrets(sealer).create("one", token=TOKEN, value=TEXT)
    (house.folder / "broken").symlink_to(house.folder / "nowhere")
    with pytest.raises(SealingKeyMissing):
        house.secrets(Sealer(MasterKeys(house.folder / "broken", {}))).create("one", token=TOKEN, value=TEXT)


@pytest.mark.parametrize(
    "form",
    [
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda key: key.hex().encode(),
        lambda key: key.hex().upper().encode(),
    ],
)
def test_the_environment_goes_before_the_file(house: House, form: Callable[[bytes], bytes]) -> None:
    environ = {KEY_VARIABLE: form(b"\xfb\xff" * 16).decode() + "\n"}
    house.secrets(house.sealer(environ)).create("one", token=TOKEN, value=TEXT)
    assert not house.key.exists()
    assert house.secrets(house.sealer(environ)).read("one").value == TEXT
    with pytest.raises(SealingKeyMissing):
        house.secrets().read("one")


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1))
def test_what_is_no_key_is_refused_without_being_repeated(text: str) -> None:
    keys = MasterKeys(Path("/nonexistent"), {KEY_VARIABLE: f"no-key {text}"})
    with pytest.raises(SealingKeyMissing, match="does not hold an encryption key") as raised:
        keys.read()
    assert "no-key" not in raised.value.message + raised.value.hint


def test_an_empty_file_is_no_key(house: House) -> None:
    house.key.touch(0o600)
    with pytest.raises(SealingKeyMissing, match="does not hold an encryption key"):
        house.secrets().create("one", token=TOKEN, value=TEXT)


def test_a_key_does_not_show_in_a_repr(house: House) -> None:
    key = MasterKey(b"k" * 32)
    assert "kkk" not in repr(key)
    assert "a secret" not in repr(TEXT)


# --- rotation --------------------------------------------------------------------------------------------------------


def test_rotation_encrypts_everything_with_a_new_key(house: House) -> None:
    house.fill()
    before = house.keys
    running = house.secrets()
    assert running.read("one").value == TEXT
    assert house.sealer().rotate(house.open()) == 3
    assert len(house.keys) == 1
    assert house.keys != before
    assert house.key.stat().st_mode & 0o777 == 0o600
    house.check()
    assert running.read("one").value == TEXT
    running.put_value("one", token="1" * 32, value=TEXT)
    house.check()


def test_a_reader_that_is_overtaken_by_a_rotation_reads_again(house: House) -> None:
    house.fill()

    class Overtaken(Sealer):
        """Another process rotates after this one has read the value, and before it has read any key."""

        overtaken = 0

        def open(self, sealed: bytes, context: bytes) -> bytes:
            if not self.overtaken:
                self.overtaken = house.sealer().rotate(house.open())
            return super().open(sealed, context)

    assert house.secrets(Overtaken(MasterKeys(house.key, {}))).read("one").value == TEXT


class Stop(Exception):
    """Where a process is stopped."""


def _stop() -> None:
    raise Stop


def _die() -> None:
    os._exit(0)


class StoppedKeys(MasterKeys):
    """The process stops before or after the `nth` time that the file is replaced."""

    def __init__(self, path: Path, nth: int, *, after: bool, stop: Callable[[], None]) -> None:
        super().__init__(path, {})
        self._left, self._after, self._stop = nth, after, stop

    def replace(self, keys: tuple[MasterKey, ...]) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            self._stop()
        super().replace(keys)
        if self._left == 0:
            self._stop()


def stopped(path: Path, point: str, stop: Callable[[], None]) -> Sealer:
    """A sealer whose process stops at this point of a rotation."""
    match point.split():
        case ["nonce", nth]:
            left = int(nth)

            def random_bytes(size: int) -> bytes:
                nonlocal left
                left -= 1
                if left == 0:
                    stop()
                return os.urandom(size)

            return Sealer(MasterKeys(path, {}), random_bytes=random_bytes)
        case [when, nth]:
            return Sealer(StoppedKeys(path, int(nth), after=when == "after", stop=stop))
    raise AssertionError(point)


POINTS = ["before 1", "after 1", "nonce 1", "nonce 3", "before 2", "after 2"]


@pytest.mark.parametrize("point", POINTS)
def test_a_rotation_that_fails_loses_nothing_and_the_next_one_ends_it(house: House, point: str) -> None:
    house.fill()
    with suppress(Stop):
        stopped(house.key, point, _stop).rotate(house.open())
        raise AssertionError("it was not stopped")
    house.check()
    house.secrets().put_value("one", token="1" * 32, value=TEXT)
    house.check()
    house.sealer().rotate(house.open())
    assert len(house.keys) == 1
    house.check()


@pytest.mark.parametrize("point", POINTS)
def test_a_process_that_dies_in_a_rotation_loses_nothing(house: House, point: str) -> None:
    house.fill()

    def work(tell: Callable[[str], None]) -> None:
        stopped(house.key, point, _die).rotate(Database.open(house.folder / "catalog.sqlite"))
        tell("it was not stopped")

    with child(work) as process:
        assert process.read_line() == ""
        process.wait()
    house.check()
    house.sealer().rotate(house.open())
    assert len(house.keys) == 1
    assert sorted(path.name for path in house.folder.iterdir() if "key" in path.name) == ["data.key"]
    house.check()


def test_rotations_at_the_same_time_lose_nothing(house: House) -> None:
    house.fill()
    parts = [(house.sealer(), house.open()) for _ in range(4)]
    threads = [threading.Thread(target=sealer.rotate, args=(database,)) for sealer, database in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(house.keys) == 1
    house.check()


def test_rotating_before_there_is_anything_makes_a_key(house: House) -> None:
    assert house.sealer().rotate(house.open()) == 0
    assert len(house.keys) == 1


def test_a_link_to_the_key_stays_one(house: House) -> None:
    (house.folder / "elsewhere").mkdir()
    house.fill()
    house.key.rename(house.folder / "elsewhere" / "key")
    house.key.symlink_to(house.folder / "elsewhere" / "key")
    house.sealer().rotate(house.open())
    assert house.key.is_symlink()
    house.check()


def test_a_key_in_the_environment_is_rotated_by_giving_both(house: House) -> None:
    old, new = new_key(), new_key()
    before = house.sealer({KEY_VARIABLE: old})
    house.secrets(before).create("one", token=TOKEN, value=TEXT)
    with pytest.raises(SealingKeyMissing, match="no new key") as raised:
        before.rotate(house.open())
    assert old not in raised.value.message + raised.value.hint
    assert house.sealer({KEY_VARIABLE: f"{new} {old}"}).rotate(house.open()) == 1
    assert house.secrets(house.sealer({KEY_VARIABLE: new})).read("one").value == TEXT
    assert not house.key.exists()
