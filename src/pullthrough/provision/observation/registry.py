"""The registry's policy and its scanning configuration, as they are."""

from __future__ import annotations

from pullthrough.errors import AwsRefused
from pullthrough.provision.aws import Aws
from pullthrough.provision.model.observed import Scanning


def read_registry_policy(aws: Aws) -> str:
    """To the byte; empty for none."""
    try:
        return str(aws.call("ecr", "GetRegistryPolicy")["policyText"])
    except AwsRefused as error:
        if error.code == "RegistryPolicyNotFoundException":
            return ""
        raise


def read_scanning(aws: Aws) -> Scanning:
    configuration = aws.call("ecr", "GetRegistryScanningConfiguration").get("scanningConfiguration", {})
    return Scanning(configuration.get("scanType", "BASIC"), tuple(configuration.get("rules", [])))
