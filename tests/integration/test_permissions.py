"""Who may pull, push and delete: logins, roles and policies at the registry's own end-points, with one and two workers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pullthrough.demo.images import make_image
from pullthrough.oci.digests import digest_of
from tests.aws import ACCOUNT_ID, REGION, Account, fails_with, key_settings
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.ecr import TRIES
from tests.integration.lanes import access_lines, error_of
from tests.integration.pushing import Pusher

ANYBODY: dict[str, str] = {}
#: As an ECR user has it who builds images for one team.
BUILDER = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": [
                *("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability", "ecr:PutImage"),
                *("ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload", "ecr:CreateRepository"),
            ],
            "Resource": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/team/*",
        },
        {
            "Effect": "Allow",
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            "Resource": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/hub/*",
        },
    ],
}


@dataclass(frozen=True)
class House:
    engine: Engine
    upstream: ScriptedUpstream

    def account(self, name: str) -> Account:
        return Account(self.engine.url, f"AKID{name.upper()}", f"the-secret-half-of-{name}")

    def login(self, name: str) -> dict[str, str]:
        """The header that docker sends after `aws ecr get-login-password`."""
        token = self.account(name).client("ecr").get_authorization_token()["authorizationData"][0]
        return {"Authorization": f"Basic {token['authorizationToken']}"}

    def ecr(self) -> Any:
        return self.account("admin").client("ecr")

    def to(self, repository: str, headers: dict[str, str]) -> Pusher:
        return Pusher(self.engine, repository, headers)


def start(folder: Path, workers: int, upstream: ScriptedUpstream, serve: str = "") -> House:
    keys = ""
    for name, role in (("admin", "admin"), ("puller", "pull")):
        keys += key_settings(
            folder, Account("", f"AKID{name.upper()}", f"the-secret-half-of-{name}"), name=name, role=role
        )
    policy = folder / "builder.json"
    policy.write_text(json.dumps(BUILDER))
    keys += key_settings(folder, Account("", "AKIDBUILDER", "the-secret-half-of-builder"), name="builder").replace(
        'role = "admin"', f'policy_file = "{policy}"'
    )
    config = (
        f"standard_rules = false\n[serve]\nworkers = {workers}\n{serve}\n"
        f'[ecr]\naccount = "{ACCOUNT_ID}"\nregion = "{REGION}"\n'
        '[rules.hub]\nupstream = "quay.io"\n'
        f'[upstreams."quay.io"]\nendpoint = "{upstream.url}"\n{keys}'
    )
    engine = Engine(folder / "engine", config)
    engine.start()
    return House(engine, upstream)


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def workers(request: pytest.FixtureRequest) -> int:
    count: int = request.param
    return count


@pytest.fixture
def house(tmp_path: Path, workers: int, upstream: ScriptedUpstream) -> Iterator[House]:
    """Anybody on this machine may pull."""
    opened = start(tmp_path, workers, upstream)
    yield opened
    opened.engine.end()


@pytest.fixture
def closed(tmp_path: Path, workers: int, upstream: ScriptedUpstream) -> Iterator[House]:
    """Nobody may do anything without a login."""
    opened = start(tmp_path, workers, upstream, "pull_auth = true")
    yield opened
    opened.engine.end()


def statuses(pusher: Pusher, path: str) -> set[int]:
    """Of several requests, of which each worker gets some."""
    return {pusher.ask("GET", path).status for _ in range(TRIES)}


def test_anybody_pulls_and_only_who_has_logged_in_pushes(house: House) -> None:
    image = make_image("app")
    admin, anybody = house.to("team/app", house.login("admin")), house.to("team/app", ANYBODY)
    challenge = f'Basic realm="http://{house.engine.address}/",service="ecr.amazonaws.com"'
    ping = anybody.ask("GET", "/v2/")
    assert (ping.status, ping.headers["www-authenticate"]) == (200, challenge)
    assert "www-authenticate" not in admin.ask("GET", "/v2/").headers
    for method, path in (
        ("POST", "blobs/uploads/"),
        ("GET", "blobs/uploads/x"),
        ("PUT", "manifests/1"),
        ("DELETE", "manifests/1"),
        ("DELETE", "/v2/hub/x/manifests/1"),
    ):
        refused = anybody.ask(method, path, b"")
        assert error_of(refused)[:2] == (401, "UNAUTHORIZED")
        assert refused.headers["www-authenticate"] == challenge
    admin.push(image, "1")
    assert anybody.pull("1").body == image.manifest.body
    wrong = {"Authorization": "Basic " + base64.b64encode(b"AWS:wrong").decode()}
    assert error_of(house.to("team/app", wrong).pull("1"))[:2] == (401, "UNAUTHORIZED")


def test_the_role_for_pulls_does_not_push(house: House) -> None:
    puller = house.to("team/app", house.login("puller"))
    status, code, message = error_of(puller.ask("POST", "blobs/uploads/", b""))
    assert (status, code) == (403, "DENIED")
    assert message == (
        f"User: arn:aws:iam::{ACCOUNT_ID}:user/puller is not authorized to perform: ecr:InitiateLayerUpload on resource: "
        f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/team/app because no identity-based policy allows the "
        "ecr:InitiateLayerUpload action"
    )


def test_without_a_login_nothing_is_learned(closed: House) -> None:
    closed.upstream.add("library/app", make_image("app"), "1")
    admin = closed.to("hub/library/app", closed.login("admin"))
    assert statuses(admin, "manifests/1") == {200}
    anybody = closed.to("hub/library/app", ANYBODY)
    for path in (
        *("/v2/", "/v2/_catalog", "/v2/x", "/v2x", "manifests/1", "manifests/2", "manifests/.", "tags/list"),
        *(f"blobs/{digest_of(b'')}", f"referrers/{digest_of(b'')}", "/v2/no/thing/manifests/1", "/v2/A/manifests/1"),
    ):
        answers = {(answer.status, answer.body) for answer in (anybody.ask("GET", path) for _ in range(TRIES))}
        assert {status for status, _ in answers} == {401}
        assert len(answers) == 1
    assert anybody.ask("GET", "/healthz").status == 200


def test_a_policy_counts_at_once_also_for_what_is_in_memory(house: House) -> None:
    image = make_image("app")
    admin = house.to("team/app", house.login("admin"))
    admin.push(image, "1")
    anybody = house.to("team/app", ANYBODY)
    assert statuses(anybody, "manifests/1") == {200}
    deny = {"Sid": "x", "Effect": "Deny", "Principal": "*", "Action": "ecr:BatchGetImage"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    house.ecr().set_repository_policy(repositoryName="team/app", policyText=policy)
    assert statuses(anybody, "manifests/1") == {401}
    assert statuses(house.to("team/app", house.login("puller")), "manifests/1") == {403}
    assert statuses(anybody, f"blobs/{image.blobs[0].digest}") == {200}
    house.ecr().delete_repository_policy(repositoryName="team/app")
    assert statuses(anybody, "manifests/1") == {200}


def test_a_policy_document_says_what_may_be_pushed_and_imported(house: House) -> None:
    image = make_image("app")
    builder = house.login("builder")
    house.to("team/app", builder).push(image, "1")
    for repository in ("other/app", "team"):
        answer = house.to(repository, builder).ask("POST", "blobs/uploads/", b"")
        assert error_of(answer)[:2] == (403, "DENIED")
    status, _, message = error_of(house.to("team/app", builder).ask("DELETE", "manifests/1"))
    assert status == 403
    assert "ecr:BatchDeleteImage" in message
    # From upstream only what somebody else has imported.
    house.upstream.add("library/app", image, "1")
    hub = house.to("hub/library/app", builder)
    status, _, message = error_of(hub.pull("1"))
    assert status == 403
    assert "ecr:CreateRepository" in message
    assert house.upstream.requests.count() == 0
    assert house.to("hub/library/app", ANYBODY).pull("1").status == 200
    assert statuses(hub, "manifests/1") == {200}
    status, _, message = error_of(hub.pull("2"))
    assert status == 403
    assert "ecr:BatchImportUpstreamImage" in message
    assert house.upstream.requests.count() == 1


def test_a_blob_is_mounted_only_from_where_it_may_be_read(house: House) -> None:
    image = make_image("app")
    digest = image.blobs[0].digest
    house.to("secret/app", house.login("admin")).push(image, "1")
    builder = house.to("team/app", house.login("builder"))
    for query in (f"mount={digest}&from=secret/app", f"mount={digest}"):
        assert builder.ask("POST", f"blobs/uploads/?{query}", b"").status == 202
    house.to("team/open", house.login("admin")).push(image, "1")
    for query in (f"mount={digest}&from=team/open", f"mount={digest}"):
        assert builder.ask("POST", f"blobs/uploads/?{query}", b"").status == 201


def test_a_signed_download_url_opens_its_layer_and_nothing_else(closed: House) -> None:
    image = make_image("app")
    admin = closed.to("team/app", closed.login("admin"))
    admin.push(image, "1")
    layer = image.blobs[1]
    given = closed.ecr().get_download_url_for_layer(repositoryName="team/app", layerDigest=layer.digest)
    url = urlsplit(given["downloadUrl"])
    anybody = closed.to("team/app", ANYBODY)
    assert anybody.ask("GET", f"{url.path}?{url.query}").body == layer.read()
    assert anybody.ask("HEAD", f"{url.path}?{url.query}").status == 200
    assert anybody.ask("DELETE", f"{url.path}?{url.query}").status == 401
    config = url.path.replace(layer.digest, image.blobs[0].digest)
    assert anybody.ask("GET", f"{config}?{url.query}").status == 403
    assert anybody.ask("GET", f"{url.path}?{url.query[:-1]}").status == 403
    assert anybody.ask("GET", f"/v2/team/app/manifests/1?{url.query}").status == 401
    assert anybody.ask("GET", url.path).status == 401
    # Another repository's name, by what the signature is not over.
    assert anybody.ask("GET", f"{url.path}?{url.query}&ns=quay.io").status == 401
    assert closed.upstream.requests.count() == 0
    signature = url.query.rpartition("=")[2]
    closed.engine.stop()
    assert signature not in closed.engine.log.read_text()
    assert any(line["path"] == url.path for line in access_lines(closed.engine))


def test_a_download_url_does_what_its_key_may_do_when_it_is_used(closed: House, tmp_path: Path) -> None:
    image = make_image("app")
    closed.to("team/app", closed.login("admin")).push(image, "1")
    layer = image.blobs[1]
    name = {"repositoryName": "team/app"}

    def url_of(account: Account) -> str:
        given = account.client("ecr").get_download_url_for_layer(**name, layerDigest=layer.digest)
        return str(given["downloadUrl"]).removeprefix(closed.engine.url)

    limited = key_with(closed, tmp_path, "ecr:GetDownloadUrlForLayer")
    url, anybody = url_of(limited), closed.to("team/app", ANYBODY)
    assert statuses(anybody, url) == {200}
    statement = {"Sid": "x", "Effect": "Deny", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:user/limited"}}
    policy = version_2012({**statement, "Action": "ecr:GetDownloadUrlForLayer"})
    closed.ecr().set_repository_policy(**name, policyText=policy)
    assert statuses(anybody, url) == {403}
    assert statuses(anybody, url_of(closed.account("admin"))) == {200}
    closed.ecr().delete_repository_policy(**name)
    assert statuses(anybody, url) == {200}
    closed.engine.command("keys", "renew", "limited", "--json")
    assert statuses(anybody, url) == {403}
    closed.engine.command("keys", "remove", "limited", "--json")
    assert statuses(anybody, url) == {403}


def test_pulls_of_an_excluded_principal_leave_the_pull_time_as_it_is(house: House) -> None:
    image = make_image("app")
    house.to("team/app", house.login("admin")).push(image, "1")
    ecr = house.ecr()
    arn = f"arn:aws:iam::{ACCOUNT_ID}:user/puller"
    ecr.register_pull_time_update_exclusion(principalArn=arn)
    assert statuses(house.to("team/app", house.login("puller")), "manifests/1") == {200}
    house.engine.restart()  # what was noted is written
    assert "lastRecordedPullTime" not in ecr.describe_images(repositoryName="team/app")["imageDetails"][0]
    assert house.to("team/app", ANYBODY).pull("1").status == 200
    house.engine.restart()
    assert "lastRecordedPullTime" in ecr.describe_images(repositoryName="team/app")["imageDetails"][0]


def deny(house: House, action: str, repository: str) -> None:
    """To everybody, by the registry's policy."""
    statement = {
        "Sid": "x",
        "Effect": "Deny",
        "Principal": "*",
        "Action": action,
        "Resource": f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/{repository}",
    }
    house.ecr().put_registry_policy(policyText=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def test_the_list_of_repositories_is_about_all_of_them(house: House) -> None:
    anybody = house.to("team/app", ANYBODY)
    assert statuses(anybody, "/v2/_catalog") == {200}
    deny(house, "ecr:DescribeRepositories", "*")
    assert statuses(anybody, "/v2/_catalog") == {401}


def test_a_name_that_may_mean_two_repositories_is_fetched_for_the_allowed_one_only(house: House) -> None:
    """`?ns=quay.io` means hub/hub/library/app, or else hub/library/app."""
    image = make_image("app")
    house.upstream.add("library/app", image, "1")
    for action in ("ecr:BatchImportUpstreamImage", "ecr:CreateRepository"):
        deny(house, action, "hub/library/app")
        anybody = house.to("hub/library/app", ANYBODY)
        assert statuses(anybody, "manifests/1?ns=quay.io") == {404}
    assert statuses(anybody, f"blobs/{image.blobs[0].digest}?ns=quay.io") == {404}
    assert house.upstream.requests.count(repository="library/app") == 0
    assert house.ecr().describe_repositories()["repositories"] == []


def version_2012(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def key_for(house: House, folder: Path, *statements: dict[str, Any]) -> Account:
    """A new key of which the statements say what it may."""
    policy = folder / "policy.json"
    policy.write_text(version_2012(*statements))
    made = json.loads(house.engine.command("keys", "create", "limited", "--policy", str(policy), "--json"))
    return Account(house.engine.url, made["access_key_id"], made["secret_access_key"])


def key_with(house: House, folder: Path, *actions: str) -> Account:
    """A new key that may do this to everything."""
    return key_for(house, folder, {"Effect": "Allow", "Action": actions, "Resource": "*"})


def test_a_secret_goes_to_a_host_of_anybodys_choice_only_for_who_may_read_it(house: House, tmp_path: Path) -> None:
    secret = house.account("admin").client("secretsmanager")
    arn = secret.create_secret(Name="ecr-pullthroughcache/x", SecretString="{}")["ARN"]
    limited = key_with(house, tmp_path, "ecr:*").client("ecr")
    foreign = {"ecrRepositoryPrefix": "mine", "upstreamRegistryUrl": "registry.example.com"}
    with fails_with("AccessDeniedException", "secretsmanager:GetSecretValue"):
        limited.create_pull_through_cache_rule(**foreign, credentialArn=arn)
    limited.create_pull_through_cache_rule(**foreign)
    with fails_with("AccessDeniedException", "secretsmanager:GetSecretValue"):
        limited.update_pull_through_cache_rule(ecrRepositoryPrefix="mine", credentialArn=arn)
    house.ecr().update_pull_through_cache_rule(ecrRepositoryPrefix="mine", credentialArn=arn)
    # As on AWS, whose registries are those that the secret is for.
    known = {"ecrRepositoryPrefix": "known", "upstreamRegistryUrl": "ghcr.io"}
    limited.create_pull_through_cache_rule(**known, credentialArn=arn)


def test_a_batch_by_filters_is_a_list_of_secrets_too(house: House, tmp_path: Path) -> None:
    limited = key_with(house, tmp_path, "secretsmanager:BatchGetSecretValue").client("secretsmanager")
    with fails_with("AccessDeniedException", "secretsmanager:ListSecrets"):
        limited.batch_get_secret_value(Filters=[{"Key": "name", "Values": ["x"]}])
    assert limited.batch_get_secret_value(SecretIdList=["x"])["Errors"][0]["ErrorCode"] == "AccessDeniedException"


def test_the_tags_of_a_repository_decide_in_every_worker_as_they_are_now(house: House) -> None:
    image = make_image("app")
    admin, ecr = house.to("team/app", house.login("admin")), house.ecr()
    admin.push(image, "1")
    puller = house.login("puller")
    name, arn = {"repositoryName": "team/app"}, f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/team/app"
    tagged = {"StringEquals": {"ecr:ResourceTag/Stage": "secret"}}
    denied = {"Sid": "x", "Effect": "Deny", "Principal": "*", "Condition": tagged}
    reads = {**denied, "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}
    pushes = {**denied, "Action": "ecr:InitiateLayerUpload", "Resource": "*"}

    def seen() -> list[set[int]]:
        pulls = [statuses(house.to("team/app", login), "manifests/1") for login in (ANYBODY, puller)]
        blobs = f"blobs/{image.blobs[0].digest}"
        pushed = {admin.ask("POST", "blobs/uploads/", b"").status for _ in range(TRIES)}
        return [*pulls, statuses(house.to("team/app", puller), blobs), pushed]

    ecr.set_repository_policy(**name, policyText=version_2012(reads))
    ecr.put_registry_policy(policyText=version_2012(pushes))
    assert seen() == [{200}, {200}, {200}, {202}]
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "stage", "Value": "secret"}])
    assert seen() == [{401}, {403}, {403}, {403}]
    with fails_with("AccessDeniedException", "explicit deny"):
        house.account("puller").client("ecr").batch_get_image(**name, imageIds=[{"imageTag": "1"}])
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "stage", "Value": "open"}])
    assert seen() == [{200}, {200}, {200}, {202}]
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "STAGE", "Value": "secret"}])
    assert seen() == [{401}, {403}, {403}, {403}]
    ecr.untag_resource(resourceArn=arn, tagKeys=["STAGE"])
    assert seen() == [{200}, {200}, {200}, {202}]


def test_a_key_may_be_for_what_has_a_tag(house: House, tmp_path: Path) -> None:
    allowed = {
        "Effect": "Allow",
        "Action": "*",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "a"}},
    }
    limited = key_for(house, tmp_path, allowed)
    ecr, secrets = limited.client("ecr"), limited.client("secretsmanager")
    mine, others = [{"Key": "team", "Value": "a"}], [{"Key": "team", "Value": "b"}]
    # What is made has the tags that it is made with.
    ecr.create_repository(repositoryName="mine", tags=mine)
    arn = secrets.create_secret(Name="mine", SecretString="x", Tags=mine)["ARN"]
    for refused in ({}, {"tags": others}):
        with fails_with("AccessDeniedException", "ecr:CreateRepository"):
            ecr.create_repository(repositoryName="theirs", **refused)
    with fails_with("AccessDeniedException", "secretsmanager:CreateSecret"):
        secrets.create_secret(Name="theirs", SecretString="x", Tags=others)
    house.ecr().create_repository(repositoryName="theirs", tags=others)
    theirs = house.account("admin").client("secretsmanager").create_secret(Name="theirs", SecretString="x")["ARN"]
    for _ in range(TRIES):
        assert ecr.describe_images(repositoryName="mine")["imageDetails"] == []
        assert secrets.get_secret_value(SecretId=arn)["SecretString"] == "x"
        with fails_with("AccessDeniedException", "ecr:DescribeImages"):
            ecr.describe_images(repositoryName="theirs")
        with fails_with("AccessDeniedException", "secretsmanager:GetSecretValue"):
            secrets.get_secret_value(SecretId=theirs)
    house.account("admin").client("secretsmanager").untag_resource(SecretId=arn, TagKeys=["team"])
    for _ in range(TRIES):
        with fails_with("AccessDeniedException"):
            secrets.get_secret_value(SecretId=arn)


def test_a_key_may_be_kept_from_some_tags(house: House, tmp_path: Path) -> None:
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    keys = {"ForAnyValue:StringEqualsIgnoreCase": {"aws:TagKeys": "team"}}
    tagging = [f"{service}:{verb}agResource" for service in ("ecr", "secretsmanager") for verb in ("T", "Unt")]
    guarded = {**everything, "Effect": "Deny", "Action": tagging, "Condition": keys}
    limited = key_for(house, tmp_path, everything, guarded)
    ecr, secrets = limited.client("ecr"), limited.client("secretsmanager")
    arn = ecr.create_repository(repositoryName="app", tags=[{"Key": "x", "Value": "y"}])["repository"]["repositoryArn"]
    secret = secrets.create_secret(Name="s", SecretString="x", Tags=[{"Key": "x", "Value": "y"}])["ARN"]
    tags = [{"Key": "x", "Value": "y"}, {"Key": "Team", "Value": "a"}]
    template = {"prefix": "p", "appliedFor": ["CREATE_ON_PUSH"]}
    attempts: list[Callable[[], Any]] = [
        lambda: ecr.tag_resource(resourceArn=arn, tags=tags),
        lambda: ecr.untag_resource(resourceArn=arn, tagKeys=["team"]),
        lambda: ecr.create_repository(repositoryName="other", tags=tags),
        lambda: ecr.create_repository_creation_template(**template, resourceTags=tags),
        lambda: secrets.tag_resource(SecretId=secret, Tags=tags),
        lambda: secrets.untag_resource(SecretId=secret, TagKeys=["TEAM"]),
        lambda: secrets.create_secret(Name="t", SecretString="x", Tags=tags),
    ]
    for attempt in attempts:
        with fails_with("AccessDeniedException", "agResource on resource"):
            attempt()
    ecr.tag_resource(resourceArn=arn, tags=tags[:1])
    ecr.create_repository_creation_template(**template, resourceTags=tags[:1])


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"StringEquals": {"aws:PrincipalTag/team": "a"}}, "this Deny would never apply"),
        ({"StringEquals": {"aws:username": "${aws:PrincipalTag/team}"}}, "this Deny would never apply"),
        ({"StringEquals": {"aws:TagKeys": "team"}}, "goes before it"),
    ],
)
def test_a_policy_that_would_permit_more_than_it_says_is_refused_wherever_it_is_put(
    house: House, tmp_path: Path, condition: dict[str, Any], why: str
) -> None:
    ecr, secrets = house.ecr(), house.account("admin").client("secretsmanager")
    ecr.create_repository(repositoryName="app")
    arn = secrets.create_secret(Name="s", SecretString="x")["ARN"]

    def text(action: str, **more: str) -> str:
        return version_2012({"Effect": "Deny", "Action": action, "Condition": condition, **more})

    repository = text("ecr:*", Principal="*")
    with fails_with("InvalidParameterException", "Invalid repository policy provided", why):
        ecr.set_repository_policy(repositoryName="app", policyText=repository)
    with fails_with("InvalidParameterException", "Invalid repository policy provided", why):
        ecr.create_repository_creation_template(prefix="p", appliedFor=["CREATE_ON_PUSH"], repositoryPolicy=repository)
    with fails_with("InvalidParameterException", "Invalid registry policy provided", why):
        ecr.put_registry_policy(policyText=text("ecr:*", Principal="*", Resource="*"))
    with fails_with("MalformedPolicyDocumentException", why):
        secrets.put_resource_policy(SecretId=arn, ResourcePolicy=text("secretsmanager:*", Principal="*", Resource="*"))
    policy = tmp_path / "policy.json"
    policy.write_text(text("*", Resource="*"))
    with pytest.raises(AssertionError, match=why):
        house.engine.command("keys", "create", "x", "--policy", str(policy))


def test_a_template_sets_what_its_maker_may_set_only(house: House, tmp_path: Path) -> None:
    limited = key_with(house, tmp_path, "ecr:CreateRepositoryCreationTemplate", "ecr:UpdateRepositoryCreationTemplate")
    ecr = limited.client("ecr")
    ecr.create_repository_creation_template(prefix="team", appliedFor=["CREATE_ON_PUSH"])
    for member, operation in (
        ("repositoryPolicy", "SetRepositoryPolicy"),
        ("lifecyclePolicy", "PutLifecyclePolicy"),
        ("resourceTags", "TagResource"),
    ):
        setting = {member: [] if operation == "TagResource" else "{}"}
        with fails_with("AccessDeniedException", f"ecr:{operation}", "repository/team/*"):
            ecr.update_repository_creation_template(prefix="team", **setting)
        with fails_with("AccessDeniedException", f"ecr:{operation}", "repository/*"):
            ecr.create_repository_creation_template(prefix="ROOT", appliedFor=["CREATE_ON_PUSH"], **setting)
