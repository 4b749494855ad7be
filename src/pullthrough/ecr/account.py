"""Account settings: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-account-settings.html"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.ecr.calls import Call, Handler, Input, Output
from pullthrough.ecr.parameters import invalid
from pullthrough.engine.configuration import Configuration, account_setting_document
from pullthrough.storage.registry import Registry
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
    registry: Registry
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
        await self.run(self.registry.put_document, document, value, call.now)
        return {"name": name, "value": value}


def _name(input: Input) -> str:
    name: str = input["name"]
    if name not in _VALUES:
        raise invalid("name", f"Member must satisfy enum value set: [{', '.join(_VALUES)}]")
    return name
