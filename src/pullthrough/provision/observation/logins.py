"""What GetAuthorizationToken says: where a registry is, and a token for it."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from pullthrough.errors import TargetUnusable
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.target import DeploymentTarget


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Where the registry is, and a token for it."""

    #: A URL: the `proxyEndpoint` of GetAuthorizationToken.
    endpoint: str
    username: str
    password: str = field(repr=False)


def log_in(aws: Aws) -> RegistryLogin:
    """A fresh token; one call. Raises what `Aws.call` raises, and TargetUnusable for an answer without a token."""
    for entry in aws.call("ecr", "GetAuthorizationToken").get("authorizationData", []):
        try:
            username, colon, password = (
                base64.b64decode(entry["authorizationToken"], validate=True).decode().partition(":")
            )
            endpoint = str(entry["proxyEndpoint"])
        except (KeyError, ValueError):
            continue
        if colon and password:
            aws.secrets |= {password, str(entry["authorizationToken"])}
            return RegistryLogin(endpoint, username, password)
    raise TargetUnusable(
        "GetAuthorizationToken gives no token and no proxyEndpoint", hint="is this an endpoint of ECR's API?"
    )


def registry_host(aws: Aws, target: DeploymentTarget) -> str:
    """The registry's name in image names. Elsewhere than on AWS it is asked for: GetAuthorizationToken, one call.

    Raises what `Aws.call` raises, and TargetUnusable for an answer without one.
    """
    if target.is_aws:
        return target.registry_host
    for entry in aws.call("ecr", "GetAuthorizationToken").get("authorizationData", []):
        if host := urlsplit(str(entry.get("proxyEndpoint", ""))).netloc:
            return host
    raise TargetUnusable(
        f"{target.endpoint} does not say where its registry is",
        hint="GetAuthorizationToken has to have a proxyEndpoint; is this an endpoint of ECR's API?",
    )
