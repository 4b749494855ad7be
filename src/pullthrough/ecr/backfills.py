"""Replication of what was there before its rule. The engine replicates nothing: none can be begun, so there are none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.paging import page_request


async def start_replication_backfill(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    raise ApiError(
        "InvalidParameterException",
        "StartReplicationBackfill is not offered by this engine: it keeps replication rules, but replicates nothing",
    )


async def list_replication_backfills(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    page_request("ListReplicationBackfills", input)  # refuses tokens, of which none was given
    return {"registryId": call.registry.account, "backfills": []}


async def find_replication_backfill(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """There is none under any id."""
    raise ApiError(
        "ReplicationBackfillNotFoundException",
        f"The replication backfill with id '{input['replicationBackfillId']}' does not exist in the registry with id "
        f"'{call.registry.account}': StartReplicationBackfill is not offered by this engine",
    )


HANDLERS: Mapping[str, Handler] = {
    "StartReplicationBackfill": start_replication_backfill,
    "ListReplicationBackfills": list_replication_backfills,
    "DescribeReplicationBackfillResults": find_replication_backfill,
    "StopReplicationBackfill": find_replication_backfill,
}
