"""What is to be scanned. The engine keeps that, but has no scanner: there are no findings, and it says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.access.policy.globs import matches
from pullthrough.engine.configuration import SCANNING
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import KnownImages, shown
from pullthrough.faces.ecr.parameters import invalid, repository_name
from pullthrough.faces.ecr.registry.documents import RegistryDocuments
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.names import parse_repository_name
from pullthrough.storage.registry.repositories import Repositories, RepositoryRecord
from pullthrough.threads import Runner

_CONTINUOUS = "CONTINUOUS_SCAN"
_FREQUENCIES = {"BASIC": ("SCAN_ON_PUSH", "MANUAL"), "ENHANCED": ("SCAN_ON_PUSH", _CONTINUOUS)}
_NO_SCANNER = "this engine keeps the scanning configuration, but has no scanner"


@dataclass(frozen=True, slots=True)
class ScanningHandlers:
    run: Runner
    repositories: Repositories
    documents: RegistryDocuments
    known_images: KnownImages

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "GetRegistryScanningConfiguration": self.get_registry_scanning_configuration,
            "PutRegistryScanningConfiguration": self.put_registry_scanning_configuration,
            "BatchGetRepositoryScanningConfiguration": self.batch_get_repository_scanning_configuration,
            "StartImageScan": self.start_image_scan,
            "DescribeImageScanFindings": self.describe_image_scan_findings,
        }

    async def get_registry_scanning_configuration(self, call: Call, input: Input) -> Output:
        return {"registryId": call.registry.account, "scanningConfiguration": self._configuration()}

    async def put_registry_scanning_configuration(self, call: Call, input: Input) -> Output:
        configuration = {"scanType": input.get("scanType", "BASIC"), "rules": input.get("rules", [])}
        allowed = _FREQUENCIES[configuration["scanType"]]
        for rule in configuration["rules"]:
            if rule["scanFrequency"] not in allowed:
                raise invalid(
                    "scanFrequency", f"with a scanType of {configuration['scanType']} it is {' or '.join(allowed)}"
                )
        await self.documents.put(call, SCANNING, configuration)
        return {"registryScanningConfiguration": configuration}

    async def batch_get_repository_scanning_configuration(self, call: Call, input: Input) -> Output:
        names = list(dict.fromkeys(parse_repository_name(name) for name in input["repositoryNames"]))
        found = {record.name: record for record in await self.run(self.repositories.find_all, names)}
        configuration = self._configuration()
        return {
            "scanningConfigurations": [
                _of_repository(call, found[name], configuration) for name in names if name in found
            ],
            "failures": [
                {
                    "repositoryName": name,
                    "failureCode": "REPOSITORY_NOT_FOUND",
                    "failureReason": "REPOSITORY_NOT_FOUND",
                }
                for name in names
                if name not in found
            ],
        }

    async def start_image_scan(self, call: Call, input: Input) -> Output:
        await self.known_images.require(call, repository_name(input), input["imageId"])
        raise ApiError("ValidationException", f"StartImageScan is not available: {_NO_SCANNER}")

    async def describe_image_scan_findings(self, call: Call, input: Input) -> Output:
        name = repository_name(input)
        await self.known_images.require(call, name, input["imageId"])
        raise ApiError(
            "ScanNotFoundException",
            f"Image scan does not exist for the image with '{shown(input['imageId'])}' in the repository with name '{name}' "
            f"in the registry with id '{call.registry.account}' ({_NO_SCANNER})",
        )

    def _configuration(self) -> Output:
        return self.documents.read(SCANNING) or {"scanType": "BASIC", "rules": []}


def _of_repository(call: Call, record: RepositoryRecord, configuration: Output) -> Output:
    """The registry's last rule that fits decides, a continuous one before others; else the repository's own setting."""
    frequency, applied = "SCAN_ON_PUSH" if record.scan_on_push else "MANUAL", []
    for rule in sorted(configuration["rules"], key=lambda rule: bool(rule["scanFrequency"] == _CONTINUOUS)):
        for one in rule["repositoryFilters"]:
            if _fits(one["filter"], record.name):
                frequency, applied = rule["scanFrequency"], [one]
    return {
        "repositoryArn": call.registry.repository_arn(record.name),
        "repositoryName": record.name,
        "scanOnPush": frequency != "MANUAL",
        "scanFrequency": frequency,
        "appliedScanFilters": applied,
    }


def _fits(text: str, name: str) -> bool:
    """A filter without a wildcard fits every name that it is part of.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-scanning-filters.html
    """
    return matches(text, name) if "*" in text else text in name
