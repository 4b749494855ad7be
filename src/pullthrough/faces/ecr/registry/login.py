"""Who asks: GetCallerIdentity of STS, and GetAuthorizationToken, with which registry clients log in."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.access.authentication import Authenticator
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output


@dataclass(frozen=True, slots=True)
class LoginHandlers:
    authenticator: Authenticator

    def handlers(self) -> Mapping[str, Handler]:
        return {"GetAuthorizationToken": self.get_authorization_token}

    async def get_authorization_token(self, call: Call, input: Input) -> Output:
        """One token, whatever `registryIds` names: the face has seen that it is this registry, once or repeatedly."""
        password, expires_at = self.authenticator.issue_token(call.principal)
        token = base64.b64encode(f"AWS:{password}".encode()).decode()
        data = {"authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": call.registry.endpoint}
        return {"authorizationData": [data]}


@dataclass(frozen=True, slots=True)
class IdentityHandlers:
    def handlers(self) -> Mapping[str, Handler]:
        return {"GetCallerIdentity": self.get_caller_identity}

    async def get_caller_identity(self, call: Call, input: Input) -> Output:
        """Needs no permission, as on AWS."""
        principal = call.principal
        return {"UserId": principal.user_id, "Account": principal.account, "Arn": principal.arn}
