"""Which images are to be signed when they are pushed. The engine keeps that, but signs nothing itself.

So a status says FAILED, and why, where a rule asks for a signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.access.policy.globs import matches
from pullthrough.engine.configuration import SIGNING
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import KnownImages
from pullthrough.faces.ecr.parameters import repository_name
from pullthrough.faces.ecr.registry.documents import RegistryDocuments
from pullthrough.faces.ecr.wire.errors import ApiError


@dataclass(frozen=True, slots=True)
class SigningHandlers:
    documents: RegistryDocuments
    known_images: KnownImages

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "PutSigningConfiguration": self.put_signing_configuration,
            "GetSigningConfiguration": self.get_signing_configuration,
            "DeleteSigningConfiguration": self.delete_signing_configuration,
            "DescribeImageSigningStatus": self.describe_image_signing_status,
        }

    async def put_signing_configuration(self, call: Call, input: Input) -> Output:
        configuration = input["signingConfiguration"]
        await self.documents.put(call, SIGNING, configuration)
        return {"signingConfiguration": configuration}

    async def get_signing_configuration(self, call: Call, input: Input) -> Output:
        return _answer(call, self.documents.read(SIGNING))

    async def delete_signing_configuration(self, call: Call, input: Input) -> Output:
        return _answer(call, await self.documents.take(SIGNING))

    async def describe_image_signing_status(self, call: Call, input: Input) -> Output:
        """A status for each profile of the rules that the repository falls under."""
        name = repository_name(input)
        image = await self.known_images.require(call, name, input["imageId"])
        configuration = self.documents.read(SIGNING) or {"rules": []}
        profiles = [
            rule["signingProfileArn"]
            for rule in configuration["rules"]
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


def _answer(call: Call, configuration: Output | None) -> Output:
    if configuration is None:
        raise ApiError(
            "SigningConfigurationNotFoundException",
            "The specified signing configuration was not found. This occurs when attempting to retrieve or delete a "
            "signing configuration that does not exist.",
        )
    return {"registryId": call.registry.account, "signingConfiguration": configuration}
