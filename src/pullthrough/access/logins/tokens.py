"""Authorization tokens: what registry clients log in with, as the user AWS. No I/O.

A token names an API key, its account and when it ends, under an HMAC with the key's secret half: nothing is stored, and
a key that is removed or renewed takes its tokens with it.

    <base64url of "key id:account:seconds since 1970">.<base64url of the HMAC-SHA256>
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass, field

#: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html
LIFETIME_SECONDS = 12 * 3600
USER = "AWS"
MAX_LENGTH = 1024
_PURPOSE = b"pullthrough authorization token"


class TokenMalformed(ValueError):
    """The text is no token of ours."""


@dataclass(frozen=True, slots=True)
class LoginToken:
    """What a token claims; believe it once `is_signed_by` says so."""

    access_key_id: str
    account: str
    expires_at: int
    _claim: bytes = field(repr=False)
    _mac: bytes = field(repr=False)

    def is_signed_by(self, secret: bytes) -> bool:
        return hmac.compare_digest(self._mac, _mac(self._claim, secret))


def make_token(access_key_id: str, account: str, expires_at: int, secret: bytes) -> str:
    claim = f"{access_key_id}:{account}:{expires_at}".encode()
    return f"{_encode(claim)}.{_encode(_mac(claim, secret))}"


def parse_token(text: str) -> LoginToken:
    """Raises TokenMalformed."""
    if len(text) > MAX_LENGTH:
        raise TokenMalformed
    claim_text, dot, mac_text = text.partition(".")
    try:
        claim, mac = _decode(claim_text), _decode(mac_text)
        access_key_id, account, expires_at = claim.decode("ascii").split(":")
    except (binascii.Error, ValueError) as error:
        raise TokenMalformed from error
    # Encoded again, so that there is one spelling only.
    if not dot or _encode(claim) != claim_text or _encode(mac) != mac_text:
        raise TokenMalformed
    if not (expires_at.isdigit() and len(expires_at) < 16):
        raise TokenMalformed
    return LoginToken(access_key_id, account, int(expires_at), claim, mac)


def _mac(claim: bytes, secret: bytes) -> bytes:
    # A key of its own, so that no other use of the secret half can be made to give a token.
    return hmac.digest(hmac.digest(secret, _PURPOSE, "sha256"), claim, "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
