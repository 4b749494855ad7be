"""Principals whose pulls leave an image's pull time as it is: scanners and cleaners must not keep images alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.ecr.calls import Call, Handler, Input, Output
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.paging import page_request
from pullthrough.engine.configuration import Configuration
from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.storage.registry import Registry
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class ExclusionHandlers:
    run: Runner
    registry: Registry
    configuration: Configuration

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "RegisterPullTimeUpdateExclusion": self.register_exclusion,
            "DeregisterPullTimeUpdateExclusion": self.deregister_exclusion,
            "ListPullTimeUpdateExclusions": self.list_exclusions,
        }

    async def register_exclusion(self, call: Call, input: Input) -> Output:
        arn, now = input["principalArn"], call.now
        try:
            await self.run(self.registry.add_exclusion, arn, now)
        except AlreadyExists as error:
            raise ApiError(
                "ExclusionAlreadyExistsException",
                "The specified pull time update exclusion already exists for the registry.",
            ) from error
        except LimitReached as error:
            raise ApiError("LimitExceededException", error.message) from error
        return {"principalArn": arn, "createdAt": now}

    async def deregister_exclusion(self, call: Call, input: Input) -> Output:
        if not await self.run(self.registry.remove_exclusion, input["principalArn"]):
            raise ApiError("ExclusionNotFoundException", "The specified pull time update exclusion was not found.")
        return {"principalArn": input["principalArn"]}

    async def list_exclusions(self, call: Call, input: Input) -> Output:
        page = page_request("ListPullTimeUpdateExclusions", input)
        arns = sorted(self.configuration.pull_time_exclusions)
        found, token = page.cut([arn for arn in arns if page.after is None or (arn,) > page.after], lambda arn: (arn,))
        return {"pullTimeUpdateExclusions": found, "nextToken": token}
