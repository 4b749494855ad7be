"""The aws CLI over HTTP: what a user types, the exact commands of the documentation among it.

The upstream is a docker-registry behind tokens that stands in for registry-1.docker.io.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.aws import Account, key_settings, push, small_image
from tests.e2e.clients import AwsCli, Skopeo
from tests.e2e.conftest import StartEngine, Stock, docker_hub, fill_stock
from tests.e2e.engine import Engine
from tests.e2e.images import OCI_INDEX, digest_of
from tests.e2e.registry import Registry, TokenServer

NGINX = "library/nginx"
ACCOUNT = "000000000000"


@pytest.fixture
def keys(folder: Path) -> str:
    return key_settings(folder, Account(""))


@pytest.fixture
def hub(engine: StartEngine, guarded: Registry, keys: str) -> Engine:
    """An engine for which a registry behind tokens is Docker Hub, and which lets nobody in without a login."""
    return engine(docker_hub(guarded, keys), serve="pull_auth = true")


@pytest.fixture
def aws(hub: Engine, folder: Path) -> AwsCli:
    return AwsCli(folder / "aws", Account(hub.url).environ)


def test_quick_start(
    folder: Path, stock: Stock, workshop: Path, guarded: Registry, tokens: TokenServer, hub: Engine, aws: AwsCli
) -> None:
    """Secret, rule, template, login, pull, look: each command as the documentation has it."""
    with fill_stock(workshop, stock.storage) as registry:
        registry.push(NGINX, "1.27", stock.busybox)
    tokens.anonymous = False
    tokens.users["u"] = "t"

    secret = aws.json(
        *("secretsmanager", "create-secret", "--name", "ecr-pullthroughcache/docker-hub"),
        *("--secret-string", '{"username":"u","accessToken":"t"}'),
    )
    rule = aws.json(
        *("ecr", "create-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub"),
        *("--upstream-registry-url", "registry-1.docker.io", "--credential-arn", secret["ARN"]),
    )
    assert rule["credentialArn"] == secret["ARN"]
    assert aws.json(
        "ecr", "validate-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub", "--query", "isValid"
    )
    aws.json(
        *("ecr", "create-repository-creation-template", "--prefix", "ROOT", "--applied-for", "PULL_THROUGH_CACHE"),
        *("--resource-tags", "Key=made-by,Value=pull", "--image-tag-mutability", "MUTABLE"),
    )

    skopeo = Skopeo(folder / "skopeo")
    skopeo.login(hub.address, "AWS", aws.text("ecr", "get-login-password").strip())
    name = f"docker-hub/{NGINX}"
    assert skopeo.pull(f"{hub.address}/{name}:1.27", everything=True) == stock.busybox.digest

    details = aws.json("ecr", "describe-images", "--repository-name", name)["imageDetails"]
    (tagged,) = (one for one in details if one.get("imageTags") == ["1.27"])
    assert tagged["imageDigest"] == stock.busybox.digest
    assert tagged["imageManifestMediaType"] == OCI_INDEX
    assert {one["imageDigest"] for one in details} == {manifest.digest for manifest in stock.busybox.manifests}
    arn = f"arn:aws:ecr:us-east-1:{ACCOUNT}:repository/{name}"
    assert aws.json("ecr", "list-tags-for-resource", "--resource-arn", arn)["tags"] == [
        {"Key": "made-by", "Value": "pull"}
    ]
    assert tokens.asked[f"u repository:{NGINX}:pull"] >= 1
    assert not [who for who in tokens.asked if who.startswith("refused")]
    assert '"t"' not in hub.log.read_text()


def test_first_key_is_made_and_shown_once(folder: Path, engine: StartEngine) -> None:
    """What it prints is what a shell takes: the names are those that the aws CLI reads."""
    hub = engine()
    lines = [line.removeprefix("export ") for line in hub.command("keys", "show").splitlines() if "=" in line]
    shown = {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines)}
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= shown.keys()
    aws = AwsCli(folder / "aws", Account(hub.url).environ | shown)
    assert aws.json("sts", "get-caller-identity")["Arn"].endswith("/admin")
    assert shown["AWS_SECRET_ACCESS_KEY"] not in hub.log.read_text()


def test_rotated_secret_counts_from_the_next_pull(
    folder: Path, stock: Stock, tokens: TokenServer, hub: Engine, aws: AwsCli
) -> None:
    tokens.anonymous = False
    secret = aws.json(
        *("secretsmanager", "create-secret", "--name", "ecr-pullthroughcache/docker-hub"),
        *("--secret-string", '{"username":"acme","accessToken":"wrong"}'),
    )
    arn = str(secret["ARN"])
    aws.json(
        *("ecr", "create-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub"),
        *("--upstream-registry-url", "registry-1.docker.io", "--credential-arn", arn),
    )
    checked = aws.json("ecr", "validate-pull-through-cache-rule", "--ecr-repository-prefix", "docker-hub")
    assert checked["isValid"] is False
    assert "UPSTREAM_AUTH_FAILED" in checked["failure"]
    value = '{"username":"acme","accessToken":"right"}'
    aws.json("secretsmanager", "put-secret-value", "--secret-id", arn, "--secret-string", value)
    skopeo = Skopeo(folder / "skopeo")
    skopeo.login(hub.address, "AWS", aws.text("ecr", "get-login-password").strip())
    assert skopeo.pull(f"{hub.address}/docker-hub/library/schema2:1") == stock.schema2.digest


def test_rules(aws: AwsCli) -> None:
    aws.json("ecr", "create-pull-through-cache-rule", "--ecr-repository-prefix", "quay", *_UPSTREAM)
    query = "pullThroughCacheRules[].[ecrRepositoryPrefix,upstreamRegistryUrl]"
    assert aws.text("ecr", "describe-pull-through-cache-rules", "--query", query, "--output", "text").split() == [
        "quay",
        "quay.io",
    ]
    said = aws.error("ecr", "create-pull-through-cache-rule", "--ecr-repository-prefix", "quay", *_UPSTREAM)
    assert "(PullThroughCacheRuleAlreadyExistsException)" in said
    assert "A pull through cache rule with these settings already exists for the private registry." in said
    aws.json("ecr", "delete-pull-through-cache-rule", "--ecr-repository-prefix", "quay")
    said = aws.error("ecr", "delete-pull-through-cache-rule", "--ecr-repository-prefix", "quay")
    assert "(PullThroughCacheRuleNotFoundException)" in said


_UPSTREAM = ("--upstream-registry-url", "quay.io")


def test_templates(aws: AwsCli) -> None:
    create = ("ecr", "create-repository-creation-template", "--prefix", "team", "--applied-for", "CREATE_ON_PUSH")
    assert aws.json(*create)["repositoryCreationTemplate"]["prefix"] == "team"
    assert "(TemplateAlreadyExistsException)" in aws.error(*create)
    update = ("ecr", "update-repository-creation-template", "--prefix", "team", "--description", "pushed")
    assert aws.json(*update)["repositoryCreationTemplate"]["description"] == "pushed"
    query = "repositoryCreationTemplates[0].appliedFor[0]"
    assert aws.json("ecr", "describe-repository-creation-templates", "--query", query) == "CREATE_ON_PUSH"
    aws.json("ecr", "delete-repository-creation-template", "--prefix", "team")
    said = aws.error("ecr", "delete-repository-creation-template", "--prefix", "team")
    assert "(TemplateNotFoundException)" in said


def test_repositories_and_their_documents(aws: AwsCli) -> None:
    uri = aws.text(
        *("ecr", "create-repository", "--repository-name", "team/app", "--tags", "Key=team,Value=a"),
        *("--query", "repository.repositoryUri", "--output", "text"),
    ).strip()
    assert uri.endswith("/team/app")
    said = aws.error("ecr", "create-repository", "--repository-name", "team/app")
    assert "(RepositoryAlreadyExistsException)" in said
    assert f"already exists in the registry with id '{ACCOUNT}'" in said
    said = aws.error("ecr", "describe-repositories", "--repository-names", "team/none")
    assert "(RepositoryNotFoundException)" in said

    of_app = ("--repository-name", "team/app")
    aws.json("ecr", "put-image-tag-mutability", *of_app, "--image-tag-mutability", "IMMUTABLE")
    aws.json("ecr", "put-image-scanning-configuration", *of_app, "--image-scanning-configuration", "scanOnPush=true")
    (app,) = aws.json("ecr", "describe-repositories")["repositories"]
    assert app["imageTagMutability"] == "IMMUTABLE"
    assert app["imageScanningConfiguration"] == {"scanOnPush": True}

    policy = json.dumps({"Version": "2012-10-17", "Statement": [_LET_ALL_PULL]})
    aws.json("ecr", "set-repository-policy", *of_app, "--policy-text", policy)
    got = aws.text("ecr", "get-repository-policy", *of_app, "--query", "policyText", "--output", "text")
    assert json.loads(got) == json.loads(policy)
    said = aws.error("ecr", "set-repository-policy", *of_app, "--policy-text", '{"Statement": 1}')
    assert "(InvalidParameterException)" in said
    assert "Invalid repository policy provided" in said
    aws.json("ecr", "delete-repository-policy", *of_app)
    assert "(RepositoryPolicyNotFoundException)" in aws.error("ecr", "get-repository-policy", *of_app)
    aws.json("ecr", "delete-repository", *of_app)


_LET_ALL_PULL = {"Effect": "Allow", "Principal": "*", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]}


def test_images_layers_and_lifecycle(hub: Engine, aws: AwsCli) -> None:
    of_app = ("--repository-name", "team/app")
    aws.json("ecr", "create-repository", *of_app)
    image = small_image("cli")
    ecr = Account(hub.url).client("ecr")
    push(ecr, "team/app", image, "1")
    push(ecr, "team/app", small_image("older"))

    listed = aws.json("ecr", "list-images", *of_app, "--filter", "tagStatus=TAGGED", "--query", "imageIds")
    assert listed == [{"imageDigest": image.digest, "imageTag": "1"}]
    got = aws.json("ecr", "batch-get-image", *of_app, "--image-ids", "imageTag=1", "imageTag=none")
    assert digest_of(got["images"][0]["imageManifest"].encode()) == image.digest
    assert [failure["failureCode"] for failure in got["failures"]] == ["ImageNotFound"]
    said = aws.error("ecr", "describe-images", *of_app, "--image-ids", "imageTag=none")
    assert "(ImageNotFoundException)" in said
    assert "imageTag:'none'" in said

    layer = image.blobs[1]
    url = aws.json("ecr", "get-download-url-for-layer", *of_app, "--layer-digest", layer.digest)["downloadUrl"]
    assert url.startswith(hub.url)
    assert hub.get(url.removeprefix(hub.url)).body == layer.body
    found = aws.json("ecr", "batch-check-layer-availability", *of_app, "--layer-digests", layer.digest)
    assert found["layers"][0]["layerAvailability"] == "AVAILABLE"

    selection = {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1}
    policy = json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})
    aws.json("ecr", "put-lifecycle-policy", *of_app, "--lifecycle-policy-text", policy)
    aws.json("ecr", "start-lifecycle-policy-preview", *of_app)
    aws.text("ecr", "wait", "lifecycle-policy-preview-complete", *of_app)
    preview = aws.json("ecr", "get-lifecycle-policy-preview", *of_app)
    assert (preview["status"], preview["previewResults"]) == ("COMPLETE", [])
    wrong = policy.replace("expire", "sell")
    said = aws.error("ecr", "put-lifecycle-policy", *of_app, "--lifecycle-policy-text", wrong)
    assert "(InvalidParameterException)" in said
    assert "Lifecycle policy validation failure" in said

    aws.json("ecr", "batch-delete-image", *of_app, "--image-ids", "imageTag=1")
    assert aws.json("ecr", "list-images", *of_app, "--filter", "tagStatus=TAGGED", "--query", "imageIds") == []


def test_the_registry_as_a_whole(aws: AwsCli) -> None:
    assert aws.json("ecr", "describe-registry") == {
        "registryId": ACCOUNT,
        "replicationConfiguration": {"rules": []},
    }
    setting = ("ecr", "put-account-setting", "--name", "REGISTRY_POLICY_SCOPE", "--value", "V2")
    assert aws.json(*setting) == {"name": "REGISTRY_POLICY_SCOPE", "value": "V2"}
    assert aws.json("ecr", "get-account-setting", "--name", "REGISTRY_POLICY_SCOPE")["value"] == "V2"
    said = aws.error("ecr", "get-registry-policy")
    assert "(RegistryPolicyNotFoundException)" in said
    aws.json("ecr", "put-registry-scanning-configuration", "--scan-type", "BASIC", "--rules", "[]")
    assert (
        aws.json("ecr", "get-registry-scanning-configuration", "--query", "scanningConfiguration.scanType") == "BASIC"
    )
    role = f"arn:aws:iam::{ACCOUNT}:role/scanner"
    aws.json("ecr", "register-pull-time-update-exclusion", "--principal-arn", role)
    query = ("--query", "pullTimeUpdateExclusions[]")
    assert aws.json("ecr", "list-pull-time-update-exclusions", *query) == [role]
    aws.json("ecr", "deregister-pull-time-update-exclusion", "--principal-arn", role)
    assert "(ExclusionNotFoundException)" in aws.error(
        "ecr", "deregister-pull-time-update-exclusion", "--principal-arn", role
    )


def test_who_am_i_and_the_login(aws: AwsCli) -> None:
    assert aws.json("sts", "get-caller-identity")["Account"] == ACCOUNT
    (data,) = aws.json("ecr", "get-authorization-token")["authorizationData"]
    assert base64.b64decode(data["authorizationToken"]).startswith(b"AWS:")


def test_wrong_key_is_told_so(hub: Engine, folder: Path) -> None:
    forger = AwsCli(folder / "forger", Account(hub.url, secret_access_key="guessed").environ)
    said = forger.error("ecr", "describe-registry")
    assert "The request signature we calculated does not match the signature you provided" in said
    stranger = AwsCli(folder / "stranger", Account(hub.url, access_key_id="AKIDNOBODY").environ)
    assert "The security token included in the request is invalid" in stranger.error("sts", "get-caller-identity")


def test_secrets(aws: AwsCli) -> None:
    of_it = ("--secret-id", "team/secret")
    aws.json("secretsmanager", "create-secret", "--name", "team/secret", "--secret-string", "first")
    aws.json("secretsmanager", "update-secret", *of_it, "--secret-string", "second")
    value = ("--query", "SecretString", "--output", "text")
    assert aws.text("secretsmanager", "get-secret-value", *of_it, *value) == "second\n"
    previous = ("--version-stage", "AWSPREVIOUS")
    assert aws.text("secretsmanager", "get-secret-value", *of_it, *previous, *value) == "first\n"
    assert aws.json("secretsmanager", "list-secrets", "--query", "SecretList[].Name") == ["team/secret"]
    aws.json("secretsmanager", "delete-secret", *of_it, "--force-delete-without-recovery")
    said = aws.error("secretsmanager", "get-secret-value", *of_it)
    assert "(ResourceNotFoundException)" in said
    assert "Secrets Manager can't find the specified secret." in said


def test_operation_that_is_not_done_says_which(aws: AwsCli) -> None:
    said = aws.error("secretsmanager", "rotate-secret", "--secret-id", "team/secret")
    assert "RotateSecret" in said
