"""Importing: what is declared from an account's state has nothing to do there."""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullthrough.credentials import Credentials
from pullthrough.declaration import (
    ROOT,
    STANDARD_UPSTREAMS,
    Declaration,
    Encryption,
    NodeAccess,
    Rule,
    ScanFrequency,
    SecretCredential,
    TagMutability,
    Template,
)
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.ecr_upstreams import WANT_SECRET, kind_of
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.imports.declaration import Imported, declaration_text
from pullthrough.provision.inputs import read_accounts
from pullthrough.provision.model.accounts import INPUTS, Account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.observed import Observed, Owned, Scanning
from pullthrough.provision.model.resources import REGISTRY, Desired, Existing, Json, Key, ResourceKind, secret_reference
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.planning.apply import plan_apply
from pullthrough.provision.planning.draft import PlanBasis
from pullthrough.settings import load_settings
from tests.effort import examples

ACCOUNT = "123456789012"
AWS = DeploymentTarget(ACCOUNT, "us-east-1", caller=f"arn:aws:iam::{ACCOUNT}:user/me")
ENGINE = DeploymentTarget(ACCOUNT, "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)
FINGERPRINTS = Fingerprints(Path("/nowhere"), lambda count: b"k" * count)


def secret_arn(name: str) -> str:
    return f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:{name}-aB3dE6"


def as_it_is(desired: Desired, target: DeploymentTarget, name: str, *, marked: bool = True) -> Observed:
    """The account after an apply of all this."""
    found: dict[Key, Existing] = {}
    policy, scanning = "", Scanning()
    for resource in desired.resources:
        key, attributes = resource.key, dict(resource.attributes)
        if key.kind is ResourceKind.REGISTRY_POLICY:
            others = [{"Sid": "Theirs", "Effect": "Deny", "Principal": "*", "Action": "ecr:*"}]
            statements = [*others, *_list(attributes["statements"])]
            policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
            continue
        if key.kind is ResourceKind.SCANNING:
            entries = [str(entry).split(" ") for entry in _list(attributes["filters"])]
            rules = tuple(
                {"scanFrequency": frequency, "repositoryFilters": [{"filter": text}]} for frequency, text in entries
            )
            scanning = Scanning("ENHANCED", rules)
            continue
        for secret in desired.of(ResourceKind.SECRET):
            if attributes.get("credentialArn") == secret_reference(secret.key.name):
                attributes["credentialArn"] = secret_arn(secret.key.name)
        if key.kind is ResourceKind.TEMPLATE and not marked:
            attributes["description"] = "somebody's"
        arn = secret_arn(key.name) if key.kind is ResourceKind.SECRET else ""
        has_mark = marked and key.kind in (ResourceKind.SECRET, ResourceKind.ROLE, ResourceKind.TEMPLATE)
        found[key] = Existing(key, attributes, arn, name if has_mark else "", created_at=1.7e9)
    return Observed(target, found, policy, scanning)


def _list(value: Json) -> list[Any]:
    assert isinstance(value, list)
    return value


def loaded(imported: Imported, folder: Path) -> Declaration:
    for path, text in imported.files.items():
        (folder / path).write_text(text)
    file = folder / "pullthrough.toml"
    file.write_text(imported.text)
    return load_settings(file, {"HOME": str(folder)}, {}).settings.declaration


def check_no_op(observed: Observed, folder: Path, *, name: str | None = None) -> Declaration:
    """The plan of the imported declaration, which asks for no account, has no step and no problem."""
    imported = declaration_text(observed, name=name)
    declaration = loaded(imported, folder)
    assert read_accounts(declaration, observed.target, Credentials({})) == {}
    desired = build_desired(declaration, {}, FINGERPRINTS, observed.target)
    plan = plan_apply(PlanBasis(declaration.name, desired, observed, Owned()))
    assert (plan.steps, plan.problems) == ((), ()), imported.text
    return declaration


def attributes(found: Mapping[Key, Mapping[str, Json]]) -> dict[Key, dict[str, Json]]:
    return {
        key: {name: value for name, value in entry.items() if name != "description"} for key, entry in found.items()
    }


# What accounts have

accounts = st.lists(st.from_regex(r"[0-9]{12}", fullmatch=True), max_size=2, unique=True).map(tuple)
organizations = st.sampled_from(["", "o-a1b2c3d4e5", "o-zzzzzzzzzzz"])
tags = st.dictionaries(st.sampled_from(["team", "stage", "a b"]), st.text("abc=@ ", max_size=4), max_size=2)


@st.composite
def templates(draw: st.DrawFn, folder: Path) -> Template:
    encryption = draw(st.sampled_from(Encryption))
    policy_file = draw(st.sampled_from([None, folder / "policy.json"]))
    lifecycle_file = draw(st.sampled_from([None, None, folder / "lifecycle.json", folder / "other.json"]))
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/aa-bb"
    return Template(
        enabled=draw(st.sampled_from([True, True, True, False])),
        keep_images=draw(st.sampled_from([None, 1, 200, 100_000])),
        lifecycle_policy_file=lifecycle_file,
        tag_mutability=draw(st.sampled_from(TagMutability)),
        tag_mutability_exclusions=draw(st.sampled_from([(), ("latest*",), ("b", "a*")])),
        resource_tags=draw(tags),
        encryption=encryption,
        kms_key=key if encryption is not Encryption.AES256 and draw(st.booleans()) else "",
        pull_accounts=() if policy_file else draw(accounts),
        pull_organization="" if policy_file else draw(organizations),
        repository_policy_file=policy_file,
        role_arn=draw(st.sampled_from(["", f"arn:aws:iam::{ACCOUNT}:role/path/mine"])),
    )


@st.composite
def declarations(draw: st.DrawFn, target: DeploymentTarget, folder: Path) -> tuple[Declaration, dict[str, Account]]:
    """As an account could be told to be, with the accounts of some of its rules."""
    upstreams = {prefix: host for prefix, host in STANDARD_UPSTREAMS.items() if draw(st.booleans())}
    more = {"gitlab": "registry.gitlab.com", "images/k8s": "registry.k8s.io", "dh": DOCKER_HUB, ROOT: "quay.io"}
    if target.is_engine:
        more |= {"x.y": "registry.example.com:5000", "quay": "cgr.dev"}
    upstreams |= {prefix: host for prefix, host in more.items() if draw(st.booleans())}
    if draw(st.booleans()):
        upstreams["other"] = "210987654321.dkr.ecr.eu-west-1.amazonaws.com"
    rules, known = [], {}
    for prefix, host in upstreams.items():
        wants = host in INPUTS or kind_of(host) in WANT_SECRET
        given_arn = wants and draw(st.booleans())
        if wants and not given_arn and (not target.is_engine or draw(st.booleans())):
            known[prefix] = Account("me", "token")
        rules.append(
            Rule(
                prefix,
                host,
                upstream_repository_prefix=draw(st.sampled_from(["", "team/a"])) if prefix == "other" else "",
                custom_role_arn=f"arn:aws:iam::{ACCOUNT}:role/pull" if prefix == "other" else "",
                credential=SecretCredential(secret_arn(f"ecr-pullthroughcache/{prefix}x")) if given_arn else None,
                anonymous=wants and not given_arn and prefix not in known,
            )
        )
    common = draw(templates(folder))
    return Declaration(
        name=draw(st.sampled_from(["pullthrough", "team-a"])),
        rules=tuple(rules),
        templates={rule.prefix: draw(templates(folder)) if draw(st.integers(0, 2)) == 0 else common for rule in rules},
        access=NodeAccess(
            node_roles=draw(st.sampled_from([(), ("nodes", "other-nodes")])),
            pull_accounts=draw(accounts),
            pull_organization=draw(organizations),
        ),
        scan_frequency=draw(st.sampled_from([None, *ScanFrequency])),
        tags=draw(st.sampled_from([{}, {"team": "a"}])),
    ), known


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that templates name."""
    folder = tmp_path_factory.mktemp("policies")
    rule = {"rulePriority": 1, "selection": {"tagStatus": "any"}, "action": {"type": "expire"}}
    (folder / "lifecycle.json").write_text(json.dumps({"rules": [rule]}))
    (folder / "other.json").write_text(json.dumps({"rules": [{**rule, "rulePriority": 2, "description": 'ä\n"x"'}]}))
    statement = {"Sid": "All", "Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}
    (folder / "policy.json").write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return folder


@pytest.mark.parametrize("target", [AWS, ENGINE], ids=["aws", "engine"])
@pytest.mark.parametrize("marked", [True, False], ids=["ours", "somebody-elses"])
@settings(max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_applied_is_imported_as_it_is(
    policies: Path, target: DeploymentTarget, marked: bool, data: st.DataObject
) -> None:
    declaration, known = data.draw(declarations(target, policies))
    desired = build_desired(declaration, known, FINGERPRINTS, target)
    observed = as_it_is(desired, target, declaration.name, marked=marked)
    imported = declaration_text(observed, name=declaration.name)
    with tempfile.TemporaryDirectory() as folder:
        again = build_desired(loaded(imported, Path(folder)), {}, FINGERPRINTS, target)
        for kind in (ResourceKind.RULE, ResourceKind.TEMPLATE):
            was = {key: entry.attributes for key, entry in observed.existing.items() if key.kind is kind}
            now = {resource.key: resource.attributes for resource in again.of(kind)}
            assert attributes(now) == attributes(was), imported.text
        check_no_op(observed, Path(folder), name=declaration.name)


def small(**more: Any) -> Declaration:
    return Declaration(rules=(Rule("quay", "quay.io"), Rule("kubernetes", "registry.k8s.io")), **more)


def observed_of(declaration: Declaration, target: DeploymentTarget = AWS) -> Observed:
    return as_it_is(build_desired(declaration, {}, FINGERPRINTS, target), target, declaration.name)


def with_template(observed: Observed, prefix: str, **changed: Json) -> Observed:
    key = Key(ResourceKind.TEMPLATE, prefix)
    was = observed.existing[key]
    entry = Existing(key, {**was.attributes, **changed}, marked_by=was.marked_by)
    return Observed(observed.target, {**observed.existing, key: entry}, observed.registry_policy, observed.scanning)


def test_standard_rules_as_they_are_need_no_words() -> None:
    document = tomllib.loads(declaration_text(observed_of(small())).text)
    assert document == {"rules": {prefix: {"enabled": False} for prefix in ("docker-hub", "github", "ecr-public")}}


def test_the_file_says_where_it_is_from_and_holds_nothing_secret() -> None:
    declaration = Declaration(rules=(Rule("docker-hub", DOCKER_HUB),))
    known = {"docker-hub": Account("acme", "dckr_pat_verysecret")}
    observed = as_it_is(build_desired(declaration, known, FINGERPRINTS, AWS), AWS, "pullthrough")
    text = declaration_text(observed).text
    assert text.startswith(f"# What account {ACCOUNT}, region us-east-1 had, by `pullthrough import`.\n")
    assert f'credential_arn = "{secret_arn("ecr-pullthroughcache/docker-hub")}"' in text
    assert "verysecret" not in text
    assert FINGERPRINTS.of("dckr_pat_verysecret") not in text


def test_an_empty_account_declares_nothing(tmp_path: Path) -> None:
    declaration = check_no_op(Observed(AWS, {}), tmp_path)
    assert declaration.rules == ()
    assert {rule.prefix for rule in declaration.disabled} == set(STANDARD_UPSTREAMS)


def test_the_name_is_the_one_that_most_things_are_marked_with() -> None:
    assert tomllib.loads(declaration_text(observed_of(small(name="prod"))).text)["name"] == "prod"
    assert "name" not in tomllib.loads(declaration_text(observed_of(small(name="prod")), name="pullthrough").text)


def test_policies_of_their_own_go_to_files_once_each(tmp_path: Path) -> None:
    observed = observed_of(small())
    policy: Json = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}}
    lifecycle: Json = {"rules": [{"rulePriority": 9, "selection": {"tagStatus": "any"}, "action": {"type": "expire"}}]}
    for prefix in ("quay", "kubernetes"):
        observed = with_template(observed, prefix, lifecyclePolicy=lifecycle, repositoryPolicy=policy)
    imported = declaration_text(observed)
    assert {path: json.loads(text) for path, text in imported.files.items()} == {
        "lifecycle-quay.json": lifecycle,
        "policy-quay.json": policy,
    }
    check_no_op(observed, tmp_path)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"appliedFor": ["PULL_THROUGH_CACHE", "REPLICATION"]}, "more than pulls"),
        ({"resourceTags": {"team": "a"}}, "no role"),
        (
            {"resourceTags": {"pullthrough:mine": "a"}, "customRoleArn": f"arn:aws:iam::{ACCOUNT}:role/r"},
            "resource_tags",
        ),
        ({"lifecyclePolicy": "not JSON"}, "lifecycle policy"),
        ({"repositoryPolicy": "not JSON\n# or a comment that ends"}, "repository policy"),
    ],
)
def test_a_template_that_has_no_words_is_left_alone_and_said(
    changed: dict[str, Json], why: str, tmp_path: Path
) -> None:
    observed = with_template(observed_of(small()), "quay", **changed)
    key = Key(ResourceKind.TEMPLATE, "quay")
    theirs = Existing(key, {**observed.existing[key].attributes, "description": "theirs"})
    observed = Observed(AWS, {**observed.existing, key: theirs})
    imported = declaration_text(observed)
    assert [note for note in imported.notes if note.startswith("the template quay: ") and why in note]
    assert tomllib.loads(imported.text)["templates"]["quay"] == {"enabled": False}
    assert "Not in here, and left alone:" in imported.text
    check_no_op(observed, tmp_path)


def test_a_rule_with_half_an_arn_is_left_alone_and_said() -> None:
    key = Key(ResourceKind.RULE, "docker-hub")
    rule = {
        "upstreamRegistryUrl": DOCKER_HUB,
        "upstreamRepositoryPrefix": ROOT,
        "credentialArn": f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:ecr-pullthroughcache/x",
        "customRoleArn": "",
    }
    imported = declaration_text(Observed(AWS, {key: Existing(key, rule)}))
    assert imported.notes[0].startswith("the rule docker-hub: its credential_arn")
    assert tomllib.loads(imported.text)["rules"]["docker-hub"] == {"enabled": False}


def test_statements_for_other_rules_than_are_there_are_said_to_change() -> None:
    """Somebody's rule beside ours: the registry's policy is not for it, and of this declaration's it would be."""
    observed = observed_of(small(access=NodeAccess(pull_accounts=("210987654321",))))
    key = Key(ResourceKind.RULE, "theirs")
    rule = {
        "upstreamRegistryUrl": "quay.io",
        "upstreamRepositoryPrefix": ROOT,
        "credentialArn": "",
        "customRoleArn": "",
    }
    more = Observed(AWS, {**observed.existing, key: Existing(key, rule)}, observed.registry_policy)
    assert declaration_text(observed).notes == ()
    imported = declaration_text(more)
    assert "the registry's policy" in imported.notes[-1]
    assert "# What `plan` would do:\n# - the registry's policy" in imported.text


def test_scanning_of_everything_is_not_taken_for_ours() -> None:
    rules = ({"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{"filter": "*"}]},)
    key = Key(ResourceKind.RULE, ROOT)
    rule = {
        "upstreamRegistryUrl": "quay.io",
        "upstreamRepositoryPrefix": ROOT,
        "credentialArn": "",
        "customRoleArn": "",
    }
    observed = Observed(AWS, {key: Existing(key, rule)}, scanning=Scanning("BASIC", rules))
    assert "scanning" not in tomllib.loads(declaration_text(observed).text)


def test_what_others_have_in_the_registrys_documents_is_not_imported() -> None:
    statement = {"Sid": "Theirs", "Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}}
    observed = Observed(AWS, observed_of(small()).existing, json.dumps({"Statement": [statement]}))
    assert "access" not in tomllib.loads(declaration_text(observed).text)
    assert REGISTRY not in declaration_text(observed).text
