"""A program run by Pulumi's own runtime against mocks: no command line, no engine, no network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pulumi
from google.protobuf.json_format import MessageToDict
from pulumi.runtime import get_root_resource, set_all_config
from pulumi.runtime.mocks import MockCallArgs, MockMonitor, MockResourceArgs, Mocks, set_mocks, test

from pullthrough.provision.model.resources import Attributes, Key, ResourceKind, secret_reference
from tests.integration.iac.declarations import FINGERPRINTS
from tests.unit.provision.export.support import TARGET

#: What the provider answers.
_ANSWERS: dict[str, dict[str, str]] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": TARGET.account},
    "aws:index/getPartition:getPartition": {"partition": "aws", "dnsSuffix": "amazonaws.com"},
}
#: The signature by which Pulumi tells secrets: https://www.pulumi.com/docs/iac/concepts/secrets/
_SIGNATURE, _IS_SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"


@dataclass
class Stack(Mocks):
    """Everything that was registered and exported, as it went over the wire: secrets are still marked."""

    region: str = TARGET.region
    made: list[MockResourceArgs] = field(default_factory=list)
    #: The names of what each one waits for.
    depends_on: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    replaced_by_deletion: dict[tuple[str, str], bool] = field(default_factory=dict)
    exported: dict[str, Any] = field(default_factory=dict)
    #: The provider of each question.
    asked: list[str | None] = field(default_factory=list)
    #: What the component registered as its own outputs, as it went over the wire.
    outputs: dict[str, Any] = field(default_factory=dict)

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        self.made.append(args)
        arn = f"arn:aws:mock:{args.name}"
        return f"{args.name}-id", {**args.inputs, "arn": arn}

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        self.asked.append(args.provider)
        return {**_ANSWERS, "aws:index/getRegion:getRegion": {"region": self.region}}[args.token], []

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The inputs of each resource of a type such as `ecr/pullThroughCacheRule:PullThroughCacheRule`."""
        return [args.inputs for args in self.made if args.typ == f"aws:{kind}"]

    def observed(self) -> dict[Key, Attributes]:
        """The resources in the module's words, as `pullthrough apply` has them."""
        return dict(self._observed())

    def _observed(self) -> Iterator[tuple[Key, Attributes]]:
        secrets = {args.name: args.inputs for args in self.made if args.typ.endswith(":Secret")}
        names = {f"arn:aws:mock:{name}": inputs["name"] for name, inputs in secrets.items()}
        for version in self.of("secretsmanager/secretVersion:SecretVersion"):
            secret = secrets[version["secretId"].removesuffix("-id")]
            content = json.loads(opened(version["secretString"]))
            yield (
                Key(ResourceKind.SECRET, secret["name"]),
                {
                    "description": secret["description"],
                    "username": content.pop("username"),
                    "accessToken": FINGERPRINTS.of(content.pop("accessToken")),
                    "kmsKeyId": secret.get("kmsKeyId", ""),
                    "tags": secret["tags"],
                    **content,
                },
            )
        for rule in self.of("ecr/pullThroughCacheRule:PullThroughCacheRule"):
            arn = rule.get("credentialArn", "")
            yield (
                Key(ResourceKind.RULE, rule["ecrRepositoryPrefix"]),
                {
                    "upstreamRegistryUrl": rule["upstreamRegistryUrl"],
                    "upstreamRepositoryPrefix": rule.get("upstreamRepositoryPrefix", "ROOT"),
                    "credentialArn": secret_reference(names[arn]) if arn in names else arn,
                    "customRoleArn": rule.get("customRoleArn", ""),
                },
            )
        roles = {role["name"]: role for role in self.of("iam/role:Role")}
        for policy in self.of("iam/rolePolicy:RolePolicy"):
            put = {"policyName": policy["name"], "policy": json.loads(policy["policy"])}
            if policy["role"] not in roles:
                yield Key(ResourceKind.NODE_ACCESS, policy["role"]), put
                continue
            role = roles[policy["role"]]
            trust = json.loads(role["assumeRolePolicy"])
            attributes = {"description": role["description"], "trustPolicy": trust, "tags": role["tags"], **put}
            yield Key(ResourceKind.ROLE, role["name"]), attributes
        for template in self.of("ecr/repositoryCreationTemplate:RepositoryCreationTemplate"):
            (encryption,) = template["encryptionConfigurations"]
            exclusions = template.get("imageTagMutabilityExclusionFilters", [])
            assert all(exclusion["filterType"] == "WILDCARD" for exclusion in exclusions)
            yield (
                Key(ResourceKind.TEMPLATE, template["prefix"]),
                {
                    "description": template["description"],
                    "appliedFor": template["appliedFors"],
                    "imageTagMutability": template["imageTagMutability"],
                    "imageTagMutabilityExclusionFilters": [exclusion["filter"] for exclusion in exclusions],
                    "encryptionType": encryption["encryptionType"],
                    "kmsKey": encryption.get("kmsKey", ""),
                    "lifecyclePolicy": json.loads(template.get("lifecyclePolicy", "null")),
                    "repositoryPolicy": json.loads(template.get("repositoryPolicy", "null")),
                    "resourceTags": template.get("resourceTags", {}),
                    "customRoleArn": template.get("customRoleArn", ""),
                },
            )
        for policy in self.of("ecr/registryPolicy:RegistryPolicy"):
            yield (
                Key(ResourceKind.REGISTRY_POLICY, "registry"),
                {"statements": json.loads(policy["policy"])["Statement"]},
            )
        for scanning in self.of("ecr/registryScanningConfiguration:RegistryScanningConfiguration"):
            filters = [
                f"{rule['scanFrequency']} {filter['filter']}"
                for rule in scanning["rules"]
                for filter in rule["repositoryFilters"]
            ]
            yield Key(ResourceKind.SCANNING, "registry"), {"filters": sorted(filters)}


class _Monitor(MockMonitor):
    """Keeps what mocks are not told."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._stack = stack

    def RegisterResource(self, request: Any) -> Any:
        key = request.type, request.name
        self._stack.depends_on[key] = [urn.rpartition("::")[2] for urn in request.dependencies]
        self._stack.replaced_by_deletion[key] = request.deleteBeforeReplace
        return super().RegisterResource(request)  # type: ignore[no-untyped-call] # Pulumi's

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self._stack.outputs = MessageToDict(request.outputs)
        return super().RegisterResourceOutputs(request)  # type: ignore[no-untyped-call] # Pulumi's


def is_secret(sent: Any) -> bool:
    """Whether Pulumi encrypts this value in its state, and shows `[secret]` for it."""
    return isinstance(sent, dict) and sent.get(_SIGNATURE) == _IS_SECRET


def opened(sent: Any) -> Any:
    return sent["value"] if is_secret(sent) else sent


def run(program: Callable[[], object], region: str = TARGET.region, config: dict[str, str] | None = None) -> Stack:
    """The stack that the program makes. Raises what the program raises."""
    stack = Stack(region)
    set_mocks(stack, monitor=_Monitor(stack))
    set_all_config({f"project:{key}": value for key, value in (config or {}).items()})

    def whole() -> pulumi.Output[None]:
        root: Any = get_root_resource()
        root.outputs = {}
        program()
        return pulumi.Output.all(**root.outputs).apply(stack.exported.update)

    test(whole)()  # type: ignore[no-untyped-call] # Pulumi's
    return stack
