"""Any mix of right and wrong members, for every operation of the three services: never a 5xx, always a known code.

Inputs are drawn from botocore's service models, with names of things that are there among them, so that many calls get
past the validation. What a call leaves behind is what the next one finds. The engine takes calls without a signature
(`auth = "none"`), so that nothing but the operations is tried.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import create_parser
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pullthrough.demo.images import make_image
from tests.aws import Account, push, small_image
from tests.e2e.engine import Engine
from tests.fakes.upstream import ScriptedUpstream

MODELS = {
    name: ServiceModel(Loader().load_service_model(name, "service-2"), name)
    for name in ("ecr", "secretsmanager", "sts")
}
#: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/CommonErrors.html, and what AWS's JSON and query protocols
#: themselves answer with.
COMMON = {
    "AccessDenied",
    "AccessDeniedException",
    "InvalidAction",
    "MissingParameter",
    "SerializationException",
    "UnknownOperationException",
    "ValidationError",
    "ValidationException",
}
PULLED = make_image("fuzz/pulled")
PUSHED = small_image("fuzz")
_LIFECYCLE = json.dumps(
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
_POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage", "Resource": "*"}],
    }
)
_REPOSITORY_POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "ecr:BatchGetImage"}]}
)
_ARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:ecr-pullthroughcache/fuzz-AbCdEf"
#: By member: what may mean something. Nothing here, nor anything else that a rule could be made of, leads off this host.
KNOWN: dict[str, list[Any]] = {
    "repositoryName": ["own/app", "hub/fuzz/pulled", "hub/fuzz/none", "absent"],
    "repositoryNames": [["own/app"], ["own/app", "absent"]],
    "resourceArn": ["arn:aws:ecr:us-east-1:000000000000:repository/own/app"],
    "ecrRepositoryPrefix": ["hub", "other", "ROOT", "other/deep"],
    "ecrRepositoryPrefixes": [["hub"], ["other"]],
    "upstreamRegistryUrl": ["registry-1.docker.io", "quay.io", "https://quay.io", "quay.io/x", "", " ", "a..b", "_"],
    "upstreamRepositoryPrefix": ["fuzz", "ROOT"],
    "credentialArn": [_ARN],
    "customRoleArn": ["arn:aws:iam::000000000000:role/any"],
    "principalArn": ["arn:aws:iam::000000000000:role/any"],
    "prefix": ["own", "ROOT"],
    "prefixes": [["own"], ["ROOT"]],
    "registryId": ["000000000000", "000000000001"],
    "registryIds": [["000000000000"]],
    "imageTag": ["1", "2", "none"],
    "imageDigest": [PUSHED.digest, PULLED.digest, "sha256:" + "0" * 64],
    "imageManifest": [PUSHED.manifest.body.decode(), "{}", "[]", '{"schemaVersion": 2}', PULLED.manifest.body.decode()],
    "imageManifestMediaType": [PUSHED.manifest.media_type],
    "layerDigest": [PUSHED.blobs[1].digest, PULLED.blobs[1].digest],
    "layerDigests": [[PUSHED.blobs[1].digest], [PULLED.blobs[1].digest]],
    "layerPartBlob": [base64.b64encode(PUSHED.blobs[1].body).decode()],
    "lifecyclePolicyText": [_LIFECYCLE],
    "lifecyclePolicy": [_LIFECYCLE],
    "policyText": [_POLICY, _REPOSITORY_POLICY],
    "repositoryPolicy": [_REPOSITORY_POLICY],
    "appliedFor": [["PULL_THROUGH_CACHE", "CREATE_ON_PUSH"]],
    "name": ["BASIC_SCAN_TYPE_VERSION", "REGISTRY_POLICY_SCOPE", "BLOB_MOUNTING"],
    "value": ["V1", "V2", "ENABLED", "DISABLED", "AWS_NATIVE"],
    "Name": ["ecr-pullthroughcache/fuzz", "fuzz"],
    "SecretId": ["ecr-pullthroughcache/fuzz", "fuzz", _ARN],
    "SecretIdList": [["fuzz"]],
    "SecretString": ['{"username":"u","accessToken":"t"}', "x"],
    "ResourcePolicy": [_POLICY],
    "VersionStage": ["AWSCURRENT", "AWSPREVIOUS", "blue"],
    "VersionStages": [["AWSCURRENT"], ["blue"]],
    "ClientRequestToken": ["0" * 32, "1" * 32],
    "MoveToVersionId": ["0" * 32],
    "RemoveFromVersionId": ["1" * 32],
    "VersionId": ["0" * 32],
}
#: Members whose other values are not drawn freely: a rule for a host that a text happens to name would be asked for it.
ONLY_KNOWN = {"upstreamRegistryUrl"}

_texts = st.text(max_size=40) | st.sampled_from(
    ["", "\0", "\ud7ff", "a" * 5000, "../..", "'", '"', "%", "\u202e", "ROOT"]
)
_numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.sampled_from([0, 1, 100, 1001, 2**31, 2**63])
_anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


def value_of(shape: Shape, member: str = "", depth: int = 0) -> st.SearchStrategy[Any]:
    """Mostly what the model allows, sometimes anything at all."""
    known = st.sampled_from(KNOWN[member]) if member in KNOWN else None
    if member in ONLY_KNOWN and known is not None:
        return known
    free = free_value(shape, depth)
    return st.one_of(*([known, known, known] if known is not None else []), free, free, _anything)


def free_value(shape: Shape, depth: int) -> st.SearchStrategy[Any]:
    facts = shape.metadata
    least, most = int(facts.get("min", 0)), int(facts.get("max", 50))
    if shape.type_name == "structure":
        return structure(shape, depth + 1)
    if shape.type_name == "list":
        size = min(most, least + 3)
        return st.lists(
            st.deferred(lambda: value_of(shape.member, "", depth + 1)), min_size=min(least, size), max_size=size
        )
    if shape.type_name == "map":
        return st.dictionaries(_texts, st.deferred(lambda: value_of(shape.value, "", depth + 1)), max_size=3)
    if shape.type_name == "boolean":
        return st.booleans()
    if shape.type_name in ("integer", "long", "float", "double", "timestamp"):
        return st.integers(least, max(most, least))
    if shape.type_name == "blob":
        return st.binary(max_size=100).map(lambda body: base64.b64encode(body).decode())
    if shape.enum:
        return st.sampled_from(shape.enum)
    # Java's classes of characters mean nothing to Python.
    if (pattern := facts.get("pattern")) and r"\p{" not in pattern:
        return st.from_regex(pattern, fullmatch=True) | _texts
    return st.text(min_size=min(least, 100), max_size=min(max(most, least), 100))


def structure(shape: Shape, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Required members are left out seldom, others often."""
    if depth > 4:
        return st.just({})
    members = {name: value_of(member, name, depth) for name, member in shape.members.items()}
    required = set(shape.required_members)

    def chosen(names: set[str]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({name: members[name] for name in sorted(names)})

    optional = sorted(members.keys() - required)
    some = st.sets(st.sampled_from(optional), max_size=4) if optional else st.just(set())
    drop = st.sets(st.sampled_from(sorted(required)), max_size=1) if required else st.just(set())
    return st.tuples(some, drop | st.just(set())).flatmap(lambda pick: chosen((required | pick[0]) - pick[1]))


@st.composite
def calls(draw: st.DrawFn, service: str) -> tuple[str, Any]:
    name = draw(st.sampled_from(sorted(MODELS[service].operation_names)))
    return name, draw(inputs(service, name))


@cache
def inputs(service: str, name: str) -> st.SearchStrategy[Any]:
    shape = MODELS[service].operation_model(name).input_shape
    return structure(shape, 0) if shape else st.just({})


@dataclass
class Target:
    """A connection to the engine, kept open, as clients do."""

    engine: Engine
    _connection: http.client.HTTPConnection | None = field(default=None, init=False)

    def call(self, service: str, name: str, input: Any) -> tuple[int, dict[str, str], bytes]:
        model = MODELS[service]
        if model.metadata["protocol"] == "query":
            members = {key: value for key, value in input.items() if isinstance(value, str)}
            body = urlencode({"Action": name, "Version": model.api_version} | members, errors="replace").encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        else:
            body = json.dumps(input).encode()
            headers = {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"{model.metadata['targetPrefix']}.{name}",
            }
        if self._connection is None:
            url = urlsplit(self.engine.url)
            self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        upstream.add("fuzz/pulled", PULLED, "1")
        reach = "".join(
            f'[upstreams."{host}"]\nendpoint = "{upstream.url}"\n' for host in ("registry-1.docker.io", "quay.io")
        )
        config = (
            f"standard_rules = false\n[serve]\nworkers = {request.param}\n"
            f'[ecr]\nauth = "none"\n[rules.hub]\nupstream = "registry-1.docker.io"\n{reach}'
        )
        engine = Engine(folder / "engine", config)
        stack.callback(engine.end)
        engine.start()
        ecr = Account(engine.url).client("ecr")
        ecr.create_repository(repositoryName="own/app")
        push(ecr, "own/app", PUSHED, "1")
        found = Target(engine)
        stack.callback(found.close)
        yield found
        assert "Traceback" not in engine.log.read_text()


def check_answer(operation: OperationModel, status: int, headers: dict[str, str], body: bytes) -> None:
    """What the SDK makes of it, and what it says when it is an error."""
    protocol = operation.service_model.metadata["protocol"]
    parsed = create_parser(protocol).parse(
        {"status_code": status, "headers": headers, "body": body}, operation.output_shape
    )
    assert status < 500, body
    if status == 200:
        assert "Error" not in parsed
        return
    code = parsed["Error"]["Code"]
    assert code in COMMON | {shape.error_code for shape in operation.error_shapes}, parsed
    assert parsed["Error"]["Message"], parsed


@pytest.mark.slow
@pytest.mark.parametrize("service", ["ecr", "secretsmanager", "sts"])
def test_no_input_is_a_failure_of_the_engine(target: Target, service: str) -> None:
    model = MODELS[service]

    @settings(
        max_examples={"ecr": 450, "secretsmanager": 200, "sts": 30}[service],
        database=None,
        # The same inputs in every run of CI; other ones on every other machine.
        derandomize=os.environ.get("TESTS_NO_SKIP") == "1",
        suppress_health_check=list(HealthCheck),
    )
    @given(calls(service))
    def check(call: tuple[str, Any]) -> None:
        name, input = call
        status, headers, body = target.call(service, name, input)
        note(f"{service} {name} {json.dumps(input)} -> {status} {body[:500]!r}")
        check_answer(model.operation_model(name), status, headers, body)

    check()
