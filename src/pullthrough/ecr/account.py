"""Account settings: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-account-settings.html"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.parameters import invalid
from pullthrough.engine.configuration import account_setting_document

#: What each may be. Of the scan types, the first is long gone from AWS, but tools still know it.
_VALUES: Mapping[str, tuple[str, ...]] = {
    "BASIC_SCAN_TYPE_VERSION": ("CLAIR", "AWS_NATIVE"),
    "BLOB_MOUNTING": ("ENABLED", "DISABLED"),
    "REGISTRY_POLICY_SCOPE": ("V1", "V2"),
}


async def get_account_setting(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = _name(input)
    return {"name": name, "value": call.engine.configuration.account_setting(name)}


async def put_account_setting(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name, value = _name(input), input["value"]
    if value not in _VALUES[name]:
        raise invalid("value", f"Member must satisfy enum value set: [{', '.join(_VALUES[name])}]")
    document = account_setting_document(name)
    await call.engine.call(call.engine.registry.put_document, document, value, call.clock())
    return {"name": name, "value": value}


def _name(input: Mapping[str, Any]) -> str:
    name: str = input["name"]
    if name not in _VALUES:
        raise invalid("name", f"Member must satisfy enum value set: [{', '.join(_VALUES)}]")
    return name


HANDLERS: Mapping[str, Handler] = {
    "GetAccountSetting": get_account_setting,
    "PutAccountSetting": put_account_setting,
}
