"""STS: who am I."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler


async def get_caller_identity(call: Call, input: Mapping[str, Any]) -> Mapping[str, Any]:
    """Needs no permission, as on AWS."""
    principal = call.principal
    return {"UserId": principal.user_id, "Account": principal.account, "Arn": principal.arn}


HANDLERS: Mapping[str, Handler] = {"GetCallerIdentity": get_caller_identity}
