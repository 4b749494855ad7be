"""Secrets as Secrets Manager keeps them: versions, staging labels, deletion with a window, idempotent calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pullthrough.errors import AlreadyExists, LimitReached, RequestError, SecretNotUsable, SecretUnknown
from pullthrough.storage.secrets.master_keys import MasterKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.secrets.secret_rows import MAX_STAGES, MAX_TAGS, MAX_VERSIONS, Value
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.storage.sql.database import Database
from pullthrough.storage.sql.schema import resource_tags, secret_stages, secret_versions
from pullthrough.storage.sql.schema import secrets as secrets_table

DAY = 86400.0
START = 20_000 * DAY + 3600.0
ACCOUNT = "123456789012"


def text(content: str) -> Value:
    return Value(content.encode(), is_binary=False)


def token(number: int) -> str:
    return f"{number:032}"


@dataclass
class Store:
    database: Database
    secrets: Secrets
    now: float = START

    def count(self) -> tuple[int, ...]:
        """Rows of secrets, versions, stages and tags."""
        with self.database.reading() as connection:
            return tuple(
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (secrets_table, secret_versions, secret_stages, resource_tags)
            )

    def stages(self, name: str = "db") -> dict[str, tuple[str, ...]]:
        """By the number of the version's token."""
        return {version.version_id.lstrip("0") or "0": version.stages for version in self.secrets.find(name).versions}

    def current(self, name: str = "db") -> str:
        return self.secrets.read(name).value.content.decode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    database = Database.open(tmp_path / "catalog.sqlite")
    sealer = Sealer(MasterKeys(tmp_path / "key", {}))
    made = Store(database, Secrets(database, sealer, account=ACCOUNT, region="eu-west-1", clock=lambda: made.now))
    yield made
    database.close()


@pytest.fixture
def secrets(store: Store) -> Secrets:
    store.secrets.create("db", token=token(1), value=text("one"))
    return store.secrets


# --- making ----------------------------------------------------------------------------------------------------------


def test_a_secret_has_an_arn_with_six_random_characters(store: Store) -> None:
    made = store.secrets.create("team/db", token=token(1), value=None, description="d", kms_key_id="k", tags={"a": "1"})
    prefix = f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:team/db-"
    assert made.arn.startswith(prefix)
    assert made.arn.removeprefix(prefix).isalnum()
    assert len(made.arn) == len(prefix) + 6
    assert (made.description, made.kms_key_id, made.tags, made.versions) == ("d", "k", {"a": "1"}, ())
    assert made.created_at == made.changed_at == START
    assert store.secrets.find("team/db") == made


def test_the_first_value_is_current(store: Store, secrets: Secrets) -> None:
    found = secrets.read("db")
    assert found.value == text("one")
    assert found.version.version_id == token(1)
    assert found.version.stages == ("AWSCURRENT",)


def test_bytes_stay_bytes(store: Store) -> None:
    value = Value(bytes(range(256)), is_binary=True)
    store.secrets.create("db", token=token(1), value=value)
    assert store.secrets.read("db").value == value


def test_the_same_call_again_changes_nothing(store: Store, secrets: Secrets) -> None:
    before = secrets.find("db")
    store.now += 10
    assert secrets.create("db", token=token(1), value=text("one")) == before


@pytest.mark.parametrize(("number", "content"), [(2, "one"), (2, "two"), (1, None)])
def test_a_name_is_given_once(secrets: Secrets, number: int, content: str | None) -> None:
    with pytest.raises(AlreadyExists, match="The operation failed because the secret db already exists"):
        secrets.create("db", token=token(number), value=text(content) if content else None)


@pytest.mark.parametrize("value", [text("two"), Value(b"one", is_binary=True)])
def test_another_value_under_a_used_token_is_refused(secrets: Secrets, value: Value) -> None:
    sentence = f"You can't use ClientRequestToken {token(1)} because that value is already in use for a version"
    for call in (secrets.put_value, secrets.update):
        with pytest.raises(AlreadyExists, match=sentence):
            call("db", token=token(1), value=value)
    with pytest.raises(AlreadyExists, match=sentence):
        secrets.create("db", token=token(1), value=value)


def test_a_secret_is_found_by_name_arn_and_arn_without_suffix(secrets: Secrets) -> None:
    arn = secrets.find("db").arn
    for secret_id in ("db", arn, arn[:-7]):
        assert secrets.find(secret_id).arn == arn
        assert secrets.read(secret_id).value == text("one")
    others = ("DB", "d", "db-", arn[:-1], arn + "x", arn[:-6], arn.replace("eu-west-1", "us-east-1")[:-7], "arn:", "")
    for secret_id in others:
        with pytest.raises(SecretUnknown, match="Secrets Manager can't find the specified secret"):
            secrets.find(secret_id)


# --- versions and stages ---------------------------------------------------------------------------------------------


def test_a_new_value_is_current_and_the_one_before_it_previous(store: Store, secrets: Secrets) -> None:
    store.now += 5
    assert secrets.put_value("db", token=token(2), value=text("two")) == ("AWSCURRENT",)
    assert store.stages() == {"1": ("AWSPREVIOUS",), "2": ("AWSCURRENT",)}
    assert secrets.find("db").changed_at == store.now
    secrets.update("db", token=token(3), value=text("three"))
    assert store.stages() == {"1": (), "2": ("AWSPREVIOUS",), "3": ("AWSCURRENT",)}
    assert secrets.read("db", stage="AWSPREVIOUS").value == text("two")
    assert secrets.read("db", version_id=token(1)).value == text("one")


def test_the_same_put_again_changes_nothing(store: Store, secrets: Secrets) -> None:
    secrets.put_value("db", token=token(2), value=text("two"))
    before = store.stages()
    assert secrets.put_value("db", token=token(1), value=text("one")) == ("AWSPREVIOUS",)
    secrets.update("db", token=token(1), value=text("one"))
    assert store.stages() == before


def test_a_value_can_be_put_under_other_stages(store: Store, secrets: Secrets) -> None:
    stages = secrets.put_value("db", token=token(2), value=text("two"), stages=["AWSPENDING", "blue"])
    assert stages == ("AWSPENDING", "blue")
    assert store.current() == "one"
    secrets.put_value("db", token=token(3), value=text("three"), stages=["blue"])
    assert store.stages() == {"1": ("AWSCURRENT",), "2": ("AWSPENDING",), "3": ("blue",)}


def test_the_first_version_of_a_secret_without_a_value_is_current_too(store: Store) -> None:
    store.secrets.create("db", token=token(1), value=None)
    with pytest.raises(SecretUnknown, match="can't find the specified secret value for staging label: AWSCURRENT"):
        store.secrets.read("db")
    assert store.secrets.put_value("db", token=token(2), value=text("x"), stages=["AWSPENDING"]) == (
        "AWSCURRENT",
        "AWSPENDING",
    )


def test_what_a_read_cannot_find_is_named(secrets: Secrets) -> None:
    with pytest.raises(SecretUnknown, match="specified secret value for staging label: green"):
        secrets.read("db", stage="green")
    with pytest.raises(SecretUnknown, match=f"specified secret value for VersionId: {token(9)}"):
        secrets.read("db", version_id=token(9))
    secrets.put_value("db", token=token(2), value=text("two"))
    assert secrets.read("db", version_id=token(2), stage="AWSCURRENT").value == text("two")
    with pytest.raises(SecretNotUsable, match="VersionStage that is not associated to the provided VersionId"):
        secrets.read("db", version_id=token(1), stage="AWSCURRENT")


def test_moving_current_back_makes_the_newer_one_previous(store: Store, secrets: Secrets) -> None:
    secrets.put_value("db", token=token(2), value=text("two"))
    secrets.move_stage("db", "AWSCURRENT", remove_from=token(2), move_to=token(1))
    assert store.stages() == {"1": ("AWSCURRENT",), "2": ("AWSPREVIOUS",)}
    assert store.current() == "one"


def test_stages_are_given_moved_and_taken(store: Store, secrets: Secrets) -> None:
    secrets.put_value("db", token=token(2), value=text("two"))
    secrets.move_stage("db", "blue", move_to=token(1))
    secrets.move_stage("db", "blue", move_to=token(1))
    assert store.stages()["1"] == ("AWSPREVIOUS", "blue")
    secrets.move_stage("db", "blue", remove_from=token(1), move_to=token(2))
    assert store.stages()["2"] == ("AWSCURRENT", "blue")
    secrets.move_stage("db", "blue", remove_from=token(2))
    secrets.move_stage("db", "AWSPREVIOUS", remove_from=token(1))
    assert store.stages() == {"1": (), "2": ("AWSCURRENT",)}


def test_a_stage_is_not_moved_by_who_is_wrong_about_it(store: Store, secrets: Secrets) -> None:
    secrets.put_value("db", token=token(2), value=text("two"))
    before = store.stages()
    with pytest.raises(RequestError, match=f"RemoveFromVersionId can't be empty.* attached to version {token(2)}"):
        secrets.move_stage("db", "AWSCURRENT", move_to=token(1))
    with pytest.raises(RequestError, match=f"attached to version {token(2)}"):
        secrets.move_stage("db", "AWSCURRENT", remove_from=token(1), move_to=token(1))
    with pytest.raises(RequestError, match="not attached to any version"):
        secrets.move_stage("db", "blue", remove_from=token(1))
    with pytest.raises(RequestError, match="It can't be completely removed"):
        secrets.move_stage("db", "AWSCURRENT", remove_from=token(2))
    with pytest.raises(SecretUnknown, match="Secrets Manager can't find the specified secret version"):
        secrets.move_stage("db", "blue", move_to=token(9))
    assert store.stages() == before


def test_old_versions_without_a_stage_go(store: Store, secrets: Secrets) -> None:
    secrets.move_stage("db", "keep", move_to=token(1))
    for number in range(2, MAX_VERSIONS + 10):
        store.now += 1
        secrets.put_value("db", token=token(number), value=text(str(number)))
    kept = [int(version.version_id) for version in secrets.find("db").versions]
    assert kept == [1, *range(11, MAX_VERSIONS + 10)]
    assert store.current() == str(MAX_VERSIONS + 9)


def test_there_are_so_many_stages_and_no_more(store: Store, secrets: Secrets) -> None:
    with pytest.raises(LimitReached):
        secrets.put_value("db", token=token(2), value=text("x"), stages=[f"s{i}" for i in range(MAX_STAGES)])
    assert store.stages() == {"1": ("AWSCURRENT",)}
    secrets.put_value("db", token=token(2), value=text("x"), stages=[f"s{i}" for i in range(MAX_STAGES - 1)])
    with pytest.raises(LimitReached):
        secrets.move_stage("db", "more", move_to=token(1))


# --- what is beside the value ----------------------------------------------------------------------------------------


def test_only_what_is_given_is_changed(store: Store, secrets: Secrets) -> None:
    secrets.update("db", description="d", kms_key_id="k")
    store.now += 5
    secrets.update("db", description="")
    found = secrets.find("db")
    assert (found.description, found.kms_key_id, found.changed_at) == ("", "k", store.now)
    assert store.stages() == {"1": ("AWSCURRENT",)}


def test_a_policy_is_kept_as_it_is_given(secrets: Secrets) -> None:
    secrets.set_policy("db", '{"a": 1}')
    assert secrets.find("db").policy == '{"a": 1}'
    secrets.set_policy("db", None)
    assert secrets.find("db").policy is None


def test_tags_are_set_replaced_and_removed(secrets: Secrets) -> None:
    secrets.tag("db", {"b": "2", "a": "1"})
    secrets.tag("db", {"b": "3"})
    assert secrets.find("db").tags == {"a": "1", "b": "3"}
    secrets.untag("db", ["a", "not there"])
    assert secrets.find("db").tags == {"b": "3"}
    with pytest.raises(RequestError, match=f"{MAX_TAGS} tags at most"):
        secrets.tag("db", {str(number): "" for number in range(MAX_TAGS)})
    assert secrets.find("db").tags == {"b": "3"}


def test_access_is_known_by_the_day(store: Store, secrets: Secrets) -> None:
    assert secrets.find("db").accessed_at is None
    secrets.read("db")
    today = START // DAY * DAY
    found = secrets.find("db")
    assert found.accessed_at == found.versions[0].accessed_at == today
    assert found.changed_at == START
    store.now += 3 * DAY
    secrets.put_value("db", token=token(2), value=text("two"))
    secrets.read("db", version_id=token(1))
    found = secrets.find("db")
    assert found.accessed_at == found.versions[0].accessed_at == today + 3 * DAY
    assert found.versions[1].accessed_at is None
    secrets.read("db")
    assert secrets.find("db").versions[1].accessed_at == today + 3 * DAY


def test_all_of_them_are_listed_with_all_they_have(store: Store, secrets: Secrets) -> None:
    secrets.create("app", token=token(1), value=None, tags={"team": "a"})
    secrets.mark_deleted("db", after_days=7)
    assert secrets.all() == [secrets.find("app"), secrets.find("db")]
    store.now += 7 * DAY
    assert [record.name for record in secrets.all()] == ["app"]


# --- deletion --------------------------------------------------------------------------------------------------------


def test_a_marked_secret_can_be_seen_and_not_used(store: Store, secrets: Secrets) -> None:
    assert secrets.mark_deleted("db", after_days=7) == START + 7 * DAY
    found = secrets.find("db")
    assert (found.deleted_at, found.delete_due_at) == (START, START + 7 * DAY)
    for use in (
        lambda: secrets.read("db"),
        lambda: secrets.put_value("db", token=token(2), value=text("x")),
        lambda: secrets.update("db", description="x"),
        lambda: secrets.move_stage("db", "blue", move_to=token(1)),
        lambda: secrets.set_policy("db", None),
        lambda: secrets.tag("db", {"a": ""}),
        lambda: secrets.untag("db", ["a"]),
    ):
        with pytest.raises(SecretNotUsable, match="on the secret because it was marked for deletion"):
            use()
    with pytest.raises(SecretNotUsable, match="already scheduled for deletion"):
        secrets.mark_deleted("db", after_days=7)
    with pytest.raises(SecretNotUsable, match="a secret with this name is already scheduled for deletion"):
        secrets.create("db", token=token(1), value=text("one"))


def test_a_marked_secret_can_be_restored(store: Store, secrets: Secrets) -> None:
    secrets.mark_deleted("db", after_days=7)
    store.now += 7 * DAY - 1
    secrets.restore("db")
    secrets.restore("db")
    store.now += DAY
    assert store.current() == "one"
    assert secrets.find("db").delete_due_at is None


def test_when_its_window_is_over_it_is_gone_for_everybody(store: Store, secrets: Secrets) -> None:
    secrets.tag("db", {"a": "1"})
    arn = secrets.find("db").arn
    secrets.mark_deleted("db", after_days=7)
    store.now += 7 * DAY
    for gone in (secrets.find, secrets.read, secrets.restore, secrets.delete):
        with pytest.raises(SecretUnknown):
            gone(arn)
    assert store.count() == (1, 1, 1, 1)
    secrets.purge()
    assert store.count() == (0, 0, 0, 0)
    secrets.purge()


def test_its_name_is_free_again(store: Store, secrets: Secrets) -> None:
    arn = secrets.find("db").arn
    secrets.mark_deleted("db", after_days=7)
    store.now += 7 * DAY
    assert secrets.create("db", token=token(1), value=None, tags={"a": "1"}).arn != arn
    assert secrets.find("db").versions == ()
    secrets.delete("db")
    assert store.count() == (0, 0, 0, 0)
    assert secrets.create("db", token=token(1), value=text("new")).arn != arn
    with pytest.raises(SecretUnknown):
        secrets.find(arn)


def test_force_also_removes_what_is_marked(store: Store, secrets: Secrets) -> None:
    secrets.mark_deleted("db", after_days=30)
    secrets.delete("db")
    assert store.count() == (0, 0, 0, 0)


def test_a_change_is_seen_by_another_worker_at_once(store: Store, secrets: Secrets, tmp_path: Path) -> None:
    database = Database.open(tmp_path / "catalog.sqlite")
    try:
        other = Secrets(database, Sealer(MasterKeys(tmp_path / "key", {})), account=ACCOUNT, region="eu-west-1")
        assert other.read("db").value == text("one")
        secrets.put_value("db", token=token(2), value=text("two"))
        assert other.read("db").value == text("two")
    finally:
        database.close()
