"""What operations ask of their parameters beyond the service's model, in the words of ECR's errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pullthrough.access.policy.documents import PolicyInvalid, PolicyKind, parse_policy
from pullthrough.faces.ecr.calls import Input, RegistryIdentity
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.names import RepositoryName, parse_repository_name
from pullthrough.storage.sql.resource_tags import MAX_RESOURCE_TAGS

_EXCLUSIONS = ("IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION")
#: https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-using-tags.html#tag-restrictions
_TAG_KEY = re.compile(r"[\w .:/=+@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
#: Two say all there is to say of a tag; more cost time in comparing.
_MAX_WILDCARDS = 2


def invalid(field: str, reason: str) -> ApiError:
    """ECR's way to say what is wrong with a parameter."""
    return ApiError(
        "InvalidParameterException", f"Invalid parameter at '{field}' failed to satisfy constraint: '{reason}'"
    )


def repository_name(input: Input) -> RepositoryName:
    """Raises NameInvalid for a name of 256 characters, which the model allows and a registry does not."""
    return parse_repository_name(input["repositoryName"])


def repository_not_found(registry: RegistryIdentity, name: str) -> ApiError:
    return ApiError(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{registry.account}'",
    )


def check_mutability(mutability: str, filters: Sequence[Mapping[str, str]]) -> None:
    """The filters come with, and only with, a mutability that has exclusions."""
    field = "imageTagMutabilityExclusionFilters"
    if mutability in _EXCLUSIONS and not filters:
        raise invalid(
            field,
            f"ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as {mutability}",
        )
    if mutability not in _EXCLUSIONS and filters:
        raise invalid(field, f"they go with an imageTagMutability of {' or '.join(_EXCLUSIONS)} only")
    for entry in filters:
        if entry["filter"].count("*") > _MAX_WILDCARDS:
            raise invalid(field, f"a filter may have no more than {_MAX_WILDCARDS} wildcards")


def read_encryption(configuration: Mapping[str, str]) -> dict[str, str]:
    """The configuration without its empty members. It is only recorded: nothing here is encrypted by it."""
    read = {name: value for name, value in configuration.items() if value}
    if "kmsKey" in read and read["encryptionType"] == "AES256":
        raise invalid("encryptionConfiguration", "kmsKey goes with an encryptionType of KMS or KMS_DSSE only")
    return read


def read_tags(tags: Iterable[Mapping[str, str]], *, code: str, too_many: str) -> dict[str, str]:
    """AWS's tags by key. `code` is for a tag that cannot be, `too_many` for more than a resource may have."""
    read: dict[str, str] = {}
    for tag in tags:
        key, value = tag["Key"], tag["Value"]
        if key in read:
            raise ApiError(
                code, f"Invalid parameter at 'tags' failed to satisfy constraint: '{key[:128]} is there twice'"
            )
        if _TAG_KEY.fullmatch(key) is None or _TAG_VALUE.fullmatch(value) is None:
            raise ApiError(
                code,
                "An invalid parameter has been specified. Tag keys can have a maximum character length of 128 "
                "characters, and tag values can have a maximum length of 256 characters. Both consist of letters, "
                "digits, spaces and _.:/=+-@",
            )
        if key.lower().startswith("aws:"):
            raise ApiError(code, "An invalid parameter has been specified. Tag keys beginning with aws: are reserved.")
        read[key] = value
    if len(read) > MAX_RESOURCE_TAGS:
        raise too_many_tags(too_many)
    return read


def too_many_tags(code: str = "TooManyTagsException") -> ApiError:
    return ApiError(
        code,
        "The list of tags on the repository is over the limit. The maximum number of tags that can be applied to a "
        f"repository is {MAX_RESOURCE_TAGS}.",
    )


def check_policy(text: str, kind: PolicyKind) -> None:
    """Raises ApiError where this is no policy that the engine could obey, and says why."""
    try:
        parse_policy(text, kind)
    except PolicyInvalid as error:
        raise invalid_policy(kind, error.message) from error


def invalid_policy(kind: PolicyKind, reason: str) -> ApiError:
    error = invalid("PolicyText", f"Invalid {kind.value} policy provided")
    # Behind AWS's own sentence, which Terraform looks for.
    return ApiError(error.code, f"{error.message} ({reason})")
