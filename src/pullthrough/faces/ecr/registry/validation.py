"""Whether a pull-through cache rule works: its secret, its upstream, and the login there.

The `failure` of ValidatePullThroughCacheRule is one of these codes, a colon and a sentence:

    SECRET_NOT_FOUND            no secret has the rule's credentialArn, or it is to be deleted
    SECRET_ACCESS_DENIED        the secret cannot be decrypted, or a file's or command's token cannot be read
    SECRET_MALFORMED            the secret is not a JSON object with `username` and `accessToken`
    UPSTREAM_UNREACHABLE        no connection, no answer in time, or a 5xx
    UPSTREAM_AUTH_FAILED        the upstream refuses the login, or wants one where the rule has none
    UPSTREAM_TOO_MANY_REQUESTS  the upstream limits the rate of requests
    UPSTREAM_INVALID            what answers is no registry, or not one that can be trusted
"""

from __future__ import annotations

from dataclasses import dataclass

from pullthrough.credentials import CredentialUnreadable
from pullthrough.declaration import Rule, SecretCredential
from pullthrough.errors import (
    ConfigurationError,
    SecretNotUsable,
    SecretUnknown,
    UpstreamDenied,
    UpstreamError,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.faces.ecr.calls import Call
from pullthrough.faces.ecr.secrets.secret_ids import KnownSecrets
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.ecr_upstreams import kind_of, upstream_host
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Upstreams

#: How a secret names the key that is Secrets Manager's own, beside not naming one.
_DEFAULT_KEY = "alias/aws/secretsmanager"
#: For reaching the upstream and logging in; SDKs wait for a minute.
_LIMIT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RuleChecks:
    run: Runner
    secrets: Secrets
    known: KnownSecrets
    upstreams: Upstreams
    strict: bool

    async def check_secret(self, call: Call, arn: str, upstream_url: str) -> None:
        """Raises ApiError where there is no such secret. As on AWS, only ValidatePullThroughCacheRule looks into it.

        Strict: ApiError too where its KMS key is not Secrets Manager's own, with which AWS pulls nothing
        (https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html).

        Raises AccessDenied where AWS does not know the upstream and the caller may not read the secret: whoever owns that
        host is sent the secret, and reads it.
        """
        try:
            if kind_of(upstream_host(upstream_url)) is None:
                record = await self.known.find(call, "GetSecretValue", arn)
            else:
                record = await self.run(self.secrets.find, arn)
        except SecretUnknown:
            record = None
        if record is None or record.deleted_at is not None:
            raise ApiError(
                "SecretNotFoundException",
                "The ARN of the secret specified in the pull through cache rule was not found. Update the pull through cache "
                "rule with a valid secret ARN and try again.",
            )
        key = record.kms_key_id or _DEFAULT_KEY
        if self.strict and not key.endswith(_DEFAULT_KEY):
            raise ApiError(
                "UnableToDecryptSecretValueException",
                "The secret is accessible but is unable to be decrypted. Verify the resource permissions and try again. (Its "
                f"KMS key is {key[:300]}; AWS takes {_DEFAULT_KEY} only.)",
            )

    async def find_failure(self, rule: Rule) -> str:
        """A code and a sentence; empty where the rule works."""
        try:
            await self.upstreams.get(rule.upstream).authenticate(rule.credential, timeout=_LIMIT_SECONDS)
        except CredentialUnreadable as error:
            return f"{_secret_code(rule, error)}: {error}"
        except UpstreamDenied as error:
            return f"UPSTREAM_AUTH_FAILED: {error}"
        except UpstreamThrottled as error:
            return f"UPSTREAM_TOO_MANY_REQUESTS: {error}"
        except UpstreamUnavailable as error:
            return f"UPSTREAM_UNREACHABLE: {error}"
        except (UpstreamError, ConfigurationError) as error:
            return f"UPSTREAM_INVALID: {error}{f' ({error.hint})' if error.hint else ''}"
        return ""


def _secret_code(rule: Rule, error: CredentialUnreadable) -> str:
    if isinstance(error.__cause__, SecretUnknown | SecretNotUsable):
        return "SECRET_NOT_FOUND"
    if isinstance(rule.credential, SecretCredential) and error.__cause__ is None:
        return "SECRET_MALFORMED"
    return "SECRET_ACCESS_DENIED"
