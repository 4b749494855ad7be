"""`pullthrough policy`: the IAM policies that people need beside the module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pullthrough.cli.module.deployment import EndpointOption, ProfileOption, RegionOption
from pullthrough.cli.options import ConfigOption, dependencies_of, load
from pullthrough.cli.output import note, write_json
from pullthrough.errors import ConfigurationError

if TYPE_CHECKING:
    from pullthrough.declaration import Declaration
    from pullthrough.provision.model.target import DeploymentTarget

policy_app = typer.Typer(
    name="policy", help="IAM policies: for whoever applies, for nodes, for ECR's template role.", rich_markup_mode=None
)
AccountOption = Annotated[
    str | None,
    typer.Option("--account", metavar="ID", help="The AWS account, 12 digits; with --region nobody is asked for it."),
]


@policy_app.command("operator")
def operator(
    context: typer.Context,
    config: ConfigOption = None,
    account: AccountOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Print what plan, apply, verify, status and destroy need, as an identity policy."""
    from pullthrough.provision.model.documents import operator_policy

    declaration, target = _subject(context, config, account, profile, region, endpoint_url)
    given = {rule.custom_role_arn for rule in declaration.rules}
    given |= {entry.role_arn for entry in declaration.templates.values()}
    write_json(operator_policy(target, declaration.name, declaration.access.node_roles, given - {""}))


@policy_app.command("node")
def node(
    context: typer.Context,
    config: ConfigOption = None,
    account: AccountOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Print what a node needs that pulls through the cache, as an identity policy. `[access] node_roles` attaches it."""
    from pullthrough.provision.model.documents import node_policy

    declaration, target = _subject(context, config, account, profile, region, endpoint_url)
    prefixes = [rule.prefix for rule in declaration.rules]
    write_json(node_policy(target, prefixes, declaration.templates.values()))


@policy_app.command("template")
def template(
    context: typer.Context,
    config: ConfigOption = None,
    account: AccountOption = None,
    profile: ProfileOption = None,
    region: RegionOption = None,
    endpoint_url: EndpointOption = None,
) -> None:
    """Print what ECR's role needs to create repositories with tags or KMS: its policy, and who may assume it.

    `apply` makes that role where a template needs one.
    """
    from pullthrough.declaration import Encryption
    from pullthrough.provision.model.documents import template_role_policy, template_trust

    declaration, target = _subject(context, config, account, profile, region, endpoint_url)
    encrypted = [entry for entry in declaration.templates.values() if entry.encryption is not Encryption.AES256]
    keys = [entry.kms_key for entry in encrypted]
    policy = template_role_policy(target, declaration.templates, keys, kms=bool(encrypted))
    write_json({"trust": template_trust(), "policy": policy})
    if not any(entry.needs_role for entry in declaration.templates.values()):
        note("no template of this declaration needs such a role: that is for resource_tags and encryption with KMS")


def _subject(
    context: typer.Context,
    config: Path | None,
    account: str | None,
    profile: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> tuple[Declaration, DeploymentTarget]:
    """The declaration, and the account and region that ARNs name. AWS is asked only for what is not given."""
    from pullthrough.provision.model.target import DeploymentTarget

    dependencies = dependencies_of(context)
    declaration = load(context, config, require_tokens=False).settings.declaration
    if account is None:
        return declaration, dependencies.connect(
            dependencies.environ, profile=profile, region=region, endpoint_url=endpoint_url
        ).target
    region = region or dependencies.environ.get("AWS_REGION") or dependencies.environ.get("AWS_DEFAULT_REGION")
    if not (len(account) == 12 and account.isascii() and account.isdigit()):
        raise ConfigurationError(f"--account {account[:40]!r} is not 12 digits")
    if not region:
        raise ConfigurationError("--account needs --region beside it, or AWS_REGION")
    return declaration, DeploymentTarget(account, region)
