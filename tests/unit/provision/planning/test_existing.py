"""Repositories that are there: which differ from their template, and how they are brought up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import ROOT, Declaration, Encryption, Rule, Template
from pullthrough.errors import ActionDenied
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.owners import OWNER_TAG
from pullthrough.provision.execution.repositories import apply_repository, delete_repository
from pullthrough.provision.model import documents
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.observed import ImageCount, Repository
from pullthrough.provision.model.plan import StepAction
from pullthrough.provision.model.policies import normal_document
from pullthrough.provision.model.resources import Desired, Existing, Json, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.coverage import covered_notes, deletion_steps
from pullthrough.provision.observation.repositories import count_images, read_repositories
from pullthrough.provision.planning.existing import existing_notes, existing_steps
from tests.unit.provision.scripted import ScriptedAws, denied, missing

ACCOUNT = "123456789012"
TARGET = DeploymentTarget(ACCOUNT, "us-east-1")
#: As a repository is that was made with the default template.
IN_LINE: dict[str, Json] = {
    "imageTagMutability": "MUTABLE",
    "imageTagMutabilityExclusionFilters": [],
    "encryptionType": "AES256",
    "kmsKey": "",
    "lifecyclePolicy": documents.lifecycle_policy(200),
    "repositoryPolicy": None,
    "resourceTags": {},
}
NO_LIFECYCLE = missing("LifecyclePolicyNotFoundException")
NO_POLICY = missing("RepositoryPolicyNotFoundException")
GONE = missing("RepositoryNotFoundException")


def arn(name: str) -> str:
    return f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}"


def repository(name: str, prefix: str = "quay", *, is_cached: bool = True, **changed: Json) -> Repository:
    return Repository(name, arn(name), prefix, {**IN_LINE, **changed}, is_cached=is_cached)


def altered(changed: Mapping[str, Json]) -> Repository:
    there = repository("quay/a")
    return replace(there, attributes={**there.attributes, **changed})


def desired(*prefixes: str, **template: Any) -> Desired:
    rules = tuple(Rule(prefix, "quay.io") for prefix in prefixes or ("quay",))
    templates = {rule.prefix: Template(**template) for rule in rules}
    fingerprints = Fingerprints(Path("/nowhere"), lambda count: b"k" * count)
    engine = DeploymentTarget(ACCOUNT, "us-east-1", "http://127.0.0.1:5000", is_engine=True)
    return build_desired(Declaration(rules=rules, templates=templates), {}, fingerprints, engine)


# Reading


def listed(*names: str) -> dict[str, Any]:
    return {
        "repositories": [
            {
                "repositoryName": name,
                "repositoryArn": arn(name),
                "createdAt": datetime.fromtimestamp(1_700_000_000, UTC),
                "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [
                    {"filterType": "WILDCARD", "filter": "v*"},
                    {"filterType": "WILDCARD", "filter": "a*"},
                ],
                "encryptionConfiguration": {"encryptionType": "KMS", "kmsKey": "arn:aws:kms:key"},
            }
            for name in names
        ]
    }


def reading(*names: str, **answers: Any) -> ScriptedAws:
    return ScriptedAws(
        {
            "DescribeRepositories": listed(*names),
            "GetLifecyclePolicy": {"lifecyclePolicyText": '{"rules": []}'},
            "GetRepositoryPolicy": NO_POLICY,
            "ListTagsForResource": {"tags": [{"Key": "team", "Value": "a"}, {"Key": "aws:x", "Value": "b"}]},
            **answers,
        }
    )


def test_only_repositories_under_the_rules_are_read() -> None:
    script = reading("quay/b", "own/app", "quay/a", "quay")
    found = read_repositories(script.aws, ["quay", "github"])
    assert [entry.name for entry in found] == ["quay/a", "quay/b"]
    assert found[0] == Repository(
        "quay/a",
        arn("quay/a"),
        "quay",
        {
            "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": ["a*", "v*"],
            "encryptionType": "KMS",
            "kmsKey": "arn:aws:kms:key",
            "lifecyclePolicy": {"rules": []},
            "repositoryPolicy": None,
            "resourceTags": {"team": "a"},
        },
        created_at=1_700_000_000.0,
    )
    assert len(script.calls) == 1 + 2 * 3


def test_reading_goes_through_all_pages() -> None:
    def page(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if "nextToken" not in params:
            return {**listed("quay/a"), "nextToken": "more"}
        assert params["nextToken"] == "more"
        return listed("quay/b")

    found = read_repositories(reading(DescribeRepositories=page).aws, ["quay"])
    assert [entry.name for entry in found] == ["quay/a", "quay/b"]


def test_a_repository_that_goes_away_meanwhile_is_left_out() -> None:
    assert read_repositories(reading("quay/a", GetLifecyclePolicy=GONE).aws, ["quay"]) == []


def test_without_rules_nothing_is_asked() -> None:
    script = ScriptedAws({})
    assert read_repositories(script.aws, []) == []
    assert deletion_steps(script.aws, []) == ([], [])
    assert covered_notes(script.aws, [], ["quay"], is_engine=True) == []
    assert not script.calls


def test_under_root_nothing_is_taken_for_cached_unless_told() -> None:
    script = reading("own/app", "quay/app")
    assert [entry.is_cached for entry in read_repositories(script.aws, [ROOT, "quay"])] == [False, True]
    assert all(entry.is_cached for entry in read_repositories(script.aws, [ROOT], root_is_cached=True))


def test_a_right_that_is_missing_is_named() -> None:
    script = reading("quay/a", ListTagsForResource=denied("ecr:ListTagsForResource"))
    with pytest.raises(ActionDenied, match="ecr:ListTagsForResource"):
        read_repositories(script.aws, ["quay"])


# What differs


def test_what_is_in_line_needs_no_step() -> None:
    assert existing_steps(desired(), [repository("quay/a")]) == []
    assert existing_notes(desired(), [repository("quay/a")]) == []


@pytest.mark.parametrize(
    ("changed", "template"),
    [
        ({"imageTagMutability": "IMMUTABLE"}, {}),
        ({"lifecyclePolicy": None}, {}),
        ({"lifecyclePolicy": documents.lifecycle_policy(5)}, {}),
        ({"repositoryPolicy": {"Version": "2012-10-17", "Statement": []}}, {}),
        ({"repositoryPolicy": "not JSON"}, {}),
        ({}, {"resource_tags": {"team": "a"}}),
        ({"resourceTags": {"team": "b"}}, {"resource_tags": {"team": "a"}}),
        ({}, {"tag_mutability_exclusions": ("v*",)}),
    ],
)
def test_each_difference_is_a_step(changed: dict[str, Json], template: dict[str, Any]) -> None:
    (step,) = existing_steps(desired(**template), [altered(changed)])
    assert (step.key, step.action, step.arn) == (
        Key(ResourceKind.REPOSITORY, "quay/a"),
        StepAction.UPDATE,
        arn("quay/a"),
    )
    assert step.needs == (Key(ResourceKind.TEMPLATE, "quay"),)
    assert "the template of quay" in step.reason
    # Applied, there is nothing more to do.
    assert step.after is not None
    assert existing_steps(desired(**template), [altered(step.after)]) == []


def test_tags_of_others_stay() -> None:
    (step,) = existing_steps(
        desired(resource_tags={"team": "a"}), [repository("quay/a", resourceTags={"cost": "1", "team": "b"})]
    )
    assert step.after is not None
    assert step.after["resourceTags"] == {"cost": "1", "team": "a"}
    assert existing_steps(desired(), [repository("quay/a", resourceTags={"cost": "1"})]) == []


def test_a_policy_written_otherwise_is_the_same() -> None:
    wanted = desired(pull_accounts=("210987654321",))
    policy = wanted.of(ResourceKind.TEMPLATE)[0].attributes["repositoryPolicy"]
    text = json.loads(json.dumps(policy))
    text["Statement"] = {
        **text["Statement"][0],
        "Action": list(reversed(text["Statement"][0]["Action"])),
        "Principal": {"AWS": "arn:aws:iam::210987654321:root"},
    }
    assert text != policy
    assert normal_document(text) == normal_document(policy)
    assert existing_steps(wanted, [repository("quay/a", repositoryPolicy=text)]) == []


def test_the_nearest_template_counts_and_others_templates_shadow() -> None:
    """A repository under a nearer template that is not declared was rightly made otherwise."""
    key = Key(ResourceKind.TEMPLATE, "quay/team")
    theirs = Existing(key, {"appliedFor": ["PULL_THROUGH_CACHE"]})
    for_pushes = Existing(key, {"appliedFor": ["CREATE_ON_PUSH"]})
    differing = repository("quay/team/app", lifecyclePolicy=None)
    assert existing_steps(desired(), [differing], [theirs]) == []
    assert len(existing_steps(desired(), [differing], [for_pushes])) == 1


def test_a_rule_without_a_template_falls_to_roots() -> None:
    wanted = desired(ROOT)
    (step,) = existing_steps(wanted, [repository("other/app", "other", lifecyclePolicy=None)])
    assert step.needs == (Key(ResourceKind.TEMPLATE, ROOT),)
    assert existing_steps(desired("quay"), [repository("other/app", "other", lifecyclePolicy=None)]) == []


def test_under_root_what_may_be_somebodys_own_is_left_alone_and_said() -> None:
    own = [repository(f"own/{name}", ROOT, is_cached=False, lifecyclePolicy=None) for name in "ab"]
    assert existing_steps(desired(ROOT), own) == []
    (note,) = existing_notes(desired(ROOT), own)
    assert note.startswith("2 repositories are under no other prefix than ROOT")


def test_encryption_that_differs_is_a_note_and_no_step() -> None:
    wanted = desired(encryption=Encryption.KMS)
    plain = repository("quay/a")
    assert existing_steps(wanted, [plain]) == []
    (note,) = existing_notes(wanted, [plain])
    assert "quay/a is encrypted with AES256, not KMS" in note
    # AWS says which key its own is.
    assert existing_notes(wanted, [repository("quay/a", encryptionType="KMS", kmsKey="arn:aws:kms:key")]) == []


# Carrying out


def test_a_step_makes_the_calls_of_what_differs_only() -> None:
    differences: list[tuple[dict[str, Json], str]] = [
        ({"imageTagMutability": "IMMUTABLE"}, "PutImageTagMutability"),
        ({"lifecyclePolicy": None}, "PutLifecyclePolicy"),
        ({"repositoryPolicy": {"Statement": []}}, "DeleteRepositoryPolicy"),
    ]
    for changed, operation in differences:
        script = ScriptedAws({}, default={})
        (step,) = existing_steps(desired(), [altered(changed)])
        apply_repository(script.aws, TARGET, step)
        assert [(name, params["repositoryName"]) for _, name, params in script.calls] == [(operation, "quay/a")]


def test_what_is_sent_is_what_the_template_says() -> None:
    wanted = desired(
        keep_images=5,
        tag_mutability_exclusions=("v*",),
        pull_accounts=("210987654321",),
        resource_tags={"team": "a", "stage": "b"},
    )
    script = ScriptedAws({}, default={})
    (step,) = existing_steps(wanted, [repository("quay/a", resourceTags={"stage": "b", "other": "c"})])
    apply_repository(script.aws, TARGET, step)
    template = wanted.of(ResourceKind.TEMPLATE)[0].attributes
    assert script.params("PutImageTagMutability") == [
        {
            "repositoryName": "quay/a",
            "imageTagMutability": "MUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{"filterType": "WILDCARD", "filter": "v*"}],
        }
    ]
    (lifecycle,), (policy,) = script.params("PutLifecyclePolicy"), script.params("SetRepositoryPolicy")
    assert json.loads(lifecycle["lifecyclePolicyText"]) == template["lifecyclePolicy"]
    assert json.loads(policy["policyText"]) == template["repositoryPolicy"]
    assert script.params("TagResource") == [{"resourceArn": arn("quay/a"), "tags": [{"Key": "team", "Value": "a"}]}]


def test_taking_away_what_is_gone_already_is_done() -> None:
    wanted = desired(keep_images=None)
    repositories = [repository("quay/a", repositoryPolicy={"Statement": []})]
    (step,) = existing_steps(wanted, repositories)
    script = ScriptedAws({"DeleteLifecyclePolicy": NO_LIFECYCLE, "DeleteRepositoryPolicy": NO_POLICY})
    apply_repository(script.aws, TARGET, step)
    assert script.count("DeleteLifecyclePolicy") == script.count("DeleteRepositoryPolicy") == 1


def test_a_repository_that_is_gone_needs_nothing() -> None:
    (step,) = existing_steps(desired(), [repository("quay/a", lifecyclePolicy=None)])
    apply_repository(ScriptedAws({}, default=GONE).aws, TARGET, step)


# Taking away


def test_images_are_counted_over_all_pages() -> None:
    def page(params: Mapping[str, Any]) -> Mapping[str, Any]:
        more = {} if "nextToken" in params else {"nextToken": "more"}
        return {"imageDetails": [{"imageSizeInBytes": 5}, {}], **more}

    assert count_images(ScriptedAws({"DescribeImages": page}).aws, "quay/a") == ImageCount(4, 10)
    assert count_images(ScriptedAws({"DescribeImages": GONE}).aws, "quay/a") == ImageCount(0, 0)


def test_deletions_count_what_goes_and_wait_for_the_rule() -> None:
    script = ScriptedAws(
        {
            "DescribeRepositories": listed("quay/a", "own/app"),
            "DescribeImages": {"imageDetails": [{"imageSizeInBytes": 5}]},
        }
    )
    (step,), notes = deletion_steps(script.aws, ["quay"])
    assert notes == []
    assert (step.key.name, step.action, step.after) == ("quay/a", StepAction.DELETE, None)
    assert step.needs == (Key(ResourceKind.RULE, "quay"),)
    assert step.details == {"images": 1, "bytes": 5}


def test_nothing_under_root_is_deleted_that_may_be_somebodys_own() -> None:
    script = ScriptedAws({"DescribeRepositories": listed("own/app", "quay/a"), "DescribeImages": {"imageDetails": []}})
    assert [step.key.name for step in deletion_steps(script.aws, [ROOT, "quay"])[0]] == ["quay/a"]


def test_an_engine_says_which_repositories_are_its_own_and_those_stay() -> None:
    def tags(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if params["resourceArn"] == arn("quay/gone"):
            raise GONE
        own = params["resourceArn"] in (arn("own/app"), arn("quay/mine"))
        return {"tags": [{"Key": OWNER_TAG, "Value": "own"}] if own else []}

    script = reading(
        "own/app",
        "other/app",
        "quay/a",
        "quay/gone",
        "quay/mine",
        ListTagsForResource=tags,
        DescribeImages={"imageDetails": []},
    )
    steps, notes = deletion_steps(script.aws, [ROOT, "quay"], is_engine=True)
    assert [step.key.name for step in steps] == ["other/app", "quay/a", "quay/gone"]
    assert notes == ["own/app, quay/mine: pushed before there was the rule, and left as that is"]
    found = read_repositories(script.aws, [ROOT, "quay"], root_is_cached=True)
    assert [entry.name for entry in found if entry.is_own] == ["own/app", "quay/mine"]
    assert [entry.name for entry in found if entry.is_cached] == ["other/app", "quay/a"]
    assert all(step.key.name not in ("own/app", "quay/mine") for step in existing_steps(desired(ROOT), found))
    assert notes[0] in existing_notes(desired(ROOT), found)


def test_what_a_new_rule_will_cover_is_said() -> None:
    script = reading("quay/a", "quay/b", "own/app", "github/x/y", *(f"many/{number:02}" for number in range(12)))
    (note,) = covered_notes(script.aws, ["quay"], [], is_engine=False)
    assert note.startswith("the rule quay will cover repositories that are there already: quay/a, quay/b; pulls by")
    root, many = covered_notes(script.aws, [ROOT, "many"], ["quay", "github"], is_engine=True)
    assert "already: own/app; those that were pushed, not pulled, stay the registry's own" in root
    assert "many/09 and 2 more;" in many
    assert covered_notes(script.aws, ["kubernetes"], ["quay"], is_engine=True) == []


def test_deleting_takes_the_images_too_and_may_be_repeated() -> None:
    script = ScriptedAws({"DeleteRepository": {}})
    delete_repository(script.aws, "quay/a")
    assert script.params("DeleteRepository") == [{"repositoryName": "quay/a", "force": True}]
    delete_repository(ScriptedAws({"DeleteRepository": GONE}).aws, "quay/a")
