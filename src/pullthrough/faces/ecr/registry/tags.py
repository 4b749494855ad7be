"""AWS's tags (key and value) of repositories, which are the resources of ECR that have any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.engine.configuration import Configuration
from pullthrough.errors import LimitReached
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import invalid, read_tags, repository_not_found, too_many_tags
from pullthrough.oci.names import RepositoryName, parse_repository_name
from pullthrough.oci.owners import OWN, OWNER_TAG
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

_ARN = re.compile(r"arn:aws[a-z-]*:ecr:([a-z0-9-]+):([0-9]{12}):repository/(.+)")


@dataclass(frozen=True, slots=True)
class TagHandlers:
    run: Runner
    repositories: Repositories
    configuration: Configuration

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "TagResource": self.tag_resource,
            "UntagResource": self.untag_resource,
            "ListTagsForResource": self.list_tags_for_resource,
        }

    async def tag_resource(self, call: Call, input: Input) -> Output:
        name = _repository(call, input)
        tags = read_tags(input["tags"], code="InvalidTagParameterException", too_many="TooManyTagsException")
        try:
            found = await self.run(self.repositories.tag, name, tags)
        except LimitReached as error:
            raise too_many_tags() from error
        if not found:
            raise repository_not_found(call.registry, name)
        return {}

    async def untag_resource(self, call: Call, input: Input) -> Output:
        name = _repository(call, input)
        if not await self.run(self.repositories.untag, name, input["tagKeys"]):
            raise repository_not_found(call.registry, name)
        return {}

    async def list_tags_for_resource(self, call: Call, input: Input) -> Output:
        name = _repository(call, input)
        tags = await self.run(self.repositories.tags, name)
        if tags is None:
            raise repository_not_found(call.registry, name)
        if self.configuration.rules.is_covered(name):
            tags[OWNER_TAG] = OWN
        return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _repository(call: Call, input: Input) -> RepositoryName:
    arn = _ARN.fullmatch(input["resourceArn"])
    if arn is None:
        raise invalid("resourceArn", "Invalid ARN")
    region, account, name = arn.groups()
    if (region, account) != (call.registry.region, call.registry.account):
        raise invalid("resourceArn", f"this engine is the registry {call.registry.account} in {call.registry.region}")
    return parse_repository_name(name)
