"""Which images are to be signed when they are pushed. The engine keeps that, but signs nothing itself.

So a status says FAILED, and why, where a rule asks for a signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pullthrough.access.globs import matches
from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.image_ids import require_image
from pullthrough.ecr.parameters import repository_name
from pullthrough.engine.configuration import SIGNING


async def put_signing_configuration(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    configuration = input["signingConfiguration"]
    text = json.dumps(configuration)
    await call.engine.call(call.engine.registry.put_document, SIGNING, text, call.clock())
    return {"signingConfiguration": configuration}


async def get_signing_configuration(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    return _answer(call, call.engine.configuration.document(SIGNING))


async def delete_signing_configuration(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    return _answer(call, await call.engine.call(call.engine.registry.delete_document, SIGNING))


async def describe_image_signing_status(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """A status for each profile of the rules that the repository falls under."""
    name = repository_name(input)
    image = await require_image(call, name, input["imageId"])
    text = call.engine.configuration.document(SIGNING)
    profiles = [
        rule["signingProfileArn"]
        for rule in (json.loads(text)["rules"] if text else [])
        if "repositoryFilters" not in rule or any(matches(one["filter"], name) for one in rule["repositoryFilters"])
    ]
    return {
        "repositoryName": name,
        "imageId": image,
        "registryId": call.registry.account,
        "signingStatuses": [
            {
                "signingProfileArn": profile,
                "status": "FAILED",
                "failureCode": "SigningNotAvailable",
                "failureReason": "This engine keeps the signing configuration, but has no signer. Push signatures as "
                "referrers of the image instead.",
            }
            for profile in profiles
        ],
    }


def _answer(call: Call, text: str | None) -> dict[str, Any]:
    if text is None:
        raise ApiError(
            "SigningConfigurationNotFoundException",
            "The specified signing configuration was not found. This occurs when attempting to retrieve or delete a "
            "signing configuration that does not exist.",
        )
    return {"registryId": call.registry.account, "signingConfiguration": json.loads(text)}


HANDLERS: Mapping[str, Handler] = {
    "PutSigningConfiguration": put_signing_configuration,
    "GetSigningConfiguration": get_signing_configuration,
    "DeleteSigningConfiguration": delete_signing_configuration,
    "DescribeImageSigningStatus": describe_image_signing_status,
}
