"""For any two declarations, and whatever somebody else has in the account."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.declaration import (
    ROOT,
    CredentialSource,
    Declaration,
    Encryption,
    NodeAccess,
    Rule,
    ScanFrequency,
    TagMutability,
    Template,
)
from pullthrough.provision.model.resources import MARKER_TAG
from tests.deployments import ECR_HOST, GITLAB, HUB, KMS_KEY, USERNAME, World
from tests.effort import examples
from tests.fakes.aws import ACCOUNT, FakeAws

PREFIXES = ("docker-hub", "github", "quay", "a.b__c", "team/x", "zz", ROOT)
NODES = ("nodes-a", "nodes-b")
ACCOUNTS = ("210987654321", "111122223333")
CREDENTIAL = CredentialSource(USERNAME, access_token_env="TOKEN")
#: An upstream, what its rule says beside, and whether AWS has it.
UPSTREAMS: tuple[tuple[str, dict[str, Any], bool], ...] = (
    (HUB, {}, True),
    ("ghcr.io", {}, True),
    (GITLAB, {"credential": CREDENTIAL}, True),
    ("quay.io", {}, True),
    ("registry.k8s.io", {}, True),
    (ECR_HOST, {"custom_role_arn": f"arn:aws:iam::{ACCOUNT}:role/reader"}, True),
    (ECR_HOST, {"upstream_repository_prefix": "shared"}, True),
    ("registry.example.org", {}, False),
    ("registry.example.org", {"credential": CREDENTIAL}, False),
    (HUB, {"anonymous": True}, False),
)
tags = st.dictionaries(st.sampled_from(["team", "cost", "ä"]), st.sampled_from(["", "1", "x y"]), max_size=2)
templates = st.builds(
    Template,
    enabled=st.booleans(),
    keep_images=st.sampled_from([None, 5, 200]),
    tag_mutability=st.sampled_from(TagMutability),
    tag_mutability_exclusions=st.sampled_from([(), ("latest",), ("v*", "latest")]),
    resource_tags=tags,
    encryption=st.sampled_from([Encryption.AES256, Encryption.KMS]),
    kms_key=st.just(""),
    pull_accounts=st.sampled_from([(), ACCOUNTS[:1]]),
    pull_organization=st.sampled_from(["", "o-abcdefghij"]),
    role_arn=st.sampled_from(["", f"arn:aws:iam::{ACCOUNT}:role/given"]),
).map(lambda template: replace(template, kms_key=KMS_KEY) if template.encryption is Encryption.KMS else template)
accesses = st.builds(
    NodeAccess,
    node_roles=st.sampled_from([(), NODES[:1], NODES]),
    pull_accounts=st.sampled_from([(), ACCOUNTS[:1], ACCOUNTS]),
    pull_organization=st.sampled_from(["", "o-abcdefghij"]),
)


@st.composite
def declarations(draw: st.DrawFn, *, is_engine: bool) -> Declaration:
    rules = []
    for prefix in draw(st.lists(st.sampled_from(PREFIXES), unique=True, max_size=5)):
        upstream, more, on_aws = draw(st.sampled_from(UPSTREAMS))
        if (on_aws or is_engine) and not (prefix == ROOT and "upstream_repository_prefix" in more):
            name = draw(st.sampled_from(["", f"ecr-pullthroughcache/own/{prefix}"]))
            rules.append(Rule(prefix, upstream, secret_name=name, **more))
    return Declaration(
        rules=tuple(rules),
        templates={rule.prefix: draw(templates) for rule in rules if draw(st.booleans())},
        access=draw(accesses),
        scan_frequency=draw(st.sampled_from([None, ScanFrequency.ON_PUSH, ScanFrequency.CONTINUOUS])),
        tags=draw(tags),
    )


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bool, Declaration, Declaration]:
    is_engine = draw(st.booleans())
    return is_engine, draw(declarations(is_engine=is_engine)), draw(declarations(is_engine=is_engine))


def account(*, is_engine: bool) -> FakeAws:
    fake = FakeAws(is_engine=is_engine)
    fake.ecr.scanning["scanType"] = "ENHANCED"
    for name in NODES:
        fake.add_role(name, own={"Version": "2012-10-17", "Statement": []})
    return fake


def change(world: World, declaration: Declaration, before: Declaration) -> None:
    prune = {rule.prefix for rule in before.rules} - {rule.prefix for rule in declaration.rules}
    world.apply(declaration, replace=True, prune=tuple(sorted(prune)))


def without_history(state: dict[str, Any]) -> dict[str, Any]:
    """A secret that was there before may have had other values; filters have no order."""
    for secret in state["secrets"].values():
        del secret["versions"]
    for rule in state["scanning"]["rules"]:
        rule["repositoryFilters"].sort(key=json.dumps)
    state["scanning"]["rules"].sort(key=json.dumps)
    return state


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(pairs())
def test_what_was_there_before_of_ours_makes_no_difference(pair: tuple[bool, Declaration, Declaration]) -> None:
    is_engine, first, second = pair
    world = World(account(is_engine=is_engine))
    world.apply(first)
    change(world, second, first)
    fresh = World(account(is_engine=is_engine))
    fresh.apply(second)
    assert without_history(world.send.state(deleted_secrets=False)) == without_history(fresh.send.state())
    world.send.forget_calls()
    assert world.apply(second).is_empty
    assert world.send.writes == []
    world.destroy(second)
    empty = account(is_engine=is_engine).state()
    assert world.send.state(deleted_secrets=False) == empty
    assert world.plan_destroy(second).is_empty


#: What of the above somebody else may have there, too.
STATEMENTS = (
    '{ "Sid":"Theirs","Effect":"Allow",\n"Principal":{"AWS":"1"},"Action":[ "ecr:CreateRepository" ] }',
    '{"Effect":"Deny","Principal":"*","Action":"ecr:ReplicateImage","Resource":"\\u00e4,]}" }',
    '{"Sid":"PullthroughAccountsOfotherZone","Effect":"Allow","Principal":"*","Action":"ecr:CreateRepository"}',
)
POLICIES = (
    "",
    f'{{"Statement":{STATEMENTS[0]}}}',
    f'{{ "Version" :"2012-10-17", "Statement":[\n{STATEMENTS[0]} ,{STATEMENTS[1]}\t] , "Id" : "x"}}\n',
    f'{{"Statement": [{STATEMENTS[2]}], "Version": "2008-10-17"}}',
)
FILTERS = ("docker-hub/*", "quay/*", "zz/*", "*", "theirs*")


@st.composite
def strangers(draw: st.DrawFn, *, is_engine: bool) -> FakeAws:
    """An account in which others have things."""
    fake = account(is_engine=is_engine)
    for prefix in draw(st.lists(st.sampled_from(["theirs", "quay2", "team"]), unique=True)):
        fake.add_rule(prefix, draw(st.sampled_from([HUB, "quay.io"])))
    for prefix in draw(st.lists(st.sampled_from(["theirs", "other", "quay2"]), unique=True)):
        description = draw(st.sampled_from(["", "mine", "it; managed by pullthrough (other-one)"]))
        fake.add_template(prefix, description=description, imageTagMutability="IMMUTABLE")
    for name in draw(st.lists(st.sampled_from(["theirs", "ecr-pullthroughcache/theirs"]), unique=True)):
        marks = draw(st.sampled_from([{}, {MARKER_TAG: "other-one"}, {f"{MARKER_TAG}s": "pullthrough"}]))
        fake.add_secret(name, "theirs", tags=marks)
    fake.ecr.registry_policy = draw(st.sampled_from(POLICIES))
    frequencies = draw(st.lists(st.sampled_from(["SCAN_ON_PUSH", "CONTINUOUS_SCAN"]), unique=True))
    fake.ecr.scanning["rules"] = [
        {
            "scanFrequency": frequency,
            "repositoryFilters": [
                {"filter": text, "filterType": "WILDCARD"}
                for text in draw(st.lists(st.sampled_from(FILTERS), unique=True))
            ],
        }
        for frequency in frequencies
    ]
    return fake


@st.composite
def guests(draw: st.DrawFn) -> tuple[FakeAws, Declaration, Declaration]:
    is_engine = draw(st.booleans())
    fake = draw(strangers(is_engine=is_engine))
    return fake, draw(declarations(is_engine=is_engine)), draw(declarations(is_engine=is_engine))


def contains(state: dict[str, Any], theirs: dict[str, Any]) -> None:
    for kind in ("rules", "templates", "secrets"):
        assert {name: state[kind].get(name) for name in theirs[kind]} == theirs[kind]
    for name in NODES:
        assert state["roles"][name]["policies"]["own"] == theirs["roles"][name]["policies"]["own"]
    for rule in theirs["scanning"]["rules"]:
        there = next(entry for entry in state["scanning"]["rules"] if entry["scanFrequency"] == rule["scanFrequency"])
        filters = rule["repositoryFilters"]
        assert there["repositoryFilters"][: len(filters)] == filters
    for statement in STATEMENTS:
        assert (statement in state["registry_policy"]) == (statement in theirs["registry_policy"])


@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(guests())
def test_what_is_somebody_elses_stays_to_the_byte(guest: tuple[FakeAws, Declaration, Declaration]) -> None:
    fake, first, second = guest
    theirs = fake.state()
    world = World(fake)
    world.apply(first)
    contains(fake.state(), theirs)
    change(world, second, first)
    contains(fake.state(), theirs)
    world.destroy(second)
    after = fake.state()
    after["secrets"] = {name: entry for name, entry in after["secrets"].items() if name in theirs["secrets"]}
    assert after == theirs
