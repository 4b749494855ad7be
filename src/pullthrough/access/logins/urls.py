"""Download URLs of GetDownloadUrlForLayer: an API key's signature over one blob of one repository, for a short time. No I/O.

A URL names the key that asked for it, and ends with it: nothing is stored. What the key may still do is for its policies
to say when somebody comes with the URL.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote

from pullthrough.errors import AccessDenied
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName

#: AWS's are valid for an hour; a client that is slow to begin asks for another one.
LIFETIME_SECONDS = 900
_KEY, _EXPIRES, _SIGNATURE = (f"X-Pullthrough-{name}" for name in ("Credential", "Expires", "Signature"))
_HINT = "ask for another one with GetDownloadUrlForLayer"
_PURPOSE = b"pullthrough download URL"


@dataclass(frozen=True, slots=True)
class LayerUrl:
    """What a URL claims; believe it once `check` says nothing against it."""

    #: Empty where nobody is asked for a key.
    access_key_id: str
    expires_at: int
    _signature: str = field(repr=False)

    def check(self, secret: bytes, repository: RepositoryName, digest: Digest, now: float) -> None:
        """Raises AccessDenied where this secret, which is the key's, did not sign it for this blob, or it has ended."""
        expected = _mac(secret, repository, digest, self.expires_at, self.access_key_id)
        if not hmac.compare_digest(expected.encode(), self._signature.encode(errors="replace")):
            raise not_good()
        if self.expires_at < now:
            raise AccessDenied("the download URL has expired", hint=_HINT)


def not_good() -> AccessDenied:
    """For a URL of a key that there is not any more, too."""
    return AccessDenied("the download URL is not for this layer, or has ended with its key", hint=_HINT)


def sign(access_key_id: str, secret: bytes, repository: RepositoryName, digest: Digest, expires_at: int) -> str:
    """The query string that opens the blob's path."""
    signature = _mac(secret, repository, digest, expires_at, access_key_id)
    return f"{_KEY}={quote(access_key_id, safe='')}&{_EXPIRES}={expires_at}&{_SIGNATURE}={signature}"


def read(raw_query: str) -> LayerUrl | None:
    """None where the query has no such signature. Raises AccessDenied where it is not whole."""
    if _SIGNATURE not in raw_query:
        return None
    try:
        values = parse_qs(raw_query, keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise AccessDenied("the query has too many parameters") from error
    key, expires, signature = (values.get(name, [""]) for name in (_KEY, _EXPIRES, _SIGNATURE))
    once = len(key) == len(expires) == len(signature) == 1
    if not once or re.fullmatch(r"[0-9]{1,15}", expires[0], re.ASCII) is None:
        raise AccessDenied("the download URL is not whole", hint=_HINT)
    return LayerUrl(key[0], int(expires[0]), signature[0])


def _mac(secret: bytes, repository: RepositoryName, digest: Digest, expires_at: int, access_key_id: str) -> str:
    # A key of its own, so that no other use of the secret half can be made to give a URL.
    key = hmac.digest(secret, _PURPOSE, "sha256")
    return hmac.new(key, f"{repository}@{digest} {expires_at} {access_key_id}".encode(), "sha256").hexdigest()
