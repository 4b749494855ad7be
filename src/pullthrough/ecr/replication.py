"""The registry, and where its images are to be replicated to. The engine keeps that, but replicates nothing.

So a status says FAILED, and why, where a rule asks for a replica.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.image_ids import require_image
from pullthrough.ecr.parameters import invalid, repository_name
from pullthrough.engine.configuration import REPLICATION

#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
_MAX_RULES = 10
_MAX_DESTINATIONS = 25
_NOT_REPLICATED = "ReplicationNotAvailable"


async def describe_registry(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    return {"registryId": call.registry.account, "replicationConfiguration": _configuration(call)}


async def put_replication_configuration(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    configuration = input["replicationConfiguration"]
    rules = configuration["rules"]
    if len(rules) > _MAX_RULES:
        raise invalid("replicationConfiguration", f"there may be no more than {_MAX_RULES} rules")
    destinations = {(one["region"], one["registryId"]) for rule in rules for one in rule["destinations"]}
    if len(destinations) > _MAX_DESTINATIONS:
        raise invalid("replicationConfiguration", f"there may be no more than {_MAX_DESTINATIONS} destinations")
    if (call.registry.region, call.registry.account) in destinations:
        raise invalid("replicationConfiguration", "Replication destination cannot be the same as the source registry")
    text = json.dumps(configuration)
    await call.engine.call(call.engine.registry.put_document, REPLICATION, text, call.clock())
    return {"replicationConfiguration": configuration}


async def describe_image_replication_status(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """A status for each destination of the rules that the repository falls under."""
    name = repository_name(input)
    image = await require_image(call, name, input["imageId"])
    destinations = {
        (one["region"], one["registryId"])
        for rule in _configuration(call)["rules"]
        if "repositoryFilters" not in rule or any(name.startswith(one["filter"]) for one in rule["repositoryFilters"])
        for one in rule["destinations"]
    }
    return {
        "repositoryName": name,
        "imageId": image,
        "replicationStatuses": [
            {"region": region, "registryId": registry, "status": "FAILED", "failureCode": _NOT_REPLICATED}
            for region, registry in sorted(destinations)
        ],
    }


def _configuration(call: Call) -> dict[str, Any]:
    text = call.engine.configuration.document(REPLICATION)
    configuration: dict[str, Any] = json.loads(text) if text else {"rules": []}
    return configuration


HANDLERS: Mapping[str, Handler] = {
    "DescribeRegistry": describe_registry,
    "PutReplicationConfiguration": put_replication_configuration,
    "DescribeImageReplicationStatus": describe_image_replication_status,
}
