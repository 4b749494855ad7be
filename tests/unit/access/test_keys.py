"""API keys: configured and made, sealed at rest, obeyed at once by every worker, shown once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pullthrough.access.api_keys.records import KeyEntry, KeyList, RemovedKey
from pullthrough.access.policy.documents import PolicyInvalid
from pullthrough.access.policy.statements import PolicyDecision
from pullthrough.errors import AlreadyExists, ConfigurationError, ContentUnknown, RequestError, SealingKeyMissing
from tests.unit.access.conftest import House
from tests.unit.access.test_policies import request

CONFIGURED = """
[ecr.keys.ci]
access_key_id = "AKIACI"
secret_access_key_file = "secret"
role = "admin"
"""
POLICY = {"Statement": {"Effect": "Allow", "Action": "ecr:PutImage", "Resource": "*"}}


async def test_the_first_key_is_made_when_it_is_asked_for_and_shown_once(house: House) -> None:
    worker = house.worker()
    assert worker.administration.list() == KeyList(())
    shown = worker.administration.show()
    assert (shown.name, shown.role, shown.created_at) == ("admin", "admin", "2027-01-15T08:00:00Z")
    found = await worker.keys.find(shown.access_key_id)
    assert found is not None
    assert found.secret == shown.secret_access_key.encode()
    assert found.policies[0].decide(request("ecr:DeleteRepository")) is PolicyDecision.ALLOW
    with pytest.raises(AlreadyExists, match="shown once") as caught:
        worker.administration.show()
    assert "keys renew" in caught.value.hint
    (listed,) = worker.administration.list().keys
    assert listed == KeyEntry(shown.name, shown.access_key_id, shown.role, shown.created_at)


async def test_a_key_that_is_made_renewed_or_removed_is_so_for_every_worker_at_once(house: House) -> None:
    one, other = house.worker(), house.worker()
    made = one.administration.create("bob", "pull")
    key_id = made.access_key_id
    assert [await w.keys.find("AKIANOBODY") for w in (one, other)] == [None, None]
    for worker in (one, other):
        found = await worker.keys.find(key_id)
        assert found is not None
        assert (found.name, found.secret) == ("bob", made.secret_access_key.encode())
    renewed = other.administration.renew("bob")
    assert renewed.access_key_id == key_id
    assert renewed.secret_access_key != made.secret_access_key
    for worker in (one, other):
        found = await worker.keys.find(key_id)
        assert found is not None
        assert found.secret == renewed.secret_access_key.encode()
    assert one.administration.remove("bob") == RemovedKey("bob", True)
    assert [await w.keys.find(key_id) for w in (one, other)] == [None, None]


async def test_no_secret_half_is_in_the_data_folder_or_a_repr(house: House) -> None:
    worker = house.worker()
    made = [worker.administration.show(), worker.administration.create("bob", "pull")]
    key = await worker.keys.find(made[0].access_key_id)
    stored = b"".join(path.read_bytes() for path in house.folder.glob("catalog*"))
    for entry in made:
        assert entry.secret_access_key.encode() not in stored
        assert entry.secret_access_key not in repr((key, worker.stored.list()))


async def test_a_key_may_have_a_policy_of_its_own(house: House) -> None:
    worker = house.worker()
    made = worker.administration.create("pusher", json.dumps(POLICY))
    assert made.role == "policy"
    found = await worker.keys.find(made.access_key_id)
    assert found is not None
    assert found.policies[0].decide(request("ecr:PutImage")) is PolicyDecision.ALLOW
    assert found.policies[0].decide(request("ecr:BatchGetImage")) is PolicyDecision.NONE
    with pytest.raises(PolicyInvalid):
        worker.administration.create("other", "superuser")


async def test_a_policy_that_an_earlier_version_took_denies(house: House, caplog: pytest.LogCaptureFixture) -> None:
    worker = house.worker()
    refused = {
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:PrincipalTag/x": "y"}},
    }
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    text = json.dumps({"Version": "2012-10-17", "Statement": [allowed, refused]})
    with pytest.raises(PolicyInvalid, match="would never apply"):
        worker.administration.create("bob", text)
    worker.stored.add("bob", text, "AKIABOB", b"hunter2hunter2", 0.0)
    for _ in range(2):
        key = await worker.keys.find("AKIABOB")
        assert key is not None
        assert [policy.decide(request("ecr:PutImage")) for policy in key.policies] == [PolicyDecision.DENY]
    assert caplog.text.count("the key bob may do nothing, because its policy is refused") == 1


@pytest.mark.parametrize("name", ["", "a b", "a/b", "é", "x" * 65, "../x"])
def test_names_that_keys_cannot_have(house: House, name: str) -> None:
    with pytest.raises(RequestError, match="1 to 64 letters"):
        house.worker().administration.create(name, "pull")


def test_two_keys_of_one_name_are_refused(house: House) -> None:
    administration = house.worker().administration
    administration.create("bob", "pull")
    with pytest.raises(AlreadyExists, match="'bob'"):
        administration.create("bob", "admin")
    # The first key is only made where there is none of any name.
    with pytest.raises(AlreadyExists):
        administration.show()


@pytest.mark.parametrize("action", ["renew", "remove"])
def test_a_key_that_is_not_there_is_named(house: House, action: str) -> None:
    with pytest.raises(ContentUnknown, match="'bob'"):
        getattr(house.worker().administration, action)("bob")


async def test_without_the_encryption_key_it_is_said(house: House) -> None:
    key_id = house.worker().administration.show().access_key_id
    (house.folder / "data.key").unlink()
    with pytest.raises(SealingKeyMissing):
        await house.worker().keys.find(key_id)
    with pytest.raises(SealingKeyMissing):
        house.worker().administration.create("bob", "pull")


# Keys of the settings


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("hunter2hunter2\n")
    return path


async def test_a_configured_key_is_found_and_its_files_are_read_again(house: House, secret: Path) -> None:
    worker = house.worker(CONFIGURED)
    found = await worker.keys.find("AKIACI")
    assert found is not None
    assert (found.name, found.secret) == ("ci", b"hunter2hunter2")
    assert found.policies[0].decide(request("ecr:DeleteRepository")) is PolicyDecision.ALLOW
    secret.write_text("hunter3hunter3")
    os.utime(secret, (1, 1))
    found = await worker.keys.find("AKIACI")
    assert found is not None
    assert found.secret == b"hunter3hunter3"
    assert "hunter3" not in repr((found, worker.settings))


def test_a_configured_policy_that_is_not_taken_keeps_the_engine_from_starting(house: House, secret: Path) -> None:
    (house.folder / "policy.json").write_text(
        json.dumps({"Statement": {**POLICY["Statement"], "Condition": {"Null": {"aws:PrincipalTag/x": "true"}}}})
    )
    with pytest.raises(ConfigurationError, match="is not a policy: the Condition of statement 1 has the key"):
        house.worker(CONFIGURED.replace('role = "admin"', 'policy_file = "policy.json"'))


async def test_a_configured_policy_is_read_again_and_a_broken_one_is_not_taken(
    house: House, secret: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = house.folder / "policy.json"
    policy.write_text(json.dumps(POLICY))
    worker = house.worker(CONFIGURED.replace('role = "admin"', 'policy_file = "policy.json"'))

    async def may(action: str) -> bool:
        found = await worker.keys.find("AKIACI")
        assert found is not None
        return found.policies[0].decide(request(action)) is PolicyDecision.ALLOW

    assert [await may("ecr:PutImage"), await may("ecr:BatchGetImage")] == [True, False]
    policy.write_text(json.dumps(POLICY).replace("PutImage", "BatchGetImage"))
    assert [await may("ecr:PutImage"), await may("ecr:BatchGetImage")] == [False, True]
    policy.write_text("{")
    assert [await may("ecr:PutImage"), await may("ecr:BatchGetImage")] == [False, True]
    assert "ecr.keys.ci.policy_file: the file is not a policy" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("secret", "", "ecr.keys.ci.secret_access_key_file: the file does not hold one secret access key"),
        ("secret", "two words12", "does not hold one secret access key"),
        ("policy.json", "{}", "ecr.keys.ci.policy_file: the file is not a policy: it has no Statement"),
    ],
)
def test_a_configured_key_that_cannot_be_used_keeps_the_engine_from_starting(
    house: House, secret: Path, name: str, content: str, sentence: str
) -> None:
    (house.folder / "policy.json").write_text(json.dumps(POLICY))
    (house.folder / name).write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        house.worker(CONFIGURED.replace('role = "admin"', 'policy_file = "policy.json"'))
    assert sentence in caught.value.message
    assert "two words" not in caught.value.message


def test_configured_keys_are_listed_and_changed_in_the_settings_only(house: House, secret: Path) -> None:
    administration = house.worker(CONFIGURED).administration
    administration.create("bob", "pull")
    names = [(entry.name, entry.created_at is None) for entry in administration.list().keys]
    assert names == [("bob", False), ("ci", True)]
    with pytest.raises(AlreadyExists, match="the settings have"):
        administration.create("ci", "pull")
    for action in ("renew", "remove"):
        with pytest.raises(RequestError, match="is in the settings"):
            getattr(administration, action)("ci")
    with pytest.raises(RequestError, match="the settings have API keys"):
        administration.show()
