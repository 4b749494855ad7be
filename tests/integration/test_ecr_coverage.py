"""What the engine does of the AWS APIs, found by calling every operation of the three models over the wire.

One walk through a registry's life calls each operation, by the SDK and by the aws CLI, with an input that is right: it is
done where the answer is a success, refused where the error says so in the engine's words. Any other answer fails the
test, and so does a page docs/ecr-coverage.md that says something else; `make ecr-coverage` writes it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.loaders import Loader
from botocore.model import ServiceModel

from pullthrough.demo.images import make_image
from tests.aws import Account, answer, key_settings, push, small_image
from tests.e2e.engine import Engine
from tests.e2e.images import digest_of
from tests.e2e.processes import environment
from tests.fakes.upstream import ScriptedUpstream
from tests.programs import ROOT

PAGE = ROOT / "docs" / "ecr-coverage.md"
SERVICES = {"ecr": "Amazon ECR", "secretsmanager": "Secrets Manager", "sts": "STS"}
#: The words in which an operation is refused.
REFUSALS = ("this engine does not offer it", "is not offered by this engine", "is not available", "has no scanner")
IMAGE, CHILD, PULLED = small_image("covered"), small_image("deleted"), make_image("acme/app")
LAYER, UPLOADED = IMAGE.blobs[1], b"a layer that no image has yet"
ACCOUNT_ID = "000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/scanner"
LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1},
                "action": {"type": "expire"},
            }
        ]
    }
)


def _policy(action: str, **more: str) -> str:
    statement = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT_ID}:root"}, "Action": action} | more
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@dataclass(frozen=True)
class Tier:
    """How much depends on an operation; the walk says whether it is done."""

    number: int
    meaning: str
    operations: frozenset[str]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


TIERS = (
    Tier(
        1,
        "what a pull-through cache, and a client of a registry, cannot do without",
        _names(
            """ecr:CreatePullThroughCacheRule ecr:DescribePullThroughCacheRules ecr:UpdatePullThroughCacheRule
            ecr:DeletePullThroughCacheRule ecr:ValidatePullThroughCacheRule ecr:CreateRepositoryCreationTemplate
            ecr:DescribeRepositoryCreationTemplates ecr:UpdateRepositoryCreationTemplate
            ecr:DeleteRepositoryCreationTemplate ecr:GetAuthorizationToken ecr:BatchGetImage ecr:GetDownloadUrlForLayer
            ecr:BatchCheckLayerAvailability ecr:CreateRepository ecr:DescribeRepositories ecr:DeleteRepository
            ecr:DescribeRegistry ecr:GetRegistryPolicy ecr:PutRegistryPolicy ecr:DeleteRegistryPolicy
            sts:GetCallerIdentity secretsmanager:CreateSecret secretsmanager:DescribeSecret
            secretsmanager:GetSecretValue secretsmanager:PutSecretValue secretsmanager:UpdateSecret
            secretsmanager:DeleteSecret secretsmanager:GetResourcePolicy secretsmanager:TagResource
            secretsmanager:UntagResource secretsmanager:ListSecretVersionIds secretsmanager:UpdateSecretVersionStage"""
        ),
    ),
    Tier(
        2,
        "what people and Terraform do with the repositories of such a cache",
        _names(
            """ecr:ListImages ecr:DescribeImages ecr:BatchDeleteImage ecr:PutLifecyclePolicy ecr:GetLifecyclePolicy
            ecr:DeleteLifecyclePolicy ecr:StartLifecyclePolicyPreview ecr:GetLifecyclePolicyPreview
            ecr:SetRepositoryPolicy ecr:GetRepositoryPolicy ecr:DeleteRepositoryPolicy ecr:TagResource ecr:UntagResource
            ecr:ListTagsForResource ecr:PutImageTagMutability ecr:PutImageScanningConfiguration
            ecr:GetRegistryScanningConfiguration ecr:PutRegistryScanningConfiguration
            ecr:BatchGetRepositoryScanningConfiguration ecr:StartImageScan ecr:DescribeImageScanFindings
            ecr:GetAccountSetting ecr:PutAccountSetting ecr:PutReplicationConfiguration ecr:ListImageReferrers
            ecr:RegisterPullTimeUpdateExclusion ecr:DeregisterPullTimeUpdateExclusion ecr:ListPullTimeUpdateExclusions
            ecr:InitiateLayerUpload ecr:UploadLayerPart ecr:CompleteLayerUpload ecr:PutImage
            secretsmanager:RestoreSecret secretsmanager:ListSecrets secretsmanager:PutResourcePolicy
            secretsmanager:DeleteResourcePolicy secretsmanager:BatchGetSecretValue"""
        ),
    ),
)
_OTHERS = Tier(3, "the rest", frozenset())
#: What a success alone does not tell.
NOTES = {
    "ecr:DescribeImageReplicationStatus": "every destination is FAILED: nothing is replicated",
    "ecr:DescribeImageSigningStatus": "every profile is FAILED: nothing is signed",
    "ecr:PutImageScanningConfiguration": "kept and given back; nothing is scanned",
    "ecr:PutRegistryScanningConfiguration": "kept and given back; nothing is scanned",
    "ecr:PutReplicationConfiguration": "kept and given back; nothing is replicated",
    "ecr:PutSigningConfiguration": "kept and given back; nothing is signed",
    "ecr:UpdateImageStorageClass": "archived images answer 404 to pulls, as on AWS; their bytes stay where they are",
    "ecr:ValidatePullThroughCacheRule": "really asks the upstream, as the rule's credential",
}

#: What the walk has found out so far: the last answer of each operation.
Answers = dict[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Step:
    """One call. The input may need what an earlier call gave."""

    operation: str
    input: Callable[[Answers], Mapping[str, Any]]


def _step(operation: str, **input: Any) -> Step:
    return Step(operation, lambda _: input)


_OWN = {"repositoryName": "own/app"}
_TAGGED = {"imageTag": "1"}
_BACKFILL = "00000000-0000-4000-8000-000000000000"
_REPLICA = "arn:aws:secretsmanager:eu-west-1:000000000001:secret:replica-AbCdEf"
_SECRET = {"SecretId": "ecr-pullthroughcache/hub"}
#: Every operation that is done is in it; in the order in which they make sense.
WALK = (
    _step("sts:GetCallerIdentity"),
    _step("ecr:GetAuthorizationToken"),
    # Secrets
    _step("secretsmanager:CreateSecret", Name=_SECRET["SecretId"], SecretString='{"username":"u","accessToken":"t"}'),
    _step("secretsmanager:DescribeSecret", **_SECRET),
    _step("secretsmanager:GetSecretValue", **_SECRET),
    _step("secretsmanager:BatchGetSecretValue", SecretIdList=[_SECRET["SecretId"]]),
    _step("secretsmanager:UpdateSecret", **_SECRET, Description="for the hub"),
    _step("secretsmanager:PutSecretValue", **_SECRET, SecretString='{"username":"u","accessToken":"new"}'),
    _step("secretsmanager:ListSecrets"),
    _step("secretsmanager:ListSecretVersionIds", **_SECRET),
    Step(
        "secretsmanager:UpdateSecretVersionStage",
        lambda said: (
            _SECRET | {"VersionStage": "blue", "MoveToVersionId": said["secretsmanager:PutSecretValue"]["VersionId"]}
        ),
    ),
    _step("secretsmanager:TagResource", **_SECRET, Tags=[{"Key": "a", "Value": "1"}]),
    _step("secretsmanager:UntagResource", **_SECRET, TagKeys=["a"]),
    _step(
        "secretsmanager:PutResourcePolicy",
        **_SECRET,
        ResourcePolicy=_policy("secretsmanager:GetSecretValue", Resource="*"),
    ),
    _step("secretsmanager:GetResourcePolicy", **_SECRET),
    _step(
        "secretsmanager:ValidateResourcePolicy", ResourcePolicy=_policy("secretsmanager:GetSecretValue", Resource="*")
    ),
    _step("secretsmanager:ListResourcePolicies", **_SECRET),
    _step("secretsmanager:DeleteResourcePolicy", **_SECRET),
    _step("secretsmanager:GetRandomPassword"),
    _step("secretsmanager:RotateSecret", **_SECRET),
    _step("secretsmanager:CancelRotateSecret", **_SECRET),
    _step("secretsmanager:ReplicateSecretToRegions", **_SECRET, AddReplicaRegions=[{"Region": "eu-west-1"}]),
    _step("secretsmanager:RemoveRegionsFromReplication", **_SECRET, RemoveReplicaRegions=["eu-west-1"]),
    _step("secretsmanager:StopReplicationToReplica", **_SECRET),
    _step("secretsmanager:AssociateCrossAccountReplica", **_SECRET, CrossAccountReplicaARN=_REPLICA),
    _step("secretsmanager:DisassociateCrossAccountReplica", **_SECRET, CrossAccountReplicaARN=_REPLICA),
    # Rules and templates
    Step(
        "ecr:CreatePullThroughCacheRule",
        lambda said: {
            "ecrRepositoryPrefix": "hub",
            "upstreamRegistryUrl": "registry-1.docker.io",
            "credentialArn": said["secretsmanager:CreateSecret"]["ARN"],
        },
    ),
    _step("ecr:DescribePullThroughCacheRules", ecrRepositoryPrefixes=["hub"]),
    _step("ecr:UpdatePullThroughCacheRule", ecrRepositoryPrefix="hub"),
    _step("ecr:ValidatePullThroughCacheRule", ecrRepositoryPrefix="hub"),
    _step("ecr:CreateRepositoryCreationTemplate", prefix="hub", appliedFor=["PULL_THROUGH_CACHE"]),
    _step("ecr:DescribeRepositoryCreationTemplates", prefixes=["hub"]),
    _step("ecr:UpdateRepositoryCreationTemplate", prefix="hub", description="for the hub"),
    # A repository
    _step("ecr:CreateRepository", repositoryName="own/other"),
    _step("ecr:DescribeRepositories", repositoryNames=["own/other"]),
    _step("ecr:PutImageTagMutability", **_OWN, imageTagMutability="MUTABLE"),
    _step("ecr:PutImageScanningConfiguration", **_OWN, imageScanningConfiguration={"scanOnPush": True}),
    Step("ecr:TagResource", lambda said: _arn(said) | {"tags": [{"Key": "a", "Value": "1"}]}),
    Step("ecr:ListTagsForResource", lambda said: _arn(said)),
    Step("ecr:UntagResource", lambda said: _arn(said) | {"tagKeys": ["a"]}),
    _step("ecr:SetRepositoryPolicy", **_OWN, policyText=_policy("ecr:BatchGetImage")),
    _step("ecr:GetRepositoryPolicy", **_OWN),
    _step("ecr:DeleteRepositoryPolicy", **_OWN),
    # Layers and images
    _step("ecr:InitiateLayerUpload", **_OWN),
    Step(
        "ecr:UploadLayerPart",
        lambda said: _upload(said) | {"partFirstByte": 0, "partLastByte": len(UPLOADED) - 1, "layerPartBlob": UPLOADED},
    ),
    Step("ecr:CompleteLayerUpload", lambda said: _upload(said) | {"layerDigests": [digest_of(UPLOADED)]}),
    _step("ecr:BatchCheckLayerAvailability", **_OWN, layerDigests=[LAYER.digest]),
    _step("ecr:PutImage", **_OWN, imageManifest=IMAGE.manifest.body.decode(), imageTag="2"),
    _step("ecr:GetDownloadUrlForLayer", **_OWN, layerDigest=LAYER.digest),
    _step("ecr:BatchGetImage", repositoryName="hub/acme/app", imageIds=[_TAGGED]),
    _step("ecr:DescribeImages", **_OWN, imageIds=[_TAGGED]),
    _step("ecr:ListImages", **_OWN),
    _step("ecr:ListImageReferrers", **_OWN, subjectId={"imageDigest": IMAGE.digest}),
    _step("ecr:StartImageScan", **_OWN, imageId=_TAGGED),
    _step("ecr:DescribeImageScanFindings", **_OWN, imageId=_TAGGED),
    _step("ecr:DescribeImageReplicationStatus", **_OWN, imageId=_TAGGED),
    _step("ecr:DescribeImageSigningStatus", **_OWN, imageId=_TAGGED),
    _step("ecr:PutLifecyclePolicy", **_OWN, lifecyclePolicyText=LIFECYCLE),
    _step("ecr:GetLifecyclePolicy", **_OWN),
    _step("ecr:StartLifecyclePolicyPreview", **_OWN),
    _step("ecr:GetLifecyclePolicyPreview", **_OWN),
    _step("ecr:DeleteLifecyclePolicy", **_OWN),
    _step("ecr:UpdateImageStorageClass", **_OWN, imageId={"imageDigest": CHILD.digest}, targetStorageClass="ARCHIVE"),
    _step("ecr:BatchDeleteImage", **_OWN, imageIds=[{"imageTag": "2"}]),
    # The registry
    _step("ecr:PutRegistryPolicy", policyText=_policy("ecr:CreateRepository", Resource="*")),
    _step("ecr:GetRegistryPolicy"),
    _step("ecr:DeleteRegistryPolicy"),
    _step("ecr:PutRegistryScanningConfiguration", scanType="BASIC", rules=[]),
    _step("ecr:GetRegistryScanningConfiguration"),
    _step("ecr:BatchGetRepositoryScanningConfiguration", repositoryNames=["own/app"]),
    _step("ecr:PutReplicationConfiguration", replicationConfiguration={"rules": []}),
    _step("ecr:DescribeRegistry"),
    _step("ecr:StartReplicationBackfill", destination={"region": "eu-west-1", "registryId": ACCOUNT_ID}),
    _step("ecr:ListReplicationBackfills"),
    _step("ecr:DescribeReplicationBackfillResults", replicationBackfillId=_BACKFILL),
    _step("ecr:StopReplicationBackfill", replicationBackfillId=_BACKFILL),
    _step("ecr:PutAccountSetting", name="BLOB_MOUNTING", value="ENABLED"),
    _step("ecr:GetAccountSetting", name="BLOB_MOUNTING"),
    _step("ecr:RegisterPullTimeUpdateExclusion", principalArn=ROLE),
    _step("ecr:ListPullTimeUpdateExclusions"),
    _step("ecr:DeregisterPullTimeUpdateExclusion", principalArn=ROLE),
    _step(
        "ecr:PutSigningConfiguration",
        signingConfiguration={
            "rules": [{"signingProfileArn": f"arn:aws:signer:us-east-1:{ACCOUNT_ID}:/signing-profiles/test"}]
        },
    ),
    _step("ecr:GetSigningConfiguration"),
    _step("ecr:DeleteSigningConfiguration"),
    # And back
    _step("ecr:DeleteRepository", repositoryName="own/other"),
    _step("ecr:DeleteRepositoryCreationTemplate", prefix="hub"),
    _step("ecr:DeletePullThroughCacheRule", ecrRepositoryPrefix="hub"),
    _step("secretsmanager:DeleteSecret", **_SECRET),
    _step("secretsmanager:RestoreSecret", **_SECRET),
)


def _arn(said: Answers) -> dict[str, Any]:
    return {"resourceArn": said["ecr:CreateRepository"]["repository"]["repositoryArn"]}


def _upload(said: Answers) -> dict[str, Any]:
    return _OWN | {"uploadId": said["ecr:InitiateLayerUpload"]["uploadId"]}


@dataclass(frozen=True)
class Row:
    operation: str
    answer: str
    note: str

    @property
    def tier(self) -> Tier:
        return next((tier for tier in TIERS if self.operation in tier.operations), _OTHERS)

    @property
    def line(self) -> str:
        """Of the page's table."""
        return f"| {self.operation.partition(':')[2]} | {self.tier.number} | {self.answer} | {self.note} |"


@pytest.fixture(params=[1, 2], ids=["one-worker", "two-workers"])
def account(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Account]:
    """An engine with a repository of its own, `own/app`, that has an image with a tag and one without."""
    with ScriptedUpstream() as upstream:
        upstream.add("acme/app", PULLED, "1")
        keys = key_settings(tmp_path, Account(""))
        reach = f'[upstreams."registry-1.docker.io"]\nendpoint = "{upstream.url}"\n'
        config = f"standard_rules = false\n[serve]\nworkers = {request.param}\n{keys}{reach}"
        engine = Engine(tmp_path / "engine", config)
        try:
            engine.start()
            found = Account(engine.url)
            ecr = found.client("ecr")
            ecr.create_repository(repositoryName="own/app")
            push(ecr, "own/app", IMAGE, "1")
            push(ecr, "own/app", CHILD)
            yield found
        finally:
            engine.end()


NEWER_THAN_THE_CLI = _names(
    """ecr:DescribeReplicationBackfillResults ecr:ListReplicationBackfills ecr:StartReplicationBackfill
    ecr:StopReplicationBackfill secretsmanager:AssociateCrossAccountReplica
    secretsmanager:DisassociateCrossAccountReplica secretsmanager:ListResourcePolicies"""
)
#: Calls an operation of a service; what it answers. Raises ClientError.
Call = Callable[[str, str, Mapping[str, Any]], Mapping[str, Any]]
#: How the aws CLI says an error; some have more lines, about members of theirs.
_CLI_ERROR = re.compile(r"An error occurred \((\w+)\) when calling the (\w+) operation(?: \([^)]*\))?: (.*)")
_CLI = """
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver

for line in sys.stdin:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = create_clidriver().main(json.loads(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def test_page_says_what_every_operation_answers(account: Account) -> None:
    """The operations that the walk leaves out are called without an input."""
    walked = {step.operation for step in WALK}
    assert len(walked) == len(WALK)
    assert not walked - everything()
    rest = [_step(name) for name in sorted(everything() - walked)]
    text = page(list(walk(by_sdk(account), (*WALK, *rest))))
    if os.environ.get("WRITE_ECR_COVERAGE") == "1":
        PAGE.write_text(text)
    assert PAGE.read_text() == text, "docs/ecr-coverage.md is stale: run `make ecr-coverage`"


@pytest.mark.slow
@pytest.mark.parametrize("account", [2], ids=["two-workers"], indirect=True)
def test_the_aws_cli_gets_the_same_answers(account: Account, tmp_path: Path) -> None:
    """For every operation of the walk that it knows: its models may be older than the SDK's."""
    lines = PAGE.read_text().splitlines()
    steps = [step for step in WALK if step.operation not in NEWER_THAN_THE_CLI]
    with by_cli(account, tmp_path / "aws") as call:
        for row in walk(call, steps):
            assert row.line in lines


def everything() -> set[str]:
    models = {name: ServiceModel(Loader().load_service_model(name, "service-2"), name) for name in SERVICES}
    return {f"{service}:{name}" for service, model in models.items() for name in model.operation_names}


def by_sdk(account: Account) -> Call:
    clients = {service: account.client(service, validate=False) for service in SERVICES}
    return lambda service, name, input: answer(getattr(clients[service], xform_name(name))(**input))


@contextmanager
def by_cli(account: Account, folder: Path) -> Iterator[Call]:
    """The aws CLI, many commands in one process: its start takes several times as long as a call."""
    with subprocess.Popen(
        [sys.executable, "-c", _CLI],
        env=environment(folder, **account.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        commands, answers = process.stdin, process.stdout

        def call(service: str, name: str, input: Mapping[str, Any]) -> Mapping[str, Any]:
            # The aws CLI 1 takes the bytes of a blob as they are.
            text = json.dumps(input, default=bytes.decode)
            command = [service, xform_name(name, "-"), "--output", "json", "--cli-input-json", text]
            commands.write(json.dumps(command) + "\n")
            commands.flush()
            code, out, err = json.loads(answers.readline())
            if code:
                said = _CLI_ERROR.search(err)
                assert said is not None, f"{service} {name}: exit {code}: {err}"
                raise ClientError({"Error": {"Code": said[1], "Message": said[3]}}, said[2])
            found: Mapping[str, Any] = json.loads(out or "{}")
            return found

        yield call


def walk(call: Call, steps: Iterable[Step]) -> Iterator[Row]:
    said: Answers = {}
    for step in steps:
        service, _, name = step.operation.partition(":")
        try:
            said[step.operation] = call(service, name, step.input(said))
            row = Row(step.operation, "done", NOTES.get(step.operation, ""))
        except ClientError as error:
            row = _refusal(step.operation, error)
        yield row


def _refusal(operation: str, error: ClientError) -> Row:
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code == "MissingAuthenticationToken":
        # The operation is in the body, which is not read for who gives no key.
        return Row(operation, f"refused: `{code}`", "its requests are not signed")
    assert any(words in message for words in REFUSALS), f"{operation} is neither done nor refused: {error}"
    # It names its operation, but where AWS has an error of its own for what there is none of.
    assert operation.partition(":")[2] in message or code.endswith("NotFoundException"), f"{operation}: {error}"
    return Row(operation, f"refused: `{code}`", _reason(message))


def _reason(message: str) -> str:
    """Why, where the refusal says so: behind its colon, or in brackets at its end."""
    if "does not offer it" in message:
        return ""
    return message.rpartition(" (")[2].removesuffix(")") if message.endswith(")") else message.partition(": ")[2]


def page(rows: list[Row]) -> str:
    parts = [
        "<!-- Written by `make ecr-coverage`, from what the engine answers. -->",
        "# Operations of the AWS APIs",
        "Each operation of botocore's service models, called over HTTP by a test, and what it answers. An operation that "
        "is not done is refused by its name: the engine never pretends. Tiers: "
        + "; ".join(f"{tier.number}, {tier.meaning}" for tier in (*TIERS, _OTHERS))
        + ".",
    ]
    for service, title in SERVICES.items():
        own = sorted((row for row in rows if row.operation.startswith(f"{service}:")), key=lambda row: row.operation)
        done = sum(row.answer == "done" for row in own)
        lines = [row.line for row in own]
        parts += [
            f"## {title}",
            f"{done} of {len(own)} are done.",
            "\n".join(["| operation | tier | answer | note |", "| --- | --- | --- | --- |", *lines]),
        ]
    return "\n\n".join(parts) + "\n"


def test_what_must_be_done_is_done() -> None:
    """The page, by hand written or not, may not call a tier 1 or 2 operation refused, but those that need a scanner."""
    refused = {
        f"{service}:{line.split(' | ')[0].removeprefix('| ')}"
        for service, title in SERVICES.items()
        for line in PAGE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0].splitlines()
        if " | refused" in line
    }
    promised = {name for tier in TIERS for name in tier.operations}
    assert refused & promised <= {"ecr:StartImageScan", "ecr:DescribeImageScanFindings"}
