"""A plan in a file: applied if it is still the plan, refused otherwise."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import Declaration, Rule
from pullthrough.errors import ConfigurationError, PlanOutdated
from pullthrough.fingerprints import Fingerprints
from pullthrough.provision.execution.saved import check_saved, options_of, read_plan, write_plan
from pullthrough.provision.model.plan import Options
from tests.deployments import DEFAULT, FULL, HUB, HUB_SECRET, TOKENS, USERNAME, World, fake_with_roles, secret_text


@pytest.fixture
def world() -> World:
    world = World(fake_with_roles())
    world.apply(replace(DEFAULT, tags={"team": "a"}))
    world.tokens = {**TOKENS, HUB: "dckr_pat_S3CR3T-number-two"}
    return world


def saved(world: World, folder: Path, declaration: Declaration = FULL, **options: Any) -> dict[str, Any]:
    path = folder / "plan.json"
    write_plan(path, world.plan(declaration, **options))
    return read_plan(path)


def test_a_plan_is_the_same_when_it_is_made_again(world: World, tmp_path: Path) -> None:
    document = saved(world, tmp_path)
    assert document["steps"]
    check_saved(document, world.plan(FULL))


def test_a_plan_of_everything_survives_its_file(tmp_path: Path) -> None:
    world = World(fake_with_roles())
    check_saved(saved(world, tmp_path), world.plan(FULL))


CHANGES: dict[str, tuple[Callable[[World], object], str]] = {
    "a rule": (lambda world: world.send.add_rule("gitlab", "quay.io"), "rule:gitlab"),
    "a template": (lambda world: world.send.ecr.templates["quay"].update(description="?"), "template:quay"),
    "a secret": (
        lambda world: world.send.secret(HUB_SECRET).put("0" * 32, secret_text(USERNAME, "other"), world.send.now),
        f"secret:{HUB_SECRET}",
    ),
    "a credential": (lambda world: setattr(world, "tokens", TOKENS), f"secret:{HUB_SECRET}"),
    "the registry's policy": (
        lambda world: setattr(
            world.send.ecr, "registry_policy", '{"Statement": [{"Sid": "PullthroughAccountsOfpullthrough"}]}'
        ),
        "registry policy:registry",
    ),
    "scanning": (
        lambda world: world.send.ecr.scanning["rules"].append(
            {"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "quay/*", "filterType": "WILDCARD"}]}
        ),
        "scanning:registry",
    ),
    "the nodes' rights": (
        lambda world: world.send.iam.roles["nodes"]["policies"].update({"pullthrough-pullthrough": {"Statement": []}}),
        "node access:nodes",
    ),
    "a rule that is not declared": (lambda world: world.send.add_rule("new", "quay.io"), "what it says beside"),
    "the key": (
        lambda world: setattr(world, "fingerprints", Fingerprints(Path("/nowhere"), random_bytes=bytes)),
        "it was made on another machine, or by another user",
    ),
    "the account": (
        lambda world: setattr(world, "target", replace(world.target, account="111111111111")),
        "it was made for 123456789012 eu-central-1, and this is 111111111111 eu-central-1",
    ),
    "the region": (lambda world: setattr(world, "target", replace(world.target, region="us-east-1")), "us-east-1"),
    "the endpoint": (lambda world: setattr(world, "target", replace(world.target, endpoint="http://h")), "http://h"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_plan_is_refused_when_something_has_changed_since(what: str, world: World, tmp_path: Path) -> None:
    change, words = CHANGES[what]
    document = saved(world, tmp_path)
    change(world)
    plan = world.plan(FULL)
    with pytest.raises(PlanOutdated, match="the saved plan is not applied") as caught:
        check_saved(document, plan)
    assert words in caught.value.message
    assert "pullthrough plan --out" in caught.value.hint
    assert "S3CR3T" not in caught.value.message


@pytest.mark.parametrize(
    "declaration",
    [
        replace(FULL, tags={}),
        replace(FULL, name="other"),
        replace(FULL, rules=(*FULL.rules, Rule("new", "quay.io"))),
        replace(FULL, templates={}),
    ],
)
def test_a_plan_of_another_declaration_is_refused(declaration: Declaration, world: World, tmp_path: Path) -> None:
    document = saved(world, tmp_path)
    with pytest.raises(PlanOutdated):
        check_saved(document, world.plan(declaration))


def test_a_plan_to_destroy_is_not_applied_as_another(world: World, tmp_path: Path) -> None:
    with pytest.raises(PlanOutdated, match="for another purpose"):
        check_saved(
            saved(world, tmp_path), replace(world.plan_destroy(FULL), fingerprint_key=world.fingerprints.key_id)
        )


def test_what_was_consented_to_is_kept(world: World, tmp_path: Path) -> None:
    options = Options(replace=True, adopt=(f"secret:{HUB_SECRET}",), prune=("x",), existing=True)
    document = json.loads(json.dumps({"options": options.as_json()}))
    assert options_of(document) == options
    assert options_of(saved(world, tmp_path)) == Options()


@pytest.mark.parametrize("options", [None, [], {"replace": True, "more": 1}])
def test_options_of_another_version_are_refused(options: object) -> None:
    with pytest.raises(ConfigurationError, match="not those of this version"):
        options_of({"options": options})


def test_a_saved_plan_holds_no_secret_and_only_its_owner_reads_it(world: World, tmp_path: Path) -> None:
    saved(world, tmp_path)
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "S3CR3T" not in file.read_text()


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "1", "{}", '{"format": 2, "steps": []}', '{"format": 1}', "[" * 100_000]
)
def test_what_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigurationError, match="is no plan"):
        read_plan(tmp_path / "plan.json")


def test_a_file_that_is_not_there_or_can_not_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_plan(tmp_path / "absent")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_plan(tmp_path / "absent" / "plan.json", World(fake_with_roles()).plan(DEFAULT))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("steps", ["x", [1], [{"id": [1]}], [{"name": "no id"}], None])
def test_a_saved_plan_that_was_edited_is_refused(steps: object, world: World, tmp_path: Path) -> None:
    document = saved(world, tmp_path) | {"steps": steps}
    with pytest.raises(PlanOutdated):
        check_saved(document, world.plan(FULL))
