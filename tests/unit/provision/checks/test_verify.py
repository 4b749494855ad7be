"""Verifying: what each fault looks like, and that each failure says why and what to do."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pullthrough.declaration import ROOT, STANDARD_RULES, Declaration, NodeAccess, Rule, Template
from pullthrough.errors import (
    DigestMismatch,
    PullthroughError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.fingerprints import Fingerprints
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.oci.names import DOCKER_HUB, ImageReference
from pullthrough.provision.aws import Lost, Refused
from pullthrough.provision.checks.pulls import verify_image_of
from pullthrough.provision.checks.report import CheckKind, CheckOutcome, CheckRow, Report
from pullthrough.provision.checks.roles import may_assume
from pullthrough.provision.checks.verify import verify
from pullthrough.provision.model import documents
from pullthrough.provision.model.accounts import Account, wants_account
from pullthrough.provision.model.desired import build_desired
from pullthrough.provision.model.target import DeploymentTarget
from pullthrough.provision.observation.logins import RegistryLogin
from tests.unit.provision.scripted import Answer, ScriptedAws, denied, missing

ACCOUNT = "123456789012"
CALLER = f"arn:aws:iam::{ACCOUNT}:user/me"
AWS = DeploymentTarget(ACCOUNT, "us-east-1", caller=CALLER)
ENGINE = DeploymentTarget(ACCOUNT, "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=False)
ENDPOINT = f"https://{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com"
TOKEN = "a-registry-token-nobody-may-see"
ARN = f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:ecr-pullthroughcache/docker-hub-aB3dE6"
DIGEST = digest_of(b"{}")
FINGERPRINTS = Fingerprints(Path("/nowhere"), lambda count: b"k" * count)
HUB, QUAY = Rule("docker-hub", DOCKER_HUB), Rule("quay", "quay.io")
ROLE = f"arn:aws:iam::{ACCOUNT}:role/path/nodes"

FetchResult = Digest | PullthroughError


class Pulls:
    """`Fetch` without a network."""

    def __init__(self, *results: FetchResult) -> None:
        """One each; the last again and again."""
        self._results = list(results or [DIGEST])
        self.images: list[str] = []
        self.logins: list[RegistryLogin] = []

    def __call__(self, image: ImageReference, login: RegistryLogin) -> Digest:
        self.images.append(str(image))
        self.logins.append(login)
        result = self._results.pop(0) if len(self._results) > 1 else self._results[0]
        if isinstance(result, PullthroughError):
            raise result
        return result


def token() -> dict[str, Any]:
    text = base64.b64encode(f"AWS:{TOKEN}".encode()).decode()
    return {"authorizationData": [{"authorizationToken": text, "proxyEndpoint": ENDPOINT}]}


def valid(params: Mapping[str, Any]) -> Mapping[str, Any]:
    prefix = params["ecrRepositoryPrefix"]
    hosts = {rule.prefix: rule.upstream for rule in STANDARD_RULES}
    return {"isValid": True, "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": hosts.get(prefix, "quay.io")}


def invalid(failure: str, arn: str = ARN, upstream: str = DOCKER_HUB) -> dict[str, Any]:
    return {"isValid": False, "failure": failure, "credentialArn": arn, "upstreamRegistryUrl": upstream}


def script(**answers: Answer) -> ScriptedAws:
    working: dict[str, Answer] = {
        "GetAuthorizationToken": token(),
        "ValidatePullThroughCacheRule": valid,
        "DescribeRepositoryCreationTemplates": {"repositoryCreationTemplates": []},
    }
    return ScriptedAws({**working, **answers})


def run(
    aws: ScriptedAws,
    *rules: Rule,
    target: DeploymentTarget = AWS,
    pulls: Pulls | None = None,
    access: NodeAccess | None = None,
    templates: Mapping[str, Template] | None = None,
) -> Report:
    declaration = Declaration(rules=rules, access=access or NodeAccess(), templates=templates or {})
    accounts = {rule.prefix: Account("acme", "token") for rule in rules if wants_account(rule, target)}
    desired = build_desired(declaration, accounts, FINGERPRINTS, target)
    report = verify(aws.aws, target, declaration, desired, fetch=pulls or Pulls())
    for row in report.rows:
        if row.outcome is CheckOutcome.FAILED:
            assert row.reason, row
            assert row.fix, row
    assert TOKEN not in json.dumps(report.as_json())
    return report


def row_of(report: Report, check: CheckKind, subject: str = "") -> CheckRow:
    (row,) = [row for row in report.rows if row.check is check and (not subject or row.subject == subject)]
    return row


# All in order


def test_what_works_says_so_for_each_rule() -> None:
    pulls = Pulls()
    aws = script()
    report = run(aws, *STANDARD_RULES, pulls=pulls)
    assert report.ok
    assert [(row.subject, row.check, row.outcome) for row in report.rows] == [
        (rule.prefix, check, CheckOutcome.OK) for rule in STANDARD_RULES for check in (CheckKind.RULE, CheckKind.PULL)
    ]
    assert sorted(pulls.images) == [
        "docker-hub/library/hello-world:latest",
        "ecr-public/docker/library/hello-world:latest",
        "github/containerd/busybox:1.36",
        "kubernetes/pause:3.9",
        "quay/prometheus/busybox:latest",
    ]
    assert {(login.endpoint, login.username, login.password) for login in pulls.logins} == {(ENDPOINT, "AWS", TOKEN)}
    assert aws.count("GetAuthorizationToken") == 1
    assert aws.count("ValidatePullThroughCacheRule") == 5


def test_json_has_all_rows_and_counts() -> None:
    document = run(script(), QUAY).as_json()
    assert document["ok"] is True
    assert document["counts"] == {"ok": 2, "failed": 0, "skipped": 0}
    assert document["checks"][1]["details"] == {"image": "quay/prometheus/busybox:latest", "digest": str(DIGEST)}
    json.dumps(document)


def test_only_the_rules_that_are_named_are_looked_at() -> None:
    aws = script()
    declaration = Declaration(rules=(QUAY, STANDARD_RULES[3]), access=NodeAccess(node_roles=("nodes",)))
    desired = build_desired(declaration, {}, FINGERPRINTS, AWS)
    report = verify(aws.aws, AWS, declaration, desired, only={"quay"}, fetch=Pulls())
    assert {row.subject for row in report.rows} == {"quay"}


def test_rows_are_told_as_they_come() -> None:
    told: list[CheckRow] = []
    declaration = Declaration(rules=(QUAY,))
    desired = build_desired(declaration, {}, FINGERPRINTS, AWS)
    report = verify(script().aws, AWS, declaration, desired, fetch=Pulls(), progress=told.append)
    assert tuple(told) == report.rows


# What is pulled


@pytest.mark.parametrize(
    ("rule", "image"),
    [
        (Rule("q", "quay.io", verify_image="team/app:1"), "team/app:1"),
        (Rule("x", "registry.example.com"), ""),
        (Rule("q", "quay.io", upstream_repository_prefix="prometheus"), "busybox:latest"),
        (Rule("q", "quay.io", upstream_repository_prefix="prom"), ""),
        (Rule("q", "quay.io", allow=("team/*",)), ""),
        (Rule("q", "quay.io", deny=("team/*",)), "prometheus/busybox:latest"),
    ],
)
def test_the_image_is_one_that_has_to_be_there(rule: Rule, image: str) -> None:
    assert verify_image_of(rule, ENGINE) == image


def test_an_upstream_without_a_known_image_is_not_pulled_from_and_it_is_said() -> None:
    pulls = Pulls()
    report = run(script(), Rule("other", "registry.gitlab.com", verify_image=""), pulls=pulls)
    row = row_of(report, CheckKind.PULL)
    assert (row.outcome, pulls.images) == (CheckOutcome.SKIPPED, [])
    assert "verify_image in [rules.other]" in row.reason


def test_what_is_no_image_is_a_failure_not_an_exception() -> None:
    row = row_of(run(script(), Rule("quay", "quay.io", verify_image="No Image")), CheckKind.PULL)
    assert "verify_image in [rules.quay]" in row.fix


# Rules that are not valid


def test_a_rule_that_is_not_there_is_not_pulled_through() -> None:
    pulls = Pulls()
    aws = script(ValidatePullThroughCacheRule=missing("PullThroughCacheRuleNotFoundException"))
    report = run(aws, QUAY, pulls=pulls)
    assert (row_of(report, CheckKind.RULE).reason, pulls.images) == ("there is no rule quay", [])
    assert "pullthrough apply" in row_of(report, CheckKind.RULE).fix
    assert row_of(report, CheckKind.PULL).outcome is CheckOutcome.SKIPPED


def test_a_rule_for_another_upstream_is_found() -> None:
    aws = script(ValidatePullThroughCacheRule={"isValid": True, "upstreamRegistryUrl": "mirror.example.com"})
    row = row_of(run(aws, QUAY), CheckKind.RULE)
    assert "is for mirror.example.com, not for quay.io" in row.reason
    assert "--replace" in row.fix


SECRET_IN_ORDER: dict[str, Answer] = {
    "DescribeSecret": {"ARN": ARN, "Name": "n"},
    "GetSecretValue": {"SecretString": '{"username": "acme", "accessToken": "tell-nobody"}'},
}


@pytest.mark.parametrize(
    ("answers", "reason", "fix"),
    [
        ({"DescribeSecret": missing("ResourceNotFoundException")}, "There is no secret with the rule's ARN", "apply"),
        ({"DescribeSecret": {"DeletedDate": 1}}, "is to be deleted", "takes it back"),
        ({"DescribeSecret": {"KmsKeyId": "arn:aws:kms:us-east-1:1:key/own"}}, "KMS key of your own", "--kms-key-id"),
        ({"GetSecretValue": {"SecretString": "tell-nobody"}}, "is not JSON", '"accessToken"'),
        ({"GetSecretValue": {"SecretString": '["tell-nobody"]'}}, "not an object", '"accessToken"'),
        (
            {"GetSecretValue": {"SecretString": '{"username": "acme", "password": "tell-nobody"}'}},
            "has no key accessToken, but password",
            '"accessToken"',
        ),
        ({"GetSecretValue": {"SecretString": '{"tell-nobody": 1}'}}, "no key username and no key accessToken", "{"),
        ({"GetSecretValue": {"SecretString": '{"username": "", "accessToken": "x"}'}}, "empty username", "again"),
        (
            {"GetSecretValue": {"SecretString": '{"username": "a", "accessToken": "tell-nobody", "email": "b"}'}},
            "further keys",
            "nothing else",
        ),
        ({"GetSecretValue": {"SecretBinary": b"tell-nobody"}}, "is binary", '"accessToken"'),
        ({}, "it says no more", "personal access token"),
    ],
)
def test_what_is_wrong_with_the_secret_is_said(answers: dict[str, Answer], reason: str, fix: str) -> None:
    """AWS's own words are free text, and here there are none."""
    aws = script(ValidatePullThroughCacheRule=invalid(""), **{**SECRET_IN_ORDER, **answers})
    report = run(aws, HUB)
    row = row_of(report, CheckKind.RULE)
    assert reason in row.reason
    assert fix in row.fix
    assert "tell-nobody" not in json.dumps(report.as_json())


@pytest.mark.parametrize(
    ("arn", "reason"),
    [
        (ARN.replace("ecr-pullthroughcache/", ""), "begins with ecr-pullthroughcache/"),
        (ARN.replace("us-east-1", "eu-west-1"), "another account or region"),
    ],
)
def test_a_secret_where_ecr_does_not_look_is_found_without_a_call(arn: str, reason: str) -> None:
    aws = script(ValidatePullThroughCacheRule=invalid("no", arn))
    assert reason in row_of(run(aws, HUB), CheckKind.RULE).reason
    assert not aws.count("DescribeSecret")


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("SECRET_NOT_FOUND", "makes the secret"),
        ("SECRET_ACCESS_DENIED", "encryption key"),
        ("SECRET_MALFORMED", '"accessToken"'),
        ("UPSTREAM_UNREACHABLE", f'[upstreams."{DOCKER_HUB}"]'),
        ("UPSTREAM_AUTH_FAILED", "Public Repo Read-only"),
        ("UPSTREAM_TOO_MANY_REQUESTS", "rate limit"),
        ("UPSTREAM_INVALID", "endpoint"),
    ],
)
def test_each_code_of_an_engine_has_its_fix(code: str, fix: str) -> None:
    said = f"{code}: because of something"
    aws = script(ValidatePullThroughCacheRule=invalid(said), **SECRET_IN_ORDER)
    row = row_of(run(aws, HUB, target=ENGINE), CheckKind.RULE)
    assert said in row.reason
    assert fix in row.fix


def test_an_upstream_that_refuses_the_token_gets_the_scopes() -> None:
    aws = script(
        ValidatePullThroughCacheRule=invalid("UPSTREAM_AUTH_FAILED: 401", upstream="ghcr.io"), **SECRET_IN_ORDER
    )
    assert "read:packages" in row_of(run(aws, Rule("github", "ghcr.io"), target=ENGINE), CheckKind.RULE).fix


# Pulls that fail

NOT_FOUND = UpstreamNotFound("it answered 404: NAME_UNKNOWN", upstream="host", status=404)


def denied_pull(message: str, status: int = 403) -> UpstreamDenied:
    return UpstreamDenied(message, upstream="host", status=status)


def decisions(*lacking: str, **more: Any) -> Answer:
    def answer(params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            "EvaluationResults": [
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": "implicitDeny" if action in lacking else "allowed",
                    **more,
                }
                for action in params["ActionNames"]
                for resource in params.get("ResourceArns", ["*"])
            ]
        }

    return answer


def test_not_found_on_aws_names_both_rights_where_the_caller_can_not_be_looked_at() -> None:
    aws = script(SimulatePrincipalPolicy=denied("iam:SimulatePrincipalPolicy"))
    row = row_of(run(aws, QUAY, pulls=Pulls(NOT_FOUND)), CheckKind.PULL)
    assert "the rule itself is valid" in row.reason
    for action in ("ecr:BatchImportUpstreamImage", "ecr:CreateRepository"):
        assert action in row.reason
        assert action in row.fix
    assert f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/quay/*" in row.fix
    # AWS makes the repository meanwhile, and may be late with it.
    assert aws.slept == [2.0, 2.0]


def test_not_found_on_aws_names_the_right_that_the_caller_lacks() -> None:
    aws = script(SimulatePrincipalPolicy=decisions("ecr:CreateRepository"))
    report = run(aws, QUAY, STANDARD_RULES[3], pulls=Pulls(NOT_FOUND))
    row = row_of(report, CheckKind.PULL, "quay")
    assert f"{CALLER} may not do ecr:CreateRepository" in row.reason
    assert "ecr:BatchImportUpstreamImage" not in row.fix
    # Two rules failed; IAM was asked once: for the login and for the rest.
    assert aws.count("SimulatePrincipalPolicy") == 2


def test_not_found_with_all_rights_points_at_the_image() -> None:
    row = row_of(run(script(SimulatePrincipalPolicy=decisions()), QUAY, pulls=Pulls(NOT_FOUND)), CheckKind.PULL)
    assert "has all rights" in row.reason
    assert "is quay/prometheus/busybox:latest there upstream?" in row.fix


def test_an_assumed_roles_rights_are_those_of_the_role() -> None:
    target = DeploymentTarget(ACCOUNT, "us-east-1", caller=f"arn:aws:sts::{ACCOUNT}:assumed-role/nodes/session")
    aws = script(SimulatePrincipalPolicy=decisions(), GetRole={"Role": {"Arn": ROLE}})
    run(aws, QUAY, target=target, pulls=Pulls(NOT_FOUND))
    assert {params["PolicySourceArn"] for params in aws.params("SimulatePrincipalPolicy")} == {ROLE}


def test_a_digest_that_aws_does_not_fill_by_is_said() -> None:
    rule = Rule("quay", "quay.io", verify_image=f"a/b@{DIGEST}")
    row = row_of(run(script(), rule, pulls=Pulls(NOT_FOUND)), CheckKind.PULL)
    assert "does not fill its cache by a digest" in row.reason


def test_not_found_on_an_engine_is_the_upstreams_word_and_not_tried_again() -> None:
    aws = script()
    row = row_of(run(aws, QUAY, target=ENGINE, pulls=Pulls(NOT_FOUND)), CheckKind.PULL)
    assert "there upstream" in row.fix
    assert "CreateRepository" not in row.reason
    assert aws.slept == []


def test_what_comes_at_the_second_try_is_in_order() -> None:
    pulls = Pulls(NOT_FOUND, UpstreamUnavailable("503", upstream="host"), DIGEST)
    assert run(script(), QUAY, pulls=pulls).ok


@pytest.mark.parametrize("error", [NOT_FOUND, denied_pull("The authentication to the upstream registry failed")])
def test_an_official_image_without_library_is_recognised(error: PullthroughError) -> None:
    rule = Rule("docker-hub", DOCKER_HUB, verify_image="nginx:1.27")
    row = row_of(run(script(), rule, pulls=Pulls(error)), CheckKind.PULL)
    assert 'verify_image = "library/nginx:1.27"' in row.fix


def test_an_action_that_aws_names_is_the_fix() -> None:
    error = denied_pull("User: x is not authorized to perform: ecr:BatchGetImage on resource: y")
    assert "allow ecr:BatchGetImage" in row_of(run(script(), QUAY, pulls=Pulls(error)), CheckKind.PULL).fix


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (denied_pull("The authentication to the upstream registry failed"), "read:packages"),
        (denied_pull("no", 401), ENDPOINT),
        (UpstreamThrottled("429", upstream="host", retry_after_seconds=0), "rate limit"),
        (UpstreamUnavailable("no connection", upstream="host"), f"reach {ENDPOINT}"),
        (DigestMismatch("other bytes", expected="a", actual="b"), "changes images"),
    ],
)
def test_each_kind_of_failure_has_its_fix(error: PullthroughError, fix: str) -> None:
    assert fix in row_of(run(script(), Rule("github", "ghcr.io"), pulls=Pulls(error)), CheckKind.PULL).fix


def test_a_rule_that_is_broken_is_put_right_before_its_pull() -> None:
    aws = script(ValidatePullThroughCacheRule=invalid(""), **{**SECRET_IN_ORDER, "DescribeSecret": {"DeletedDate": 1}})
    row = row_of(run(aws, HUB, pulls=Pulls(NOT_FOUND)), CheckKind.PULL)
    assert row.fix.startswith("put the rule right first: `pullthrough apply` takes it back")


# Rights of nodes

NODES = NodeAccess(node_roles=("nodes",))


def test_a_node_role_with_all_rights_passes() -> None:
    aws = script(GetRole={"Role": {"Arn": ROLE}}, SimulatePrincipalPolicy=decisions())
    report = run(aws, QUAY, Rule("k8s", "registry.k8s.io", verify_image="pause:3.9"), access=NODES)
    assert row_of(report, CheckKind.NODE_RIGHTS).outcome is CheckOutcome.OK
    login, pulls = aws.params("SimulatePrincipalPolicy")
    assert (login["PolicySourceArn"], login["ActionNames"]) == (ROLE, ["ecr:GetAuthorizationToken"])
    assert "ResourceArns" not in login
    assert set(pulls["ActionNames"]) == {*documents.READ_ACTIONS, *documents.FILL_ACTIONS}
    start = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository"
    assert pulls["ResourceArns"] == [f"{start}/k8s/*", f"{start}/quay/*"]


def test_a_node_role_that_lacks_a_right_is_told_which() -> None:
    aws = script(GetRole={"Role": {"Arn": ROLE}}, SimulatePrincipalPolicy=decisions("ecr:CreateRepository"))
    row = row_of(run(aws, QUAY, access=NODES), CheckKind.NODE_RIGHTS)
    assert "the role lacks ecr:CreateRepository for quay/*;" in row.reason
    assert "pullthrough policy node" in row.fix
    assert row.details["missing"] == ["ecr:CreateRepository"]


@pytest.mark.parametrize(
    ("detail", "why"),
    [
        ({"OrganizationsDecisionDetail": {"AllowedByOrganizations": False}}, "a policy of the organisation"),
        ({"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": False}}, "its permissions boundary"),
    ],
)
def test_what_no_policy_of_the_role_can_allow_is_said(detail: dict[str, Any], why: str) -> None:
    aws = script(GetRole={"Role": {"Arn": ROLE}}, SimulatePrincipalPolicy=decisions("ecr:BatchGetImage", **detail))
    assert why in row_of(run(aws, QUAY, access=NODES), CheckKind.NODE_RIGHTS).fix


def test_results_by_resource_and_on_further_pages_count() -> None:
    def answer(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if "ResourceArns" not in params:
            return {"EvaluationResults": []}
        if "Marker" not in params:
            return {"EvaluationResults": [], "IsTruncated": True, "Marker": "more"}
        specific = [
            {"EvalResourceName": "arn:x:repository/quay/*", "EvalResourceDecision": "explicitDeny"},
            {"EvalResourceName": "arn:x:repository/k8s/*", "EvalResourceDecision": "allowed"},
        ]
        result = {"EvalActionName": "ecr:BatchGetImage", "EvalDecision": "explicitDeny"}
        return {"EvaluationResults": [{**result, "ResourceSpecificResults": specific}]}

    aws = script(GetRole={"Role": {"Arn": ROLE}}, SimulatePrincipalPolicy=answer)
    row = row_of(run(aws, QUAY, access=NODES), CheckKind.NODE_RIGHTS)
    assert "ecr:BatchGetImage for quay/*;" in row.reason
    assert "k8s" not in row.reason
    assert "a policy that denies it" in row.fix


def test_a_node_role_that_is_not_there_is_said() -> None:
    row = row_of(run(script(GetRole=missing("NoSuchEntity")), QUAY, access=NODES), CheckKind.NODE_RIGHTS)
    assert "there is no role nodes" in row.reason


def test_an_engine_has_no_node_roles() -> None:
    assert (
        row_of(run(script(), QUAY, target=ENGINE, access=NODES), CheckKind.NODE_RIGHTS).outcome is CheckOutcome.SKIPPED
    )


# Roles of templates

TAGGED = {"quay": Template(resource_tags={"team": "a"})}
OWN_ROLE = documents.template_role_name("pullthrough")


def listed(prefix: str = "quay", role: str = f"arn:aws:iam::{ACCOUNT}:role/{OWN_ROLE}", **more: Any) -> Answer:
    tags = [{"Key": "team", "Value": "a"}]
    template = {"prefix": prefix, "appliedFor": ["PULL_THROUGH_CACHE"], "resourceTags": tags, "customRoleArn": role}
    return {"repositoryCreationTemplates": [{**template, **more}]}


def role_with(trust: Mapping[str, Any]) -> dict[str, Answer]:
    role = {"Arn": f"arn:aws:iam::{ACCOUNT}:role/{OWN_ROLE}", "AssumeRolePolicyDocument": trust}
    return {"GetRole": {"Role": role}, "GetRolePolicy": {"PolicyDocument": {}}}


def test_a_template_whose_role_ecr_may_assume_passes() -> None:
    aws = script(DescribeRepositoryCreationTemplates=listed(), **role_with(documents.template_trust()))
    assert row_of(run(aws, QUAY, templates=TAGGED), CheckKind.TEMPLATE).outcome is CheckOutcome.OK


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ({"DescribeRepositoryCreationTemplates": {"repositoryCreationTemplates": []}}, "template of quay is not there"),
        ({"DescribeRepositoryCreationTemplates": listed(role="")}, "has tags or KMS and no role"),
        (
            {"DescribeRepositoryCreationTemplates": listed(), "GetRole": missing("NoSuchEntity")},
            "which does not exist",
        ),
        (
            {
                "DescribeRepositoryCreationTemplates": listed(),
                **role_with({"Statement": {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}}}),
            },
            "does not trust ecr.amazonaws.com",
        ),
    ],
)
def test_a_template_that_needs_a_role_and_has_none_is_the_cause_of_not_found(
    answers: dict[str, Answer], reason: str
) -> None:
    report = run(script(**answers), QUAY, templates=TAGGED, pulls=Pulls(NOT_FOUND))
    row = row_of(report, CheckKind.TEMPLATE)
    assert reason in row.reason
    assert row_of(report, CheckKind.PULL).fix.startswith("put the template right first")


@pytest.mark.parametrize("prefix", [ROOT, "quay/team"])
def test_a_template_that_nobody_declared_breaks_pulls_all_the_same(prefix: str) -> None:
    aws = script(DescribeRepositoryCreationTemplates=listed(prefix, role=""))
    assert f"the template {prefix} has tags" in row_of(run(aws, QUAY), CheckKind.TEMPLATE).reason


def test_templates_of_other_prefixes_and_purposes_do_not_count() -> None:
    for template in (listed("other", role=""), listed(role="", appliedFor=["REPLICATION"])):
        assert run(script(DescribeRepositoryCreationTemplates=template), QUAY).ok


@pytest.mark.parametrize(
    ("statement", "may"),
    [
        ({"Effect": "Allow", "Principal": {"Service": "ecr.amazonaws.com"}, "Action": "sts:AssumeRole"}, True),
        ({"Effect": "Allow", "Principal": {"Service": ["a", "ecr.amazonaws.com"]}, "Action": ["sts:*"]}, True),
        ({"Effect": "Allow", "Principal": {"Service": "ecr.amazonaws.com"}, "Action": "sts:TagSession"}, False),
        ({"Effect": "Deny", "Principal": "*", "Action": "*"}, False),
        ({"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}, False),
    ],
)
def test_trust_is_read_as_iam_writes_it(statement: dict[str, Any], may: bool) -> None:
    assert may_assume({"Statement": [statement]}, documents.TEMPLATE_PRINCIPAL) is may
    assert may_assume({"Statement": statement}, documents.TEMPLATE_PRINCIPAL) is may


def test_a_deny_goes_before_an_allow_and_no_policy_lets_nobody() -> None:
    allow, deny = ({"Effect": e, "Principal": "*", "Action": "sts:AssumeRole"} for e in ("Allow", "Deny"))
    assert not may_assume({"Statement": [allow, deny]}, documents.TEMPLATE_PRINCIPAL)
    assert not may_assume(None, documents.TEMPLATE_PRINCIPAL)


# A VPC's endpoints

VPC = NodeAccess(vpc="vpc-0a1b2c3d")


def endpoint(service: str, **more: Any) -> dict[str, Any]:
    kind = "Gateway" if service == "s3" else "Interface"
    return {
        "VpcEndpointId": "vpce-1",
        "ServiceName": f"com.amazonaws.us-east-1.{service}",
        "VpcEndpointType": kind,
        "State": "available",
        "PrivateDnsEnabled": kind == "Interface",
        "RouteTableIds": ["rtb-1"] if kind == "Gateway" else [],
        **more,
    }


def endpoint_rows(*endpoints: dict[str, Any]) -> dict[str, CheckRow]:
    aws = script(DescribeVpcEndpoints={"VpcEndpoints": list(endpoints)})
    report = run(aws, QUAY, access=VPC)
    assert aws.params("DescribeVpcEndpoints")[0]["Filters"] == [{"Name": "vpc-id", "Values": ["vpc-0a1b2c3d"]}]
    return {row.subject.partition(" ")[2]: row for row in report.rows if row.check is CheckKind.ENDPOINT}


def test_a_vpc_with_all_three_endpoints_passes() -> None:
    rows = endpoint_rows(endpoint("ecr.api"), endpoint("ecr.dkr"), endpoint("s3"))
    assert [(name, row.outcome) for name, row in rows.items()] == [
        ("ecr.api", CheckOutcome.OK),
        ("ecr.dkr", CheckOutcome.OK),
        ("s3", CheckOutcome.OK),
    ]
    assert "first pull" in rows["s3"].reason


@pytest.mark.parametrize(
    ("service", "there", "reason"),
    [
        ("ecr.dkr", None, "no interface endpoint"),
        ("ecr.dkr", endpoint("ecr.dkr", PrivateDnsEnabled=False), "no private DNS"),
        ("ecr.api", endpoint("ecr.api", State="pendingAcceptance"), "is pendingAcceptance"),
        ("s3", endpoint("s3", VpcEndpointType="Interface"), "no gateway endpoint"),
        ("s3", endpoint("s3", RouteTableIds=[]), "no route table"),
    ],
)
def test_an_endpoint_that_is_missing_or_of_no_use_is_said(
    service: str, there: dict[str, Any] | None, reason: str
) -> None:
    rest = [endpoint(name) for name in ("ecr.api", "ecr.dkr", "s3") if name != service]
    rows = endpoint_rows(*rest, *([there] if there else []))
    assert reason in rows[service].reason
    assert [name for name, row in rows.items() if row.outcome is CheckOutcome.FAILED] == [service]


def test_an_engine_has_no_vpc() -> None:
    assert row_of(run(script(), QUAY, target=ENGINE, access=VPC), CheckKind.ENDPOINT).outcome is CheckOutcome.SKIPPED


# Whatever is refused


@pytest.mark.parametrize(
    ("operation", "action", "check"),
    [
        ("ValidatePullThroughCacheRule", "ecr:ValidatePullThroughCacheRule", CheckKind.RULE),
        ("GetAuthorizationToken", "ecr:GetAuthorizationToken", CheckKind.LOGIN),
        ("DescribeRepositoryCreationTemplates", "ecr:DescribeRepositoryCreationTemplates", CheckKind.TEMPLATE),
        ("GetRole", "iam:GetRole", CheckKind.NODE_RIGHTS),
        ("SimulatePrincipalPolicy", "iam:SimulatePrincipalPolicy", CheckKind.NODE_RIGHTS),
        ("DescribeVpcEndpoints", "ec2:DescribeVpcEndpoints", CheckKind.ENDPOINT),
    ],
)
def test_a_right_that_the_caller_lacks_is_a_row_and_stops_nothing_else(
    operation: str, action: str, check: CheckKind
) -> None:
    working: dict[str, Answer] = {
        "GetRole": {"Role": {"Arn": ROLE}},
        "SimulatePrincipalPolicy": decisions(),
        "DescribeVpcEndpoints": {"VpcEndpoints": [endpoint(name) for name in ("ecr.api", "ecr.dkr", "s3")]},
    }
    aws = script(**{**working, operation: denied(action)})
    access = NodeAccess(node_roles=("nodes",), vpc="vpc-0a1b2c3d")
    report = run(aws, QUAY, access=access)
    (row,) = report.failures
    assert row.check is check
    assert action in row.reason
    assert action in row.fix
    assert "pullthrough policy operator" in row.fix
    assert {entry.check for entry in report.rows} >= {
        CheckKind.RULE,
        CheckKind.PULL,
        CheckKind.NODE_RIGHTS,
        CheckKind.ENDPOINT,
    }


def test_a_secret_that_may_not_be_looked_at_leaves_aws_own_words() -> None:
    aws = script(
        ValidatePullThroughCacheRule=invalid("the secret is wrong"),
        DescribeSecret=denied("secretsmanager:DescribeSecret"),
    )
    row = row_of(run(aws, HUB), CheckKind.RULE)
    assert "the secret is wrong" in row.reason
    assert "secretsmanager:DescribeSecret" in row.reason


def test_lost_connections_and_expired_credentials_are_rows_too() -> None:
    for error in (Lost("no answer"), Refused("ExpiredToken", "it has expired", 400)):
        report = run(script(ValidatePullThroughCacheRule=error), QUAY)
        assert [row.check for row in report.failures] == [CheckKind.RULE]
    assert not any(
        row.outcome is CheckOutcome.OK
        for row in run(script(GetAuthorizationToken={}), QUAY).rows
        if row.check is CheckKind.PULL
    )


def test_iam_that_does_not_simulate_is_skipped_elsewhere_than_on_aws() -> None:
    beside = DeploymentTarget(ACCOUNT, "us-east-1", "http://127.0.0.1:5000", is_engine=True, has_iam=True)
    aws = script(
        GetRole={"Role": {"Arn": ROLE}}, SimulatePrincipalPolicy=Refused("InternalFailure", "not implemented", 501)
    )
    assert row_of(run(aws, QUAY, target=beside, access=NODES), CheckKind.NODE_RIGHTS).outcome is CheckOutcome.SKIPPED
