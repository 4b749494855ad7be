"""Where the module works: an account and region of AWS, or an engine that speaks its API."""

from __future__ import annotations

from dataclasses import dataclass

#: AWS offers no pull-through caches there: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
_WITHOUT_CACHES = {"us-gov-": "AWS GovCloud (US)", "cn-": "the China regions"}
#: By the beginning of a region's name: https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html
_PARTITIONS = {
    "cn-": "aws-cn",
    "us-gov-": "aws-us-gov",
    "eusc-": "aws-eusc",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
}
_SUFFIXES = {
    "aws": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-us-gov": "amazonaws.com",
    "aws-eusc": "amazonaws.eu",
}


@dataclass(frozen=True, slots=True)
class DeploymentTarget:
    """One registry: an account in a region, behind AWS's own endpoints or one that was named."""

    account: str
    region: str
    #: The endpoint that was named; empty for AWS's own.
    endpoint: str = ""
    #: Whether an engine of ours answers there.
    is_engine: bool = False
    #: Whether there is IAM: not at an engine.
    has_iam: bool = True
    #: As whom it is asked, for people.
    caller: str = ""

    @property
    def partition(self) -> str:
        return partition_of(self.region)

    @property
    def is_aws(self) -> bool:
        return not self.endpoint

    @property
    def registry_host(self) -> str:
        """AWS's own name of the registry; an engine says its own with each authorization token."""
        return f"{self.account}.dkr.ecr.{self.region}.{_SUFFIXES.get(self.partition, 'amazonaws.com')}"

    def as_json(self) -> dict[str, str | bool]:
        return {
            "account": self.account,
            "region": self.region,
            "endpoint": self.endpoint,
            "engine": self.is_engine,
        }

    def __str__(self) -> str:
        where = f" at {self.endpoint}" if self.endpoint else ""
        return f"account {self.account}, region {self.region}{where}{' (an engine)' if self.is_engine else ''}"


def partition_of(region: str) -> str:
    return next((partition for start, partition in _PARTITIONS.items() if region.startswith(start)), "aws")


def region_without_caches(region: str) -> str:
    """The name of the partition in which AWS offers no pull-through caches; empty for a region that may have them."""
    return next((name for start, name in _WITHOUT_CACHES.items() if region.startswith(start)), "")
