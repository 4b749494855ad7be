"""Settings of the account, and the principals whose pulls count for nothing.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-account-settings.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.engine.configuration import Configuration, account_setting_document
from pullthrough.errors import AlreadyExists, LimitReached
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.parameters import invalid
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.threads import Runner

#: What each may be. Of the scan types, the first is long gone from AWS, but tools still know it.
_VALUES: Mapping[str, tuple[str, ...]] = {
    "BASIC_SCAN_TYPE_VERSION": ("CLAIR", "AWS_NATIVE"),
    "BLOB_MOUNTING": ("ENABLED", "DISABLED"),
    "REGISTRY_POLICY_SCOPE": ("V1", "V2"),
}


@dataclass(frozen=True, slots=True)
class AccountHandlers:
    run: Runner
    rows: DocumentRows
    configuration: Configuration

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetAccountSetting": self.get_account_setting,
            "PutAccountSetting": self.put_account_setting,
        }

    async def get_account_setting(self, call: Call, input: Input) -> Output:
        name = _name(input)
        return {"name": name, "value": self.configuration.account_setting(name)}

    async def put_account_setting(self, call: Call, input: Input) -> Output:
        name, value = _name(input), input["value"]
        if value not in _VALUES[name]:
            raise invalid("value", f"Member must satisfy enum value set: [{', '.join(_VALUES[name])}]")
        document = account_setting_document(name)
        await self.run(self.rows.put, document, value, call.now)
        return {"name": name, "value": value}


def _name(input: Input) -> str:
    name: str = input["name"]
    if name not in _VALUES:
        raise invalid("name", f"Member must satisfy enum value set: [{', '.join(_VALUES)}]")
    return name


@dataclass(frozen=True, slots=True)
class ExclusionHandlers:
    """Of principals whose pulls leave an image's pull time as it is: scanners and cleaners must not keep images alive."""

    run: Runner
    exclusions: PullTimeExclusions
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
            await self.run(self.exclusions.add, arn, now)
        except AlreadyExists as error:
            raise ApiError(
                "ExclusionAlreadyExistsException",
                "The specified pull time update exclusion already exists for the registry.",
            ) from error
        except LimitReached as error:
            raise ApiError("LimitExceededException", error.message) from error
        return {"principalArn": arn, "createdAt": now}

    async def deregister_exclusion(self, call: Call, input: Input) -> Output:
        if not await self.run(self.exclusions.remove, input["principalArn"]):
            raise ApiError("ExclusionNotFoundException", "The specified pull time update exclusion was not found.")
        return {"principalArn": input["principalArn"]}

    async def list_exclusions(self, call: Call, input: Input) -> Output:
        page = page_request("ListPullTimeUpdateExclusions", input)
        arns = sorted(self.configuration.pull_time_exclusions)
        found, token = page.cut([arn for arn in arns if page.after is None or (arn,) > page.after], lambda arn: (arn,))
        return {"pullTimeUpdateExclusions": found, "nextToken": token}
