"""What a call's sender may do beyond the call itself, which the face has asked about."""

from __future__ import annotations

from dataclasses import dataclass

from pullthrough.access.authorization import Authorizer
from pullthrough.access.policy.context import Tags
from pullthrough.faces.ecr.calls import Call
from pullthrough.oci.names import RepositoryName


@dataclass(frozen=True, slots=True)
class Rights:
    """Every method raises AccessDenied where the sender may not; see `Authorizer.authorize`."""

    authorizer: Authorizer

    def check(
        self,
        call: Call,
        action: str,
        resource: str,
        *,
        repository: RepositoryName | None = None,
        secret_policy: str | None = None,
        resource_tags: Tags | None = None,
    ) -> None:
        self.authorizer.authorize(
            call.principal,
            action,
            resource,
            repository=repository,
            secret_policy=secret_policy,
            source_ip=call.source_ip,
            request_tags=call.request_tags,
            resource_tags=resource_tags,
        )

    def check_repository(self, call: Call, operation: str, name: RepositoryName, *, tags: Tags | None = None) -> None:
        """An operation of ECR on this repository. `tags`, if given, count instead of those that it has."""
        arn = call.registry.repository_arn(name)
        self.check(call, f"ecr:{operation}", arn, repository=name, resource_tags=tags)

    def check_secret(self, call: Call, operation: str, arn: str, *, policy: str | None = None, tags: Tags = ()) -> None:
        """An operation of Secrets Manager. `policy` is the secret's own, as `tags` are."""
        self.check(call, f"secretsmanager:{operation}", arn, secret_policy=policy, resource_tags=tags)
