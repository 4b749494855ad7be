"""GetAuthorizationToken: what registry clients log in with."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler


async def get_authorization_token(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """One token, whatever `registryIds` names: the face has seen that it is this registry, once or repeatedly."""
    password, expires_at = call.access.issue_token(call.principal)
    token = base64.b64encode(f"AWS:{password}".encode()).decode()
    data = {"authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": call.registry.endpoint}
    return {"authorizationData": [data]}


HANDLERS: Mapping[str, Handler] = {"GetAuthorizationToken": get_authorization_token}
