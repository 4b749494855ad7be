"""Repositories: making, describing and deleting them, and what is set for one as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.errors import AlreadyExists, NotEmpty
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import (
    check_mutability,
    read_encryption,
    read_tags,
    repository_name,
    repository_not_found,
)
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.oci.names import parse_repository_name
from pullthrough.storage.registry.repositories import Repositories, RepositoryRecord, RepositorySettings
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class RepositoryHandlers:
    run: Runner
    repositories: Repositories
    rights: Rights

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "CreateRepository": self.create_repository,
            "DescribeRepositories": self.describe_repositories,
            "DeleteRepository": self.delete_repository,
            "PutImageTagMutability": self.put_image_tag_mutability,
            "PutImageScanningConfiguration": self.put_image_scanning_configuration,
        }

    async def create_repository(self, call: Call, input: Input) -> Output:
        """To give it tags needs the right to tag it, too."""
        name = repository_name(input)
        tags = read_tags(input.get("tags", []), code="InvalidTagParameterException", too_many="TooManyTagsException")
        if tags:
            self.rights.check_repository(call, "TagResource", name, tags=tags.items())
        mutability = input.get("imageTagMutability", "MUTABLE")
        filters = input.get("imageTagMutabilityExclusionFilters", [])
        check_mutability(mutability, filters)
        settings = RepositorySettings(
            tag_mutability=mutability,
            mutability_filters=filters,
            encryption=read_encryption(input.get("encryptionConfiguration", {})),
            scan_on_push=input.get("imageScanningConfiguration", {}).get("scanOnPush", False),
            tags=tags,
        )
        try:
            record = await self.run(self.repositories.create, name, settings, call.now)
        except AlreadyExists as error:
            raise ApiError(
                "RepositoryAlreadyExistsException",
                f"The repository with name '{name}' already exists in the registry with id '{call.registry.account}'",
            ) from error
        return {"repository": _repository(call, record)}

    async def describe_repositories(self, call: Call, input: Input) -> Output:
        """Those that are named, which must all be there, or all of them; by name."""
        page = page_request("DescribeRepositories", input)
        after = str(page.after[0]) if page.after else ""
        if "repositoryNames" in input:
            names = [parse_repository_name(name) for name in input["repositoryNames"]]
            found = await self.run(self.repositories.find_all, names)
            known = {record.name for record in found}
            for name in names:
                if name not in known:
                    raise repository_not_found(call.registry, name)
            found = [record for record in found if record.name > after]
        else:
            found = await self.run(self.repositories.page, after, page.size + 1)
        records, token = page.cut(found, lambda record: (record.name,))
        return {"repositories": [_repository(call, record) for record in records], "nextToken": token}

    async def delete_repository(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        try:
            record = await self.run(self.repositories.delete, name, force=input.get("force", False))
        except NotEmpty as error:
            raise ApiError(
                "RepositoryNotEmptyException",
                f"The repository with name '{name}' in registry with id '{call.registry.account}' cannot be deleted because "
                "it still contains images",
            ) from error
        return {"repository": _repository(call, _found(call, name, record))}

    async def put_image_tag_mutability(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        mutability = input["imageTagMutability"]
        filters = input.get("imageTagMutabilityExclusionFilters", [])
        check_mutability(mutability, filters)
        _found(call, name, await self.run(self.repositories.set_mutability, name, mutability, filters))
        return {
            "registryId": call.registry.account,
            "repositoryName": name,
            "imageTagMutability": mutability,
            "imageTagMutabilityExclusionFilters": filters or None,
        }

    async def put_image_scanning_configuration(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        scan_on_push = input["imageScanningConfiguration"].get("scanOnPush", False)
        _found(call, name, await self.run(self.repositories.set_scan_on_push, name, scan_on_push))
        return {
            "registryId": call.registry.account,
            "repositoryName": name,
            "imageScanningConfiguration": {"scanOnPush": scan_on_push},
        }


def _found(call: Call, name: str, record: RepositoryRecord | None) -> RepositoryRecord:
    if record is None:
        raise repository_not_found(call.registry, name)
    return record


def _repository(call: Call, record: RepositoryRecord) -> Output:
    return {
        "repositoryArn": call.registry.repository_arn(record.name),
        "registryId": call.registry.account,
        "repositoryName": record.name,
        "repositoryUri": call.registry.repository_uri(record.name),
        "createdAt": record.created_at,
        "imageTagMutability": record.tag_mutability,
        "imageTagMutabilityExclusionFilters": list(record.mutability_filters) or None,
        "imageScanningConfiguration": {"scanOnPush": record.scan_on_push},
        "encryptionConfiguration": record.encryption,
    }
