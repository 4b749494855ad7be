"""Status: what is there, from what was read. No secret is in it."""

from __future__ import annotations

import json
from pathlib import Path

from pullthrough.declaration import Declaration, Rule, SecretCredential
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.names import DOCKER_HUB
from pullthrough.provision.model.accounts import Account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.observed import Observed, Owned, Repository
from pullthrough.provision.model.resources import Existing, Key, ResourceKind
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.planning.apply import plan_apply
from pullthrough.provision.planning.draft import PlanBasis
from pullthrough.provision.planning.status import Status, secret_name_in, status

ACCOUNT = "123456789012"
AWS = DeploymentTarget(ACCOUNT, "us-east-1")
ENGINE = DeploymentTarget(ACCOUNT, "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)
SECRET = "ecr-pullthroughcache/docker-hub"
ARN = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:{SECRET}-aB3dE6"
NOW = 1_800_000_000.0
DAY = 86_400.0
FINGERPRINTS = Fingerprints(Path("/nowhere"), lambda count: b"k" * count)
HUB, QUAY = Rule("docker-hub", DOCKER_HUB), Rule("quay", "quay.io")
DECLARATION = Declaration(rules=(HUB, QUAY))
KNOWN = {"docker-hub": Account("acme", "dckr_pat_secret")}


def found(
    *existing: Existing,
    declaration: Declaration = DECLARATION,
    target: DeploymentTarget = AWS,
    repositories: list[Repository] | None = None,
    given: dict[str, Existing | None] | None = None,
    registry_host: str = "",
    missing: str = "",
) -> Status:
    observed = Observed(target, {entry.key: entry for entry in existing}, given_secrets=given or {})
    desired = build_desired(declaration, KNOWN, FINGERPRINTS, target)
    plan = plan_apply(PlanBasis(declaration.name, desired, observed, Owned()))
    return status(
        declaration,
        desired,
        observed,
        plan,
        repositories,
        NOW,
        registry_host=registry_host,
        credentials_missing=missing,
    )


def rule(prefix: str, upstream: str, arn: str = "", *, in_file: bool = False) -> Existing:
    return Existing(
        Key(ResourceKind.RULE, prefix),
        {
            "upstreamRegistryUrl": upstream,
            "upstreamRepositoryPrefix": "ROOT",
            "credentialArn": arn,
            "customRoleArn": "",
        },
        is_of_engine_file=in_file,
        created_at=None if in_file else NOW - 9 * DAY,
        changed_at=None if in_file else NOW - 8 * DAY,
    )


def secret(changed_at: float | None = NOW - 3 * DAY, name: str = SECRET) -> Existing:
    desired = build_desired(DECLARATION, KNOWN, FINGERPRINTS, AWS).of(ResourceKind.SECRET)[0]
    return Existing(Key(ResourceKind.SECRET, name), desired.attributes, ARN, "pullthrough", changed_at=changed_at)


def template(prefix: str, mark: str = "pullthrough") -> Existing:
    desired = build_desired(DECLARATION, KNOWN, FINGERPRINTS, AWS).get(Key(ResourceKind.TEMPLATE, prefix))
    attributes = desired.attributes if desired else {"appliedFor": ["PULL_THROUGH_CACHE"]}
    return Existing(Key(ResourceKind.TEMPLATE, prefix), attributes, marked_by=mark, created_at=NOW - DAY)


def repository(name: str, prefix: str, **changed: object) -> Repository:
    attributes = {**template("quay").attributes, "resourceTags": {}, **changed}
    return Repository(name, f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}", prefix, attributes)  # type: ignore[arg-type] # test values


EVERYTHING = (
    rule("docker-hub", DOCKER_HUB, ARN),
    rule("quay", "quay.io"),
    secret(),
    template("docker-hub"),
    template("quay"),
)


def test_what_is_as_declared_is_in_line() -> None:
    report = found(*EVERYTHING, repositories=[])
    assert report.is_in_line
    assert (report.drift, report.problems, report.left_alone) == ((), (), ())
    hub, quay = report.rules
    assert (hub.prefix, hub.is_declared, hub.is_there) == ("docker-hub", True, True)
    assert hub.address == f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/docker-hub"
    assert (hub.created_at, hub.changed_at) == (NOW - 9 * DAY, NOW - 8 * DAY)
    assert quay.credential is None


def test_a_credentials_age_counts_from_its_last_change() -> None:
    credential = found(*EVERYTHING).rules[0].credential
    assert credential is not None
    assert (credential.secret, credential.is_there, credential.age_seconds) == (SECRET, True, 3 * DAY)
    unknown = found(*EVERYTHING[:2], secret(None)).rules[0].credential
    assert unknown is not None
    assert unknown.age_seconds is None


def test_a_given_secret_is_looked_up_by_its_arn() -> None:
    given = Declaration(rules=(Rule("docker-hub", DOCKER_HUB, credential=SecretCredential(ARN)),))
    there = found(rule("docker-hub", DOCKER_HUB, ARN), declaration=given, given={ARN: secret(name="theirs")})
    gone = found(rule("docker-hub", DOCKER_HUB, ARN), declaration=given, given={ARN: None})
    unknown = found(rule("docker-hub", DOCKER_HUB, ARN), declaration=given)
    credentials = [report.rules[0].credential for report in (there, gone, unknown)]
    assert [(entry.secret, entry.is_there) for entry in credentials if entry] == [
        ("theirs", True),
        (SECRET, False),
        (SECRET, None),
    ]


def test_rules_that_are_not_there_or_not_declared_are_both_shown() -> None:
    report = found(rule("theirs", "cgr.dev", ARN))
    assert [(entry.prefix, entry.is_declared, entry.is_there) for entry in report.rules] == [
        ("docker-hub", True, False),
        ("quay", True, False),
        ("theirs", False, True),
    ]
    assert report.rules[2].address == ""
    assert [left.key.name for left in report.left_alone] == ["theirs"]
    assert not report.is_in_line
    wanted = report.rules[0].credential
    assert wanted is not None
    assert (wanted.secret, wanted.is_there) == (SECRET, False)


def test_a_rule_of_the_engines_file_is_marked_and_has_no_times() -> None:
    report = found(rule("quay", "quay.io", in_file=True), target=ENGINE, registry_host="127.0.0.1:5000")
    quay = report.rules[1]
    assert (quay.is_of_engine_file, quay.created_at, quay.address) == (True, None, "127.0.0.1:5000/quay")


def test_the_address_is_empty_where_the_registrys_host_is_not_known() -> None:
    assert found(rule("quay", "quay.io"), target=ENGINE).rules[1].address == ""


def test_drift_names_attributes_and_no_values() -> None:
    changed = Existing(
        Key(ResourceKind.TEMPLATE, "quay"),
        {**template("quay").attributes, "imageTagMutability": "IMMUTABLE"},
        "",
        "pullthrough",
    )
    (drift,) = found(*EVERYTHING[:4], changed).as_json()["drift"]
    assert (drift["kind"], drift["name"], drift["attributes"]) == ("template", "quay", ["imageTagMutability"])
    assert "IMMUTABLE" not in json.dumps(drift)


def test_templates_of_others_are_listed_with_their_mark() -> None:
    report = found(*EVERYTHING, template("theirs", "other"), template("nobodys", ""))
    assert [(entry.prefix, entry.is_declared, entry.marked_by) for entry in report.templates] == [
        ("docker-hub", True, "pullthrough"),
        ("quay", True, "pullthrough"),
        ("nobodys", False, ""),
        ("theirs", False, "other"),
    ]


def test_repositories_are_counted_and_those_that_differ_are_named() -> None:
    read = [
        repository("quay/a", "quay"),
        repository("quay/b", "quay", lifecyclePolicy=None),
        repository("docker-hub/library/c", "docker-hub", encryptionType="KMS"),
    ]
    report = found(*EVERYTHING, repositories=read)
    assert (report.repositories, [entry.repositories for entry in report.rules]) == (3, [1, 2])
    assert [step.key.name for step in report.differing_repositories] == ["quay/b"]
    assert any("docker-hub/library/c is encrypted with KMS" in note for note in report.notes)
    # They are no drift: `apply` does not touch them.
    assert report.is_in_line


def test_repositories_that_were_not_read_are_not_none() -> None:
    report = found(*EVERYTHING)
    assert (report.repositories, report.rules[0].repositories) == (None, None)


def test_without_tokens_a_credential_is_not_called_drift() -> None:
    other = Existing(secret().key, {**secret().attributes, "accessToken": "0123456789ab"}, ARN, "pullthrough")
    existing = [*EVERYTHING[:2], other, *EVERYTHING[3:]]
    assert [step.key.kind for step in found(*existing).drift] == [ResourceKind.SECRET]
    without = found(*existing, missing="docker_hub_access_token is missing")
    assert without.is_in_line
    assert without.as_json()["credentials_missing"] == "docker_hub_access_token is missing"
    # What else differs still is.
    retagged = Existing(other.key, {**other.attributes, "tags": {}}, ARN, "pullthrough")
    assert not found(*EVERYTHING[:2], retagged, *EVERYTHING[3:], missing="it").is_in_line


def test_json_has_times_in_utc_and_no_secret() -> None:
    document = found(*EVERYTHING, repositories=[]).as_json()
    hub = document["rules"][0]
    assert hub["created_at"] == "2027-01-06T08:00:00Z"
    assert hub["credential"]["age_seconds"] == 259_200
    text = json.dumps(document)
    assert "dckr_pat_secret" not in text
    assert FINGERPRINTS.of("dckr_pat_secret") not in text


def test_a_secrets_name_is_read_from_its_arn() -> None:
    assert secret_name_in(ARN) == SECRET
    assert secret_name_in("arn:aws:secretsmanager:us-east-1:1:secret:ecr-pullthroughcache/a-b") == (
        "ecr-pullthroughcache/a-b"
    )
