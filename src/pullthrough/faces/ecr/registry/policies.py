"""Policies of repositories and of the registry: kept as they were given, obeyed for every request (access)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pullthrough.access.policy.documents import PolicyKind
from pullthrough.engine.configuration import REGISTRY_POLICY, Configuration
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import check_policy, invalid_policy, repository_name, repository_not_found
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.repositories import Repositories, RepositoryRecord
from pullthrough.threads import Runner

#: What a registry policy of the first version's scope speaks of.
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry-permissions.html
_V1_ACTIONS = frozenset({"ecr:replicateimage", "ecr:batchimportupstreamimage", "ecr:createrepository"})


@dataclass(frozen=True, slots=True)
class PolicyHandlers:
    run: Runner
    repositories: Repositories
    rows: DocumentRows
    configuration: Configuration

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "SetRepositoryPolicy": self.set_repository_policy,
            "GetRepositoryPolicy": self.get_repository_policy,
            "DeleteRepositoryPolicy": self.delete_repository_policy,
            "PutRegistryPolicy": self.put_registry_policy,
            "GetRegistryPolicy": self.get_registry_policy,
            "DeleteRegistryPolicy": self.delete_registry_policy,
        }

    async def set_repository_policy(self, call: Call, input: Input) -> Output:
        """A policy that denies everybody to set another one would lock all out, and is refused without `force`."""
        name, text = repository_name(input), input["policyText"]
        check_policy(text, PolicyKind.REPOSITORY)
        if not input.get("force", False) and _locks_out(text):
            raise invalid_policy(
                PolicyKind.REPOSITORY,
                "it denies ecr:SetRepositoryPolicy to everybody, so that nobody could set another one; use force to set it "
                "all the same",
            )
        record = await self.run(self.repositories.set_policy, name, text)
        return _repository_policy(call, name, record, text)

    async def get_repository_policy(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        record = await self.run(self.repositories.find, name)
        return _repository_policy(call, name, record, record.policy if record else None)

    async def delete_repository_policy(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        record = await self.run(self.repositories.take_policy, name)
        return _repository_policy(call, name, record, record.policy if record else None)

    async def put_registry_policy(self, call: Call, input: Input) -> Output:
        text = input["policyText"]
        check_policy(text, PolicyKind.REGISTRY)
        if self.configuration.account_setting("REGISTRY_POLICY_SCOPE") == "V1":
            for action in _actions(text):
                if action.lower() not in _V1_ACTIONS:
                    raise invalid_policy(
                        PolicyKind.REGISTRY, f"{action[:80]} is not an action of registry policies of scope V1"
                    )
        await self.run(self.rows.put, REGISTRY_POLICY, text, call.now)
        return _registry_policy(call, text)

    async def get_registry_policy(self, call: Call, input: Input) -> Output:
        return _registry_policy(call, self.configuration.registry_policy)

    async def delete_registry_policy(self, call: Call, input: Input) -> Output:
        return _registry_policy(call, await self.run(self.rows.delete, REGISTRY_POLICY))


def _repository_policy(call: Call, name: str, record: RepositoryRecord | None, text: str | None) -> Output:
    if record is None:
        raise repository_not_found(call.registry, name)
    if text is None:
        raise ApiError(
            "RepositoryPolicyNotFoundException",
            f"Repository policy does not exist for the repository with name '{name}' in the registry with id "
            f"'{call.registry.account}'",
        )
    return {"registryId": call.registry.account, "repositoryName": name, "policyText": text}


def _registry_policy(call: Call, text: str | None) -> Output:
    if text is None:
        raise ApiError(
            "RegistryPolicyNotFoundException",
            f"Registry policy does not exist in the registry with id '{call.registry.account}'",
        )
    return {"registryId": call.registry.account, "policyText": text}


def _statements(text: str) -> Iterator[dict[str, Any]]:
    """Of a policy that was found to be one."""
    entries = json.loads(text)["Statement"]
    yield from entries if isinstance(entries, list) else [entries]


def _actions(text: str) -> Iterator[str]:
    for statement in _statements(text):
        # Scope V1 has no way to mean all but some actions.
        actions = statement.get("Action", "NotAction")
        yield from actions if isinstance(actions, list) else [actions]


def _locks_out(text: str) -> bool:
    for statement in _statements(text):
        everybody = statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        actions = statement.get("Action", [])
        actions = actions if isinstance(actions, list) else [actions]
        denied = any(action.lower() in ("*", "ecr:*", "ecr:setrepositorypolicy") for action in actions)
        if statement["Effect"] == "Deny" and everybody and denied and not statement.get("Condition"):
            return True
    return False
