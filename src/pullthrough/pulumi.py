"""The module as a component of Pulumi: `from pullthrough.pulumi import PullThroughCache`.

    cache = PullThroughCache(
        "cache",
        docker_hub_username="acme", docker_hub_access_token=config.require_secret("docker_hub_access_token"),
        github_username="acme", github_access_token=config.require_secret("github_access_token"),
    )
    pulumi.export("docker_hub_registry", cache.docker_hub_registry)

It makes what `pullthrough apply` makes, as resources of pulumi-aws. Account, region and partition are asked of the
provider. Needs the extra `pulumi`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pullthrough._inputs import STANDARD, WHOLE_POLICY, WHOLE_SCANNING, accounts_by_prefix
from pullthrough.addressing.labels import terraform_style
from pullthrough.declaration import ROOT, Declaration
from pullthrough.errors import TargetUnusable
from pullthrough.provision.export.common import (
    TARGET,
    addresses,
    desired_anywhere,
    filters_by_frequency,
    is_marked,
    needed,
    texts,
    unmark,
)
from pullthrough.provision.model.resources import Json, Key, Resource, ResourceKind
from pullthrough.provision.model.target import region_without_caches

try:
    import pulumi
    import pulumi_aws as aws
except ImportError as error:
    missing = (error.name or "").partition(".")[0]
    raise ImportError(
        f"pullthrough.pulumi needs Pulumi's libraries, and {missing} is not installed: "
        "pip install 'pullthrough[pulumi]'",
        name=missing,
    ) from error

TYPE = "pullthrough:index:PullThroughCache"


class PullThroughCache(pulumi.ComponentResource):
    """ECR as a pull-through cache: rules, their secrets and creation templates, and who may pull."""

    #: What to write in image names instead of each registry's host; the host itself where it has no rule.
    ecr_public_registry: pulumi.Output[str]
    kubernetes_registry: pulumi.Output[str]
    quay_registry: pulumi.Output[str]
    docker_hub_registry: pulumi.Output[str]
    github_registry: pulumi.Output[str]
    #: All of them, those of further rules too, by name: `docker_hub`, `gitlab`.
    registries: pulumi.Output[Mapping[str, str]]

    def __init__(
        self,
        name: str,
        *,
        docker_hub_username: pulumi.Input[str] | None = None,
        docker_hub_access_token: pulumi.Input[str] | None = None,
        github_username: pulumi.Input[str] | None = None,
        github_access_token: pulumi.Input[str] | None = None,
        accounts: Mapping[str, tuple[pulumi.Input[str], pulumi.Input[str]]] | None = None,
        declaration: Declaration = STANDARD,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`accounts`: user name and token of single rules, by prefix; before the four inputs, which are not needed where
        no rule wants them. Tokens that the declaration names itself are not read.

        Tokens are secrets of the stack whether or not they were passed as such. Raises InputMissing and PlanProblem.
        """
        known = accounts_by_prefix(
            declaration,
            {"docker_hub": docker_hub_username, "github": github_username},
            {"docker_hub": docker_hub_access_token, "github": github_access_token},
            accounts or {},
            lambda value: value if isinstance(value, str) else None,
        )
        desired = desired_anywhere(declaration)
        super().__init__(TYPE, name, None, opts)
        self._name = name
        self._accounts = known
        self._words = _words(self)
        self._made: dict[Key, list[pulumi.Resource]] = {}
        for resource in desired.resources:
            self._made[resource.key] = self._make(resource)
        by_name = {
            found: self._address(address) for found, address in addresses(declaration, terraform_style, "_").items()
        }
        self.ecr_public_registry = by_name["ecr_public"]
        self.kubernetes_registry = by_name["kubernetes"]
        self.quay_registry = by_name["quay"]
        self.docker_hub_registry = by_name["docker_hub"]
        self.github_registry = by_name["github"]
        self.registries = pulumi.Output.all(**by_name)
        self.register_outputs(
            {
                "ecr_public_registry": self.ecr_public_registry,
                "kubernetes_registry": self.kubernetes_registry,
                "quay_registry": self.quay_registry,
                "docker_hub_registry": self.docker_hub_registry,
                "github_registry": self.github_registry,
                "registries": self.registries,
            }
        )

    def _make(self, resource: Resource) -> list[pulumi.Resource]:
        """Make the resources; those that need this one wait for them."""
        opts = pulumi.ResourceOptions(
            parent=self,
            depends_on=[made for key in resource.needs for made in self._made[key]],
            # AWS takes no second one of the same name.
            delete_before_replace=True,
        )
        match resource.key.kind:
            case ResourceKind.SECRET:
                return self._secret(resource, opts)
            case ResourceKind.RULE:
                return self._rule(resource, opts)
            case ResourceKind.ROLE:
                return self._role(resource, opts)
            case ResourceKind.TEMPLATE:
                return self._template(resource, opts)
            case ResourceKind.NODE_ACCESS:
                return self._node_access(resource, opts)
            case ResourceKind.REGISTRY_POLICY:
                return self._registry_policy(resource, opts)
            case ResourceKind.SCANNING:
                return self._scanning(resource, opts)
            case ResourceKind.REPOSITORY:
                # Pulls make repositories; a declaration has none.
                return []

    def _secret(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        attributes, name = resource.attributes, f"{self._name}-{resource.prefix}"
        secret = aws.secretsmanager.Secret(
            name,
            name=resource.key.name,
            description=attributes["description"],
            tags=attributes["tags"],
            opts=opts,
        )
        username, token = self._accounts[resource.prefix]
        content = pulumi.Output.all(username, pulumi.Output.secret(token)).apply(
            # Secret as what it is made of. As everywhere, a line break at a token's end is none of it.
            lambda account: json.dumps({"username": account[0], "accessToken": account[1].strip()})
        )
        version = aws.secretsmanager.SecretVersion(
            name,
            secret_id=secret.id,
            secret_string=content,
            opts=pulumi.ResourceOptions(parent=self),
        )
        return [secret, version]

    def _rule(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        attributes = resource.attributes
        credential: pulumi.Input[str] = str(attributes["credentialArn"])
        if secret := needed(resource, ResourceKind.SECRET):
            credential = self._made[Key(ResourceKind.SECRET, secret)][0].arn  # type: ignore[attr-defined] # pulumi-aws's Secret
        upstream_prefix = attributes["upstreamRepositoryPrefix"]
        rule = aws.ecr.PullThroughCacheRule(
            f"{self._name}-{resource.key.name}",
            ecr_repository_prefix=resource.key.name,
            upstream_registry_url=attributes["upstreamRegistryUrl"],
            # ROOT is what AWS takes it for, and read back it would be a difference.
            upstream_repository_prefix=None if upstream_prefix == ROOT else upstream_prefix,
            credential_arn=credential or None,
            custom_role_arn=attributes["customRoleArn"] or None,
            opts=opts,
        )
        return [rule]

    def _role(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        attributes, name = resource.attributes, f"{self._name}-template-role"
        role = aws.iam.Role(
            name,
            name=resource.key.name,
            description=attributes["description"],
            assume_role_policy=self._json(attributes["trustPolicy"]),
            tags=attributes["tags"],
            opts=opts,
        )
        policy = aws.iam.RolePolicy(
            name,
            name=attributes["policyName"],
            role=role.name,
            policy=self._json(attributes["policy"]),
            opts=pulumi.ResourceOptions(parent=self),
        )
        return [role, policy]

    def _template(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        attributes = resource.attributes
        exclusions = texts(attributes["imageTagMutabilityExclusionFilters"])
        template = aws.ecr.RepositoryCreationTemplate(
            f"{self._name}-{resource.key.name}",
            prefix=resource.key.name,
            description=attributes["description"],
            applied_fors=attributes["appliedFor"],
            image_tag_mutability=attributes["imageTagMutability"],
            image_tag_mutability_exclusion_filters=[
                {"filter": filter, "filter_type": "WILDCARD"} for filter in exclusions
            ]
            or None,
            encryption_configurations=[
                {"encryption_type": attributes["encryptionType"], "kms_key": attributes["kmsKey"] or None}
            ],
            lifecycle_policy=self._json(attributes["lifecyclePolicy"]),
            repository_policy=self._json(attributes["repositoryPolicy"]),
            resource_tags=attributes["resourceTags"] or None,
            custom_role_arn=self._text(str(attributes["customRoleArn"])) or None,
            opts=opts,
        )
        return [template]

    def _node_access(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        policy = aws.iam.RolePolicy(
            f"{self._name}-node-{resource.key.name}",
            name=resource.attributes["policyName"],
            role=resource.key.name,
            policy=self._json(resource.attributes["policy"]),
            opts=opts,
        )
        return [policy]

    def _registry_policy(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        pulumi.log.warn(WHOLE_POLICY, self)
        document: Json = {"Version": "2012-10-17", "Statement": resource.attributes["statements"]}
        return [aws.ecr.RegistryPolicy(self._name, policy=self._json(document), opts=opts)]

    def _scanning(self, resource: Resource, opts: pulumi.ResourceOptions) -> list[pulumi.Resource]:
        pulumi.log.warn(WHOLE_SCANNING, self)
        filters = filters_by_frequency(resource)
        scanning = aws.ecr.RegistryScanningConfiguration(
            self._name,
            scan_type="ENHANCED" if "CONTINUOUS_SCAN" in filters else "BASIC",
            rules=[
                {
                    "scan_frequency": frequency,
                    "repository_filters": [{"filter": filter, "filter_type": "WILDCARD"} for filter in found],
                }
                for frequency, found in filters.items()
            ],
            opts=opts,
        )
        return [scanning]

    def _address(self, address: str) -> pulumi.Output[str]:
        """The address as an output that a preview knows, and that waits for the rule."""
        host, _, prefix = address.partition("/")
        made = self._made.get(Key(ResourceKind.RULE, prefix or ROOT), [])
        if host != TARGET.registry_host or not made:
            return pulumi.Output.from_input(address)
        registry = pulumi.Output.from_input(self._text(host))
        rule: Any = made[0]
        return pulumi.Output.all(registry, rule.ecr_repository_prefix).apply(
            lambda parts: parts[0] if parts[1] == ROOT else f"{parts[0]}/{parts[1]}"
        )

    def _json(self, document: Json) -> pulumi.Input[str] | None:
        return None if document is None else self._text(json.dumps(document, ensure_ascii=False))

    def _text(self, text: str) -> pulumi.Input[str]:
        return self._words.apply(lambda words: unmark(text, words, str)) if is_marked(text) else text


def _words(component: PullThroughCache) -> pulumi.Output[dict[str, str]]:
    """Account, region and partition, as the component's provider says."""
    opts = pulumi.InvokeOutputOptions(parent=component)
    partition = aws.get_partition_output(opts=opts)
    return pulumi.Output.all(
        account=aws.get_caller_identity_output(opts=opts).account_id,
        region=aws.get_region_output(opts=opts).region.apply(_usable),
        partition=partition.partition,
        suffix=partition.dns_suffix,
    )


def _usable(region: str) -> str:
    if where := region_without_caches(region):
        raise TargetUnusable(f"AWS offers no pull-through caches in {where}, where {region} is")
    return region
