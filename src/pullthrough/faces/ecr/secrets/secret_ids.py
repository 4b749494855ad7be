"""What every operation with a `SecretId` begins with: which secret it is about, and whether its caller may do this to it.

The face leaves this to the handlers: the secret's own policy has a say, and policy and ARN are known only once the secret
is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.errors import AccessDenied, PullthroughError, SecretNotUsable, SecretUnknown
from pullthrough.faces.ecr.calls import Call
from pullthrough.faces.ecr.resources import secret_arn
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.storage.secrets.secret_rows import MAX_TAGS, SecretRecord
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class KnownSecrets:
    run: Runner
    secrets: Secrets
    rights: Rights

    async def find(self, call: Call, operation: str, secret_id: str) -> SecretRecord:
        """The secret that the operation is about. Raises SecretUnknown, and AccessDenied.

        Whether a secret exists is told only to those who might use it.
        """
        try:
            record = await self.run(self.secrets.find, secret_id)
        except SecretUnknown:
            self.rights.check_secret(call, operation, secret_arn(secret_id, call.registry))
            raise
        self.rights.check_secret(call, operation, record.arn, policy=record.policy, tags=record.tags.items())
        return record


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
