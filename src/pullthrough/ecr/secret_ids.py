"""Which secret an operation is about, and whether its caller may: what every operation with a `SecretId` begins with.

The face leaves this to the handlers, because a secret's own policy has a say, and its ARN is known only when it was found.
"""

from __future__ import annotations

from collections.abc import Mapping

from pullthrough.access.context import Tags
from pullthrough.ecr.calls import Call
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.resources import secret_arn
from pullthrough.errors import AccessDenied, PullthroughError, SecretNotUsable, SecretUnknown
from pullthrough.storage.secret_rows import MAX_TAGS, SecretRecord


async def find_secret(call: Call, operation: str, secret_id: str) -> SecretRecord:
    """Raises SecretUnknown, and AccessDenied: that a secret does not exist is told to those who might use it only."""
    try:
        record = await call.engine.call(call.engine.secrets.find, secret_id)
    except SecretUnknown:
        authorize(call, operation, secret_arn(secret_id, call.registry))
        raise
    authorize(call, operation, record.arn, policy=record.policy, tags=record.tags.items())
    return record


def authorize(call: Call, operation: str, arn: str, *, policy: str | None = None, tags: Tags = ()) -> None:
    """Raises AccessDenied. `policy` is the secret's own, as `tags` are."""
    call.authorize(f"secretsmanager:{operation}", arn, secret_policy=policy, resource_tags=tags)


def read_tags(given: list[Mapping[str, str]]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for tag in given:
        key = tag.get("Key")
        if not key:
            raise invalid("Each tag needs a Key.")
        if key.lower().startswith("aws:"):
            raise invalid(f"The tag key {key} can't begin with aws:, which is reserved.")
        if key in tags:
            raise invalid(f"The tag key {key} is there more than once.")
        tags[key] = tag.get("Value", "")
    if len(tags) > MAX_TAGS:
        raise invalid(f"A secret can have {MAX_TAGS} tags at most.")
    return tags


def invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterException", message)


def not_offered(operation: str, why: str) -> ApiError:
    return ApiError("InvalidRequestException", f"{operation} is not offered by this engine: {why}")


def batch_error(secret_id: str, error: PullthroughError) -> dict[str, str] | None:
    """An entry of BatchGetSecretValue's errors; None for what fails the whole batch."""
    if isinstance(error, SecretUnknown):
        code = "ResourceNotFoundException"
    elif isinstance(error, SecretNotUsable):
        code = "InvalidRequestException"
    elif isinstance(error, AccessDenied):
        code = "AccessDeniedException"
    else:
        return None
    return {"SecretId": secret_id, "ErrorCode": code, "Message": error.message}
