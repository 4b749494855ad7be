"""What Terraform's AWS provider asks for each resource of this cache, in its order: made, read twice, changed, removed.

The sequences are the provider's own (internal/service/ecr and internal/service/secretsmanager of
hashicorp/terraform-provider-aws): which members it sends, which codes mean "gone" to it, what it compares. A read must
not differ from the one before, and have no member that was not set, or Terraform plans a change for ever.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.aws import ACCOUNT_ID, REGION, Account, answer, fails_with, key_settings, unique
from tests.e2e.engine import Engine


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def account(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    folder = tmp_path_factory.mktemp("terraform")
    keys = key_settings(folder, Account(""))
    config = f'standard_rules = false\n[serve]\nworkers = {request.param}\n[ecr]\naccount = "{ACCOUNT_ID}"\n{keys}'
    engine = Engine(folder / "engine", config)
    try:
        engine.start()
        yield Account(engine.url)
    finally:
        engine.end()


@pytest.fixture
def ecr(account: Account) -> Any:
    return account.client("ecr")


@pytest.fixture
def secrets(account: Account) -> Any:
    return account.client("secretsmanager")


def settled(read: Callable[[], Any]) -> Any:
    """What a read gives, which must be what the next one gives too."""
    first, second = read(), read()
    assert first == second
    return first


def policy(*actions: str, resource: str = "") -> str:
    statement: dict[str, Any] = {
        "Sid": "one",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"},
        "Action": list(actions),
    }
    if resource:
        statement["Resource"] = resource
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def lifecycle(count: int) -> str:
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": count}
    return json.dumps({"rules": [{"rulePriority": 1, "selection": selection, "action": {"type": "expire"}}]})


def test_provider_start(account: Account) -> None:
    identity = answer(account.client("sts").get_caller_identity())
    assert identity["Account"] == ACCOUNT_ID
    assert identity["Arn"]
    assert identity["UserId"]


def test_pull_through_cache_rule(ecr: Any, secrets: Any) -> None:
    prefix = unique("hub")

    def read() -> dict[str, Any]:
        (rule,) = ecr.describe_pull_through_cache_rules(ecrRepositoryPrefixes=[prefix])["pullThroughCacheRules"]
        found: dict[str, Any] = rule
        return found

    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix=prefix, upstreamRegistryUrl="quay.io")
    rule = settled(read)
    assert rule["ecrRepositoryPrefix"] == prefix
    assert rule["registryId"] == ACCOUNT_ID
    assert rule["upstreamRegistryUrl"] == "quay.io"
    # Optional, and compared: each would be a change to plan where it was not set.
    assert not {"credentialArn", "customRoleArn", "upstreamRepositoryPrefix"} & rule.keys()

    arn = secrets.create_secret(
        Name=f"ecr-pullthroughcache/{prefix}", SecretString=json.dumps({"username": "u", "accessToken": "t"})
    )["ARN"]
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix, credentialArn=arn)
    assert settled(read)["credentialArn"] == arn
    # `credential_arn` was removed from the configuration: the provider sends an update with neither ARN.
    ecr.update_pull_through_cache_rule(ecrRepositoryPrefix=prefix)
    settled(read)

    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix, registryId=ACCOUNT_ID)
    with fails_with("PullThroughCacheRuleNotFoundException"):
        read()


def test_pull_through_cache_rule_with_all_it_may_have(ecr: Any, secrets: Any) -> None:
    prefix = unique("full")
    arn = secrets.create_secret(Name=f"ecr-pullthroughcache/{prefix}", SecretString="test")["ARN"]
    wanted = {
        "ecrRepositoryPrefix": prefix,
        "upstreamRegistryUrl": "registry-1.docker.io",
        "upstreamRepositoryPrefix": "library",
        "credentialArn": arn,
    }
    ecr.create_pull_through_cache_rule(**wanted)
    (rule,) = ecr.describe_pull_through_cache_rules(ecrRepositoryPrefixes=[prefix])["pullThroughCacheRules"]
    assert wanted.items() <= rule.items()
    ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix=prefix, registryId=ACCOUNT_ID)


@pytest.mark.parametrize("prefix", ["team", "ROOT"])
def test_repository_creation_template(ecr: Any, prefix: str) -> None:
    def read() -> dict[str, Any]:
        found = answer(ecr.describe_repository_creation_templates(prefixes=[prefix]))
        assert found["registryId"] == ACCOUNT_ID
        (template,) = found["repositoryCreationTemplates"]
        assert template["prefix"] == prefix
        return dict(template)

    made = ecr.create_repository_creation_template(
        prefix=prefix,
        appliedFor=["PULL_THROUGH_CACHE"],
        imageTagMutability="MUTABLE",
        resourceTags=[{"Key": "a", "Value": "1"}],
    )
    assert made["repositoryCreationTemplate"]["prefix"] == prefix
    template = settled(read)
    assert template["appliedFor"] == ["PULL_THROUGH_CACHE"]
    assert template["imageTagMutability"] == "MUTABLE"
    assert template["encryptionConfiguration"]["encryptionType"] == "AES256"
    assert template["resourceTags"] == [{"Key": "a", "Value": "1"}]
    for member in ("description", "customRoleArn", "lifecyclePolicy", "repositoryPolicy"):
        assert not template.get(member)

    # Only what changed is sent.
    ecr.update_repository_creation_template(
        prefix=prefix,
        description="for the team",
        lifecyclePolicy=lifecycle(5),
        repositoryPolicy=policy("ecr:ListImages"),
    )
    template = settled(read)
    assert template["description"] == "for the team"
    assert json.loads(template["lifecyclePolicy"]) == json.loads(lifecycle(5))
    assert json.loads(template["repositoryPolicy"]) == json.loads(policy("ecr:ListImages"))
    assert template["resourceTags"] == [{"Key": "a", "Value": "1"}]
    # Removed from the configuration: sent empty.
    ecr.update_repository_creation_template(prefix=prefix, description="", lifecyclePolicy="", repositoryPolicy="")
    template = settled(read)
    for member in ("description", "lifecyclePolicy", "repositoryPolicy"):
        assert not template.get(member)
    filters = [{"filterType": "WILDCARD", "filter": "latest*"}]
    ecr.update_repository_creation_template(
        prefix=prefix, imageTagMutability="IMMUTABLE_WITH_EXCLUSION", imageTagMutabilityExclusionFilters=filters
    )
    assert settled(read)["imageTagMutabilityExclusionFilters"] == filters
    ecr.update_repository_creation_template(prefix=prefix, imageTagMutability="IMMUTABLE")
    assert "imageTagMutabilityExclusionFilters" not in settled(read)

    ecr.delete_repository_creation_template(prefix=prefix)
    assert answer(ecr.describe_repository_creation_templates(prefixes=[prefix])) == {
        "registryId": ACCOUNT_ID,
        "repositoryCreationTemplates": [],
    }
    with fails_with("TemplateNotFoundException"):
        ecr.delete_repository_creation_template(prefix=prefix)


def test_repository(ecr: Any) -> None:
    name = unique("team/app")

    def read() -> tuple[dict[str, Any], list[dict[str, str]]]:
        (found,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
        return found, ecr.list_tags_for_resource(resourceArn=found["repositoryArn"])["tags"]

    ecr.create_repository(
        repositoryName=name,
        imageTagMutability="MUTABLE",
        encryptionConfiguration={"encryptionType": "AES256"},
        imageScanningConfiguration={"scanOnPush": False},
        tags=[{"Key": "team", "Value": "a"}],
    )
    repository, tags = settled(read)
    arn = repository["repositoryArn"]
    assert tags == [{"Key": "team", "Value": "a"}]
    assert repository["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert repository["repositoryUri"]

    of_it = {"registryId": ACCOUNT_ID, "repositoryName": name}
    ecr.put_image_tag_mutability(**of_it, imageTagMutability="IMMUTABLE")
    ecr.put_image_scanning_configuration(**of_it, imageScanningConfiguration={"scanOnPush": True})
    ecr.untag_resource(resourceArn=arn, tagKeys=["team"])
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "owner", "Value": "b"}])
    repository, tags = settled(read)
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert tags == [{"Key": "owner", "Value": "b"}]

    ecr.delete_repository(**of_it, force=False)
    with fails_with("RepositoryNotFoundException"):
        ecr.describe_repositories(repositoryNames=[name])


def test_lifecycle_policy(ecr: Any) -> None:
    name = unique("team/app")
    ecr.create_repository(repositoryName=name)

    def read() -> Any:
        found = answer(ecr.get_lifecycle_policy(repositoryName=name))
        assert (found["registryId"], found["repositoryName"]) == (ACCOUNT_ID, name)
        return json.loads(found["lifecyclePolicyText"])

    for count in (5, 7):
        ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=lifecycle(count))
        assert settled(read) == json.loads(lifecycle(count))
    ecr.delete_lifecycle_policy(registryId=ACCOUNT_ID, repositoryName=name)
    with fails_with("LifecyclePolicyNotFoundException"):
        read()
    ecr.delete_repository(repositoryName=name)
    with fails_with("RepositoryNotFoundException"):
        read()


def test_repository_policy(ecr: Any) -> None:
    name = unique("team/app")
    ecr.create_repository(repositoryName=name)

    def read() -> Any:
        found = answer(ecr.get_repository_policy(repositoryName=name))
        assert (found["registryId"], found["repositoryName"]) == (ACCOUNT_ID, name)
        return json.loads(found["policyText"])

    for action in ("ecr:BatchGetImage", "ecr:ListImages"):
        ecr.set_repository_policy(repositoryName=name, policyText=policy(action))
        assert settled(read) == json.loads(policy(action))
    # Retried by the provider where the message says so: a principal that is not known yet.
    with fails_with("InvalidParameterException", "Invalid repository policy provided"):
        ecr.set_repository_policy(repositoryName=name, policyText='{"Version": "2012-10-17", "Statement": [{}]}')
    ecr.delete_repository_policy(registryId=ACCOUNT_ID, repositoryName=name)
    with fails_with("RepositoryPolicyNotFoundException"):
        read()
    ecr.delete_repository(repositoryName=name)
    with fails_with("RepositoryNotFoundException"):
        read()


def test_registry_policy(ecr: Any) -> None:
    def read() -> Any:
        found = answer(ecr.get_registry_policy())
        assert found["registryId"] == ACCOUNT_ID
        return json.loads(found["policyText"])

    for action in ("ecr:BatchImportUpstreamImage", "ecr:CreateRepository"):
        text = policy(action, resource=f"arn:aws:ecr:{REGION}:{ACCOUNT_ID}:repository/*")
        assert ecr.put_registry_policy(policyText=text)["registryId"] == ACCOUNT_ID
        assert settled(read) == json.loads(text)
    ecr.delete_registry_policy()
    with fails_with("RegistryPolicyNotFoundException"):
        read()


def test_registry_scanning_configuration(ecr: Any) -> None:
    def read() -> Any:
        found = answer(ecr.get_registry_scanning_configuration())
        assert found["registryId"] == ACCOUNT_ID
        return found["scanningConfiguration"]

    for pattern in ("team/*", "*"):
        repository_filters = [{"filter": pattern, "filterType": "WILDCARD"}]
        rules = [{"scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": repository_filters}]
        ecr.put_registry_scanning_configuration(scanType="BASIC", rules=rules)
        assert settled(read) == {"scanType": "BASIC", "rules": rules}
    ecr.put_registry_scanning_configuration(scanType="BASIC", rules=[])
    assert settled(read) == {"scanType": "BASIC", "rules": []}


def test_replication_configuration(ecr: Any) -> None:
    def read() -> Any:
        found = answer(ecr.describe_registry())
        assert found["registryId"] == ACCOUNT_ID
        return found["replicationConfiguration"]

    for region in ("eu-west-1", "eu-west-2"):
        rule = {
            "destinations": [{"region": region, "registryId": ACCOUNT_ID}],
            "repositoryFilters": [{"filter": "team/", "filterType": "PREFIX_MATCH"}],
        }
        ecr.put_replication_configuration(replicationConfiguration={"rules": [rule]})
        assert settled(read) == {"rules": [rule]}
    ecr.put_replication_configuration(replicationConfiguration={"rules": []})
    assert settled(read) == {"rules": []}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("BASIC_SCAN_TYPE_VERSION", ("AWS_NATIVE", "CLAIR")),
        ("REGISTRY_POLICY_SCOPE", ("V1", "V2")),
        ("BLOB_MOUNTING", ("ENABLED", "DISABLED")),
    ],
)
def test_account_setting(ecr: Any, name: str, values: tuple[str, ...]) -> None:
    for value in values:
        assert answer(ecr.put_account_setting(name=name, value=value)) == {"name": name, "value": value}
        assert settled(lambda: answer(ecr.get_account_setting(name=name))) == {"name": name, "value": value}


def test_pull_time_update_exclusion(ecr: Any) -> None:
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/{unique('scanner')}"

    def read() -> bool:
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = ecr.list_pull_time_update_exclusions(**token)
            found += page["pullTimeUpdateExclusions"]
            if not page.get("nextToken"):
                return role in found
            token = {"nextToken": page["nextToken"]}

    assert ecr.register_pull_time_update_exclusion(principalArn=role)["principalArn"] == role
    assert settled(read)
    ecr.deregister_pull_time_update_exclusion(principalArn=role)
    assert not read()
    with fails_with("ExclusionNotFoundException"):
        ecr.deregister_pull_time_update_exclusion(principalArn=role)


def test_signing_configuration(ecr: Any) -> None:
    with fails_with("SigningConfigurationNotFoundException"):
        ecr.get_signing_configuration()
    for name in ("one", "other"):
        profile = f"arn:aws:signer:{REGION}:{ACCOUNT_ID}:/signing-profiles/{name}"
        wanted = {"rules": [{"signingProfileArn": profile}]}
        ecr.put_signing_configuration(signingConfiguration=wanted)
        assert settled(lambda: ecr.get_signing_configuration()["signingConfiguration"]) == wanted
    ecr.delete_signing_configuration()
    with fails_with("SigningConfigurationNotFoundException"):
        ecr.get_signing_configuration()


def test_secret(secrets: Any) -> None:
    name = unique("ecr-pullthroughcache/hub")
    arn = secrets.create_secret(
        Name=name,
        ClientRequestToken=str(uuid.uuid4()),
        Description="for the hub",
        Tags=[{"Key": "team", "Value": "a"}],
    )["ARN"]

    def read() -> tuple[dict[str, Any], Any]:
        """The policy is always asked for, by the ARN, as everything is."""
        described = answer(secrets.describe_secret(SecretId=arn))
        got = answer(secrets.get_resource_policy(SecretId=arn))
        assert (got["ARN"], got["Name"]) == (arn, name)
        return described, json.loads(got["ResourcePolicy"]) if "ResourcePolicy" in got else None

    described, found = settled(read)
    assert (described["ARN"], described["Name"], described["Description"]) == (arn, name, "for the hub")
    assert described["Tags"] == [{"Key": "team", "Value": "a"}]
    assert not {"KmsKeyId", "DeletedDate", "ReplicationStatus", "RotationEnabled"} & {
        member for member, value in described.items() if value
    }
    assert found is None

    text = policy("secretsmanager:GetSecretValue", resource="*")
    secrets.put_resource_policy(SecretId=arn, ResourcePolicy=text, BlockPublicPolicy=False)
    secrets.update_secret(SecretId=arn, ClientRequestToken=str(uuid.uuid4()), Description="changed")
    secrets.untag_resource(SecretId=arn, TagKeys=["team"])
    secrets.tag_resource(SecretId=arn, Tags=[{"Key": "owner", "Value": "b"}])
    described, found = settled(read)
    assert described["Description"] == "changed"
    assert described["Tags"] == [{"Key": "owner", "Value": "b"}]
    assert found == json.loads(text)
    secrets.delete_resource_policy(SecretId=arn)
    assert settled(read)[1] is None

    secrets.delete_secret(SecretId=arn, RecoveryWindowInDays=30)
    assert secrets.describe_secret(SecretId=arn)["DeletedDate"]
    # Created again at once: the provider waits for as long as the message says so.
    with fails_with("InvalidRequestException", "scheduled for deletion"):
        secrets.create_secret(Name=name)
    secrets.restore_secret(SecretId=arn)
    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    with fails_with("ResourceNotFoundException"):
        secrets.describe_secret(SecretId=arn)
    assert secrets.create_secret(Name=name)["ARN"] != arn


def test_secret_version(secrets: Any) -> None:
    arn = secrets.create_secret(Name=unique("hub"))["ARN"]
    token = str(uuid.uuid4())
    put = secrets.put_secret_value(SecretId=arn, ClientRequestToken=token, SecretString="first")
    assert (put["VersionId"], put["VersionStages"]) == (token, ["AWSCURRENT"])

    def read(version: str = token) -> dict[str, Any]:
        return answer(secrets.get_secret_value(SecretId=arn, VersionId=version))

    got = settled(read)
    assert (got["ARN"], got["VersionId"], got["SecretString"]) == (arn, token, "first")
    assert got["VersionStages"] == ["AWSCURRENT"]
    assert "SecretBinary" not in got

    # A stage of its own, added and taken away: the provider looks for who has it now.
    holders = secrets.list_secret_version_ids(SecretId=arn, IncludeDeprecated=True)["Versions"]
    assert [(one["VersionId"], one["VersionStages"]) for one in holders] == [(token, ["AWSCURRENT"])]
    secrets.update_secret_version_stage(SecretId=arn, VersionStage="blue", MoveToVersionId=token)
    assert sorted(settled(read)["VersionStages"]) == ["AWSCURRENT", "blue"]
    second = str(uuid.uuid4())
    stages = ["AWSCURRENT", "blue"]
    secrets.put_secret_value(SecretId=arn, ClientRequestToken=second, SecretString="second", VersionStages=stages)
    assert read()["VersionStages"] == ["AWSPREVIOUS"]

    # Removed: every stage but AWSCURRENT, which stays, as does the value.
    secrets.update_secret_version_stage(SecretId=arn, VersionStage="blue", RemoveFromVersionId=second)
    assert read(second)["VersionStages"] == ["AWSCURRENT"]
    secrets.update_secret_version_stage(SecretId=arn, VersionStage="AWSPREVIOUS", RemoveFromVersionId=token)
    with fails_with("ResourceNotFoundException"):
        secrets.get_secret_value(SecretId=arn, VersionId=str(uuid.uuid4()))

    secrets.delete_secret(SecretId=arn)
    with fails_with("InvalidRequestException", "because it was marked for deletion"):
        read()
    secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    with fails_with("ResourceNotFoundException"):
        read()


def test_authorization_token_data_source(ecr: Any) -> None:
    (data,) = ecr.get_authorization_token()["authorizationData"]
    assert data["proxyEndpoint"]
    assert data["expiresAt"]


def test_image_data_sources(ecr: Any) -> None:
    name = unique("team/app")
    ecr.create_repository(repositoryName=name)
    assert ecr.list_images(repositoryName=name)["imageIds"] == []
    with fails_with("ImageNotFoundException"):
        ecr.describe_images(registryId=ACCOUNT_ID, repositoryName=name, imageIds=[{"imageTag": "1"}])
    ecr.delete_repository(repositoryName=name, force=True)
