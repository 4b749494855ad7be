"""The module as a construct of AWS's CDK: `from pullthrough.cdk import PullThroughCache`.

    cache = PullThroughCache(
        stack, "Cache",
        docker_hub_username="acme",
        docker_hub_access_token=SecretValue.secrets_manager("tokens", json_field="docker-hub"),
        github_username="acme",
        github_access_token=SecretValue.secrets_manager("tokens", json_field="github"),
    )
    CfnOutput(stack, "DockerHubRegistry", value=cache.docker_hub_registry)

Its resources are those of `pullthrough export cloudformation`. Needs the extra `cdk`, and Node.js.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from pullthrough._inputs import STANDARD, WHOLE_POLICY, WHOLE_SCANNING, accounts_by_prefix
from pullthrough.addressing.labels import terraform_style
from pullthrough.declaration import Declaration
from pullthrough.errors import InputMissing, TargetUnusable
from pullthrough.provision.export.cloudformation import cloudformation_template
from pullthrough.provision.export.common import TARGET, addresses, desired_anywhere
from pullthrough.provision.model.resources import ResourceKind
from pullthrough.provision.model.target import region_without_caches

try:
    from aws_cdk import Annotations, CfnParameter, RemovalPolicy, SecretValue, Stack
    from aws_cdk import Token as Tokens
    from aws_cdk.cloudformation_include import CfnInclude
    from constructs import Construct
except ImportError as error:
    missing = (error.name or "").partition(".")[0]
    raise ImportError(
        f"pullthrough.cdk needs the CDK's libraries, and {missing} is not installed: pip install 'pullthrough[cdk]'",
        name=missing,
    ) from error
except FileNotFoundError as error:
    raise ImportError(
        "pullthrough.cdk needs Node.js, which the CDK runs in, and node is not installed; on Debian: apt-get install nodejs"
    ) from error

#: A reference to a token.
Token: TypeAlias = SecretValue | str

#: What CloudFormation replaces by a value that the template never holds. `ssm-secure` is not one of them: it is taken for a
#: few properties only, and a secret's text is none of these.
#: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
_REFERENCE = re.compile(r"\{\{resolve:(secretsmanager|ssm):")
_HOW = 'pass SecretValue.secrets_manager("name", json_field="key"), or SecretValue.cfn_parameter() of a parameter with no_echo'
_POLICY = "AWS::ECR::RegistryPolicy"
_SCANNING = "AWS::ECR::RegistryScanningConfiguration"


class PullThroughCache(Construct):
    """ECR as a pull-through cache: rules, their secrets and creation templates, and who may pull."""

    #: What to write in image names instead of each registry's host; the host itself where it has no rule.
    ecr_public_registry: str
    kubernetes_registry: str
    quay_registry: str
    docker_hub_registry: str
    github_registry: str
    #: All of them, those of further rules too, by name: `docker_hub`, `gitlab`.
    registries: Mapping[str, str]

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        docker_hub_username: str | None = None,
        docker_hub_access_token: Token | None = None,
        github_username: str | None = None,
        github_access_token: Token | None = None,
        accounts: Mapping[str, tuple[str, Token]] | None = None,
        declaration: Declaration = STANDARD,
    ) -> None:
        """`accounts`: user name and token of single rules, by prefix; before the four inputs, which are not needed where
        no rule wants them. Tokens that the declaration names itself are not read.

        A token is a reference that CloudFormation resolves; in clear it is refused, since the template would hold it. Raises
        InputMissing and PlanProblem.
        """
        super().__init__(scope, id)
        stack = Stack.of(self)
        if not Tokens.is_unresolved(stack.region) and (where := region_without_caches(stack.region)):
            raise TargetUnusable(f"AWS offers no pull-through caches in {where}, where {stack.region} is")
        usernames = {"docker_hub": docker_hub_username, "github": github_username}
        tokens = {"docker_hub": docker_hub_access_token, "github": github_access_token}
        for stem, token in tokens.items():
            _check_token(stack, f"{stem}_access_token", token)
        for prefix, (_, token) in (accounts or {}).items():
            _check_token(stack, f"the token of {prefix}", token)
        known = accounts_by_prefix(declaration, usernames, tokens, accounts or {}, _plain)
        secrets = {
            found.key.name: known[found.prefix] for found in desired_anywhere(declaration).of(ResourceKind.SECRET)
        }
        template = cloudformation_template(declaration)
        bodies: Any = template["Resources"]
        included = _include(self, bodies)
        rules: dict[str, str] = {}
        for logical_id, body in bodies.items():
            made: Any = included.get_resource(logical_id)
            match body["Type"]:
                case "AWS::SecretsManager::Secret":
                    username, token = secrets[body["Properties"]["Name"]]
                    made.secret_string = stack.to_json_string({"username": username, "accessToken": _text(token)})
                case "AWS::ECR::PullThroughCacheRule":
                    rules[body["Properties"]["EcrRepositoryPrefix"]] = made.ref
                case "AWS::ECR::RegistryPolicy":
                    # Rights that are declared no more are to end.
                    made.apply_removal_policy(RemovalPolicy.DESTROY)
                    Annotations.of(self).add_warning_v2("pullthrough:registry-policy", WHOLE_POLICY)
                case "AWS::ECR::RegistryScanningConfiguration":
                    Annotations.of(self).add_warning_v2("pullthrough:scanning", WHOLE_SCANNING)
        registry = f"{stack.account}.dkr.ecr.{stack.region}.{stack.url_suffix}"
        self.registries = {
            found: _address(address, registry, rules)
            for found, address in addresses(declaration, terraform_style, "_").items()
        }
        self.ecr_public_registry = self.registries["ecr_public"]
        self.kubernetes_registry = self.registries["kubernetes"]
        self.quay_registry = self.registries["quay"]
        self.docker_hub_registry = self.registries["docker_hub"]
        self.github_registry = self.registries["github"]


def _include(scope: Construct, bodies: Mapping[str, Any]) -> CfnInclude:
    """The template's resources as constructs, so that tags and aspects of the app reach them; secrets without their text."""
    resources = {
        logical_id: {**body, "Properties": {**body["Properties"], "SecretString": ""}}
        if body["Type"] == "AWS::SecretsManager::Secret"
        else body
        for logical_id, body in bodies.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "template.json"
        file.write_text(json.dumps({"Resources": resources}))
        return CfnInclude(scope, "Resources", template_file=str(file), preserve_logical_ids=False)


def _address(address: str, registry: str, rules: Mapping[str, str]) -> str:
    """What uses it waits for the rule."""
    host, _, prefix = address.partition("/")
    if host != TARGET.registry_host:
        return address
    return f"{registry}/{rules[prefix]}" if prefix else registry


# Tokens


def _text(token: Token) -> str:
    return str(token.unsafe_unwrap() if isinstance(token, SecretValue) else token)


def _plain(value: Token) -> str | None:
    text = _text(value)
    return None if Tokens.is_unresolved(text) else text


def _check_token(stack: Stack, what: str, token: Token | None) -> None:
    """Raises InputMissing for a token that would stand in the template, or be shown by CloudFormation."""
    if not token or _plain(token) == "":
        return
    resolved: Any = stack.resolve(_text(token))
    parts: list[Any] = [resolved]
    if isinstance(resolved, dict) and "Fn::Join" in resolved:
        parts = resolved["Fn::Join"][1]
    if str(parts[0]).startswith("{{resolve:ssm-secure:"):
        raise InputMissing(f"{what} is an ssm_secure one, which CloudFormation does not take for secrets; {_HOW}")
    if isinstance(parts[0], str) and _REFERENCE.match(parts[0]) and str(parts[-1]).endswith("}}"):
        return
    for part in parts:
        if not isinstance(part, dict):
            raise InputMissing(f"{what} would stand in the template in clear; {_HOW}")
        if part.get("Ref") in _echoed(stack):
            raise InputMissing(
                f"{what} is the parameter {part['Ref']}, which CloudFormation shows to whoever sees the stack; set its no_echo"
            )


def _echoed(stack: Stack) -> set[str]:
    """The parameters of the stack that are no secrets."""
    parameters = [found for found in stack.node.find_all() if isinstance(found, CfnParameter)]
    return {str(stack.resolve(found.logical_id)) for found in parameters if not found.no_echo}
