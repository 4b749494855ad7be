"""Whether a VPC reaches ECR without the internet: two interface endpoints, and a gateway for the layers in S3.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pullthrough.provision.aws import Aws
from pullthrough.provision.checks.report import CheckKind, CheckRow, Trouble, failed, passed, skipped
from pullthrough.provision.model.target import DeploymentTarget

_INTERFACES = ("ecr.api", "ecr.dkr")
_GATEWAY = "s3"
_FIRST_PULL = (
    "the first pull of an image may want a way to the internet still: AWS redirects its layers to the upstream"
)


def check_endpoints(aws: Aws, target: DeploymentTarget, vpc: str) -> list[CheckRow]:
    """A row each. Raises what `Aws.call` raises."""
    if not target.is_aws:
        return [skipped(vpc, CheckKind.ENDPOINT, "there is no VPC here")]
    endpoints = aws.pages("ec2", "DescribeVpcEndpoints", "VpcEndpoints", Filters=[{"Name": "vpc-id", "Values": [vpc]}])
    rows = [_row(target, vpc, service, "Interface", _of(endpoints, target, service)) for service in _INTERFACES]
    rows.append(_row(target, vpc, _GATEWAY, "Gateway", _of(endpoints, target, _GATEWAY)))
    return rows


def _of(endpoints: Iterable[Mapping[str, Any]], target: DeploymentTarget, service: str) -> list[Mapping[str, Any]]:
    name = _service_name(target, service)
    return [endpoint for endpoint in endpoints if endpoint.get("ServiceName") == name]


def _service_name(target: DeploymentTarget, service: str) -> str:
    return f"com.amazonaws.{target.region}.{service}"


def _row(target: DeploymentTarget, vpc: str, service: str, kind: str, found: list[Mapping[str, Any]]) -> CheckRow:
    subject = f"{vpc} {service}"
    name = _service_name(target, service)
    fit = [endpoint for endpoint in found if endpoint.get("VpcEndpointType") == kind]
    make = f"aws ec2 create-vpc-endpoint --vpc-id {vpc} --service-name {name} --vpc-endpoint-type {kind}"
    if not fit:
        rest = (
            " --route-table-ids ..."
            if kind == "Gateway"
            else " --private-dns-enabled --subnet-ids ... --security-group-ids ..."
        )
        what = f"the VPC has no {kind.lower()} endpoint for {name}"
        return failed(subject, CheckKind.ENDPOINT, Trouble(what, make + rest))
    # EC2's API writes the state in small letters, its documentation with a capital.
    ready = [endpoint for endpoint in fit if str(endpoint.get("State", "")).lower() == "available"]
    if not ready:
        state = str(fit[0].get("State", "unknown"))
        trouble = Trouble(f"the endpoint for {name} is {state}, not available", "wait for it, or accept or remake it")
        return failed(subject, CheckKind.ENDPOINT, trouble)
    if kind == "Interface" and not any(endpoint.get("PrivateDnsEnabled") for endpoint in ready):
        trouble = Trouble(
            f"the endpoint for {name} has no private DNS, so that the registry's name leads past it",
            f"aws ec2 modify-vpc-endpoint --vpc-endpoint-id {ready[0].get('VpcEndpointId', '...')} --private-dns-enabled",
        )
        return failed(subject, CheckKind.ENDPOINT, trouble)
    if kind == "Gateway" and not any(endpoint.get("RouteTableIds") for endpoint in ready):
        trouble = Trouble(
            f"the gateway endpoint for {name} is in no route table",
            f"aws ec2 modify-vpc-endpoint --vpc-endpoint-id {ready[0].get('VpcEndpointId', '...')} "
            "--add-route-table-ids ...",
        )
        return failed(subject, CheckKind.ENDPOINT, trouble)
    return passed(subject, CheckKind.ENDPOINT, _FIRST_PULL if kind == "Gateway" else "")
