"""Verifying at a real engine: its own words, its own registry, real pulls; roles at an IAM beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pullthrough.declaration import Declaration, NodeAccess, Rule, Template
from pullthrough.demo.images import make_image
from pullthrough.provision.checks.report import CheckKind, CheckOutcome, CheckRow, Report
from pullthrough.provision.deployment import Deployment
from pullthrough.provision.model.documents import template_role_name, template_trust
from pullthrough.provision.observation.logins import registry_host
from tests.aws import ACCOUNT_ID, Account, key_settings
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream, Status
from tests.integration.ecr import Site, open_site
from tests.integration.provision.deployments import HUB, QUAY, applied, deployed, moto

SECRET = "ecr-pullthroughcache/docker-hub"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_site(tmp_path, 1, top="standard_rules = false") as opened:
        opened.open.add("prometheus/busybox", make_image("busybox", layer_sizes=(10,)), "latest")
        opened.closed.add("library/hello-world", make_image("hello", layer_sizes=(10,)), "latest")
        yield opened


@pytest.fixture
def deployment(site: Site, tmp_path: Path) -> Iterator[Deployment]:
    """Docker Hub, which wants a login, and Quay, which does not; applied."""
    with deployed(Declaration(rules=(HUB, QUAY)), site.engine.url, tmp_path) as opened:
        applied(opened)
        yield opened


def row_of(report: Report, check: CheckKind, subject: str) -> CheckRow:
    (row,) = [row for row in report.rows if (row.check, row.subject) == (check, subject)]
    return row


def changed(deployment: Deployment, *rules: Rule) -> Deployment:
    deployment.declaration = replace(deployment.declaration, rules=rules)
    return deployment


def test_what_was_applied_works_end_to_end(deployment: Deployment, site: Site) -> None:
    report = deployment.verify()
    assert report.ok, report.as_json()
    assert [(row.subject, row.check) for row in report.rows] == [
        ("docker-hub", CheckKind.RULE),
        ("docker-hub", CheckKind.PULL),
        ("quay", CheckKind.RULE),
        ("quay", CheckKind.PULL),
    ]
    assert site.open.requests.count(kind="manifest", repository="prometheus/busybox", method="GET") == 1
    assert row_of(report, CheckKind.PULL, "quay").details["digest"] == make_image("busybox", layer_sizes=(10,)).digest


def test_the_registrys_host_is_the_engines_own(deployment: Deployment, site: Site) -> None:
    assert registry_host(deployment.aws, deployment.target) == site.engine.address


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("not-json-but-secret", "is not JSON"),
        ('{"username": "acme", "password": "but-secret"}', "has no key accessToken, but password"),
    ],
)
def test_a_secret_that_is_no_account_is_said(deployment: Deployment, site: Site, text: str, reason: str) -> None:
    site.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=text)
    report = deployment.verify()
    row = row_of(report, CheckKind.RULE, "docker-hub")
    assert "SECRET_MALFORMED" in row.reason
    assert reason in row.reason
    assert '"accessToken"' in row.fix
    assert "but-secret" not in str(report.as_json())
    assert row_of(report, CheckKind.RULE, "quay").outcome is CheckOutcome.OK


def test_a_token_that_the_upstream_refuses_gets_the_scopes(deployment: Deployment, site: Site) -> None:
    text = '{"username": "acme", "accessToken": "the-wrong-token"}'
    site.client("secretsmanager").put_secret_value(SecretId=SECRET, SecretString=text)
    report = deployment.verify()
    row = row_of(report, CheckKind.RULE, "docker-hub")
    assert "UPSTREAM_AUTH_FAILED" in row.reason
    assert "Public Repo Read-only" in row.fix
    # The engine goes on without an account, and here the upstream lets anybody pull.
    assert row_of(report, CheckKind.PULL, "docker-hub").outcome is CheckOutcome.OK
    assert not report.ok
    assert "the-wrong-token" not in str(report.as_json())


def test_a_secret_that_is_to_be_deleted_is_said(deployment: Deployment, site: Site) -> None:
    site.client("secretsmanager").delete_secret(SecretId=SECRET)
    row = row_of(deployment.verify(), CheckKind.RULE, "docker-hub")
    assert "is to be deleted" in row.reason
    applied(deployment)
    assert deployment.verify().ok


def test_a_rule_that_went_away_is_said(deployment: Deployment, site: Site) -> None:
    site.client().delete_pull_through_cache_rule(ecrRepositoryPrefix="quay")
    report = deployment.verify()
    assert row_of(report, CheckKind.RULE, "quay").reason == "there is no rule quay"
    assert row_of(report, CheckKind.PULL, "quay").outcome is CheckOutcome.SKIPPED
    assert row_of(report, CheckKind.PULL, "docker-hub").outcome is CheckOutcome.OK


def test_an_image_that_is_not_upstream_is_said(deployment: Deployment) -> None:
    report = changed(deployment, replace(QUAY, verify_image="team/nothing:1")).verify()
    row = row_of(report, CheckKind.PULL, "quay")
    assert "404" in row.reason
    assert "quay/team/nothing:1" in row.fix


def test_an_official_image_without_library_works_on_an_engine(deployment: Deployment) -> None:
    assert changed(deployment, replace(HUB, verify_image="hello-world")).verify().ok


def test_an_upstream_that_is_down_fails_its_own_rows_only(deployment: Deployment, site: Site) -> None:
    site.open.script(Status(503))
    report = deployment.verify()
    assert {row.subject for row in report.failures} == {"quay"}
    assert "UPSTREAM_UNREACHABLE" in row_of(report, CheckKind.RULE, "quay").reason


def test_pulls_log_in_where_the_registry_wants_a_login(tmp_path: Path) -> None:
    account = Account("")
    with ScriptedUpstream() as upstream:
        upstream.add("prometheus/busybox", make_image("busybox", layer_sizes=(10,)), "latest")
        engine = Engine(
            tmp_path / "engine",
            f'standard_rules = false\n[serve]\npull_auth = true\n[ecr]\naccount = "{ACCOUNT_ID}"\n'
            f'[upstreams."quay.io"]\nendpoint = "{upstream.url}"\n{key_settings(tmp_path, account)}',
        )
        try:
            engine.start()
            assert engine.get("/v2/quay/prometheus/busybox/manifests/latest").status == 401
            declaration = Declaration(rules=(QUAY,))
            with deployed(declaration, engine.url, tmp_path, account=replace(account, endpoint=engine.url)) as opened:
                applied(opened)
                report = opened.verify()
                assert report.ok, report.as_json()
        finally:
            engine.end()


def test_a_caller_without_rights_gets_rows_and_no_exception(tmp_path: Path) -> None:
    account = Account("", access_key_id="AKIDPULL", secret_access_key="the-pull-keys-secret-half")
    with ScriptedUpstream() as upstream:
        engine = Engine(
            tmp_path / "engine",
            f'standard_rules = false\n[ecr]\naccount = "{ACCOUNT_ID}"\n'
            f'[upstreams."quay.io"]\nendpoint = "{upstream.url}"\n{key_settings(tmp_path, account, role="pull")}',
        )
        try:
            engine.start()
            with deployed(
                Declaration(rules=(QUAY,)), engine.url, tmp_path, account=replace(account, endpoint=engine.url)
            ) as opened:
                row = row_of(opened.verify(), CheckKind.RULE, "quay")
            assert "ecr:ValidatePullThroughCacheRule" in row.reason
            assert "pullthrough policy operator" in row.fix
        finally:
            engine.end()


def test_a_templates_role_is_looked_for_in_the_iam_that_stands_beside(site: Site, tmp_path: Path) -> None:
    declaration = Declaration(rules=(QUAY,), templates={"quay": Template(resource_tags={"team": "a"})})
    with moto(tmp_path) as iam_url:
        iam = Account(iam_url).client("iam")
        with deployed(declaration, site.engine.url, tmp_path, iam=iam_url) as opened:
            applied(opened)
            report = opened.verify()
            assert report.ok, report.as_json()
            assert row_of(report, CheckKind.TEMPLATE, "quay").outcome is CheckOutcome.OK

            role = template_role_name("pullthrough")
            others = json.dumps(template_trust()).replace("ecr.amazonaws.com", "ec2.amazonaws.com")
            iam.update_assume_role_policy(RoleName=role, PolicyDocument=others)
            row = row_of(opened.verify(), CheckKind.TEMPLATE, "quay")
            assert "does not trust ecr.amazonaws.com" in row.reason

            iam.delete_role_policy(RoleName=role, PolicyName="create-repositories")
            iam.delete_role(RoleName=role)
            row = row_of(opened.verify(), CheckKind.TEMPLATE, "quay")
            assert f"has the role {role}, which does not exist" in row.reason
            assert "'not found'" in row.reason


def test_an_iam_that_does_not_simulate_is_said(site: Site, tmp_path: Path) -> None:
    """moto has no simulation; its roles, paths included, are found."""
    declaration = Declaration(rules=(QUAY,), access=NodeAccess(node_roles=("nodes",)))
    with moto(tmp_path) as iam_url:
        iam = Account(iam_url).client("iam")
        with deployed(declaration, site.engine.url, tmp_path, iam=iam_url) as opened:
            assert "there is no role nodes" in row_of(opened.verify(), CheckKind.NODE_RIGHTS, "role nodes").reason
            iam.create_role(RoleName="nodes", Path="/eks/", AssumeRolePolicyDocument="{}")
            applied(opened)
            report = opened.verify()
            assert report.ok, report.as_json()
            assert "does not simulate" in row_of(report, CheckKind.NODE_RIGHTS, "role nodes").reason
