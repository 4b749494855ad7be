"""The registry, and where its images are to be replicated to. The engine keeps that, but replicates nothing.

So a status says FAILED, and why, where a rule asks for a replica; and no backfill, which would replicate what was there
before its rule, can be begun.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.engine.configuration import REPLICATION
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import KnownImages
from pullthrough.faces.ecr.parameters import invalid, repository_name
from pullthrough.faces.ecr.registry.documents import RegistryDocuments
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request

#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html
_MAX_RULES = 10
_MAX_DESTINATIONS = 25
_NOT_REPLICATED = "ReplicationNotAvailable"


@dataclass(frozen=True, slots=True)
class ReplicationHandlers:
    documents: RegistryDocuments
    known_images: KnownImages

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "DescribeRegistry": self.describe_registry,
            "PutReplicationConfiguration": self.put_replication_configuration,
            "DescribeImageReplicationStatus": self.describe_image_replication_status,
            "StartReplicationBackfill": self.start_replication_backfill,
            "ListReplicationBackfills": self.list_replication_backfills,
            "DescribeReplicationBackfillResults": self.find_replication_backfill,
            "StopReplicationBackfill": self.find_replication_backfill,
        }

    async def describe_registry(self, call: Call, input: Input) -> Output:
        return {"registryId": call.registry.account, "replicationConfiguration": self._configuration()}

    async def put_replication_configuration(self, call: Call, input: Input) -> Output:
        configuration = input["replicationConfiguration"]
        rules = configuration["rules"]
        if len(rules) > _MAX_RULES:
            raise invalid("replicationConfiguration", f"there may be no more than {_MAX_RULES} rules")
        destinations = {(one["region"], one["registryId"]) for rule in rules for one in rule["destinations"]}
        if len(destinations) > _MAX_DESTINATIONS:
            raise invalid("replicationConfiguration", f"there may be no more than {_MAX_DESTINATIONS} destinations")
        if (call.registry.region, call.registry.account) in destinations:
            raise invalid(
                "replicationConfiguration", "Replication destination cannot be the same as the source registry"
            )
        await self.documents.put(call, REPLICATION, configuration)
        return {"replicationConfiguration": configuration}

    async def describe_image_replication_status(self, call: Call, input: Input) -> Output:
        """A status for each destination of the rules that the repository falls under."""
        name = repository_name(input)
        image = await self.known_images.require(call, name, input["imageId"])
        destinations = {
            (one["region"], one["registryId"])
            for rule in self._configuration()["rules"]
            if "repositoryFilters" not in rule
            or any(name.startswith(one["filter"]) for one in rule["repositoryFilters"])
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

    async def start_replication_backfill(self, call: Call, input: Input) -> Output:
        raise ApiError(
            "InvalidParameterException",
            "StartReplicationBackfill is not offered by this engine: it keeps replication rules, but replicates nothing",
        )

    async def list_replication_backfills(self, call: Call, input: Input) -> Output:
        page_request("ListReplicationBackfills", input)  # refuses tokens, of which none was given
        return {"registryId": call.registry.account, "backfills": []}

    async def find_replication_backfill(self, call: Call, input: Input) -> Output:
        """There is none under any id."""
        raise ApiError(
            "ReplicationBackfillNotFoundException",
            f"The replication backfill with id '{input['replicationBackfillId']}' does not exist in the registry with id "
            f"'{call.registry.account}': StartReplicationBackfill is not offered by this engine",
        )

    def _configuration(self) -> Output:
        return self.documents.read(REPLICATION) or {"rules": []}
