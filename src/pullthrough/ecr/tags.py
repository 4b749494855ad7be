"""AWS's tags (key and value) of repositories, which are the resources of ECR that have any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.parameters import invalid, read_tags, repository_not_found, too_many_tags
from pullthrough.errors import LimitReached
from pullthrough.oci.names import RepositoryName, parse_repository_name
from pullthrough.oci.owners import OWN, OWNER_TAG

_ARN = re.compile(r"arn:aws[a-z-]*:ecr:([a-z0-9-]+):([0-9]{12}):repository/(.+)")


async def tag_resource(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = _repository(call, input)
    tags = read_tags(input["tags"], code="InvalidTagParameterException", too_many="TooManyTagsException")
    try:
        found = await call.engine.call(call.engine.repositories.tag, name, tags)
    except LimitReached as error:
        raise too_many_tags() from error
    if not found:
        raise repository_not_found(call, name)
    return {}


async def untag_resource(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = _repository(call, input)
    if not await call.engine.call(call.engine.repositories.untag, name, input["tagKeys"]):
        raise repository_not_found(call, name)
    return {}


async def list_tags_for_resource(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = _repository(call, input)
    tags = await call.engine.call(call.engine.repositories.tags, name)
    if tags is None:
        raise repository_not_found(call, name)
    if call.engine.rules.is_covered(name):
        tags[OWNER_TAG] = OWN
    return {"tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _repository(call: Call, input: Mapping[str, Any]) -> RepositoryName:
    arn = _ARN.fullmatch(input["resourceArn"])
    if arn is None:
        raise invalid("resourceArn", "Invalid ARN")
    region, account, name = arn.groups()
    if (region, account) != (call.registry.region, call.registry.account):
        raise invalid("resourceArn", f"this engine is the registry {call.registry.account} in {call.registry.region}")
    return parse_repository_name(name)


HANDLERS: Mapping[str, Handler] = {
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "ListTagsForResource": list_tags_for_resource,
}
