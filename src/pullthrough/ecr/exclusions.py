"""Principals whose pulls leave an image's pull time as it is: scanners and cleaners must not keep images alive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.paging import page_request
from pullthrough.errors import AlreadyExists, LimitReached


async def register_exclusion(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    arn, now = input["principalArn"], call.clock()
    try:
        await call.engine.call(call.engine.registry.add_exclusion, arn, now)
    except AlreadyExists as error:
        raise ApiError(
            "ExclusionAlreadyExistsException",
            "The specified pull time update exclusion already exists for the registry.",
        ) from error
    except LimitReached as error:
        raise ApiError("LimitExceededException", error.message) from error
    return {"principalArn": arn, "createdAt": now}


async def deregister_exclusion(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    if not await call.engine.call(call.engine.registry.remove_exclusion, input["principalArn"]):
        raise ApiError("ExclusionNotFoundException", "The specified pull time update exclusion was not found.")
    return {"principalArn": input["principalArn"]}


async def list_exclusions(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    page = page_request("ListPullTimeUpdateExclusions", input)
    arns = sorted(call.engine.configuration.pull_time_exclusions)
    found, token = page.cut([arn for arn in arns if page.after is None or (arn,) > page.after], lambda arn: (arn,))
    return {"pullTimeUpdateExclusions": found, "nextToken": token}


HANDLERS: Mapping[str, Handler] = {
    "RegisterPullTimeUpdateExclusion": register_exclusion,
    "DeregisterPullTimeUpdateExclusion": deregister_exclusion,
    "ListPullTimeUpdateExclusions": list_exclusions,
}
