"""Download URLs of GetDownloadUrlForLayer: a signature over one blob of one repository, for a short time. No I/O."""

from __future__ import annotations

import hmac
import re
from urllib.parse import parse_qs

from pullthrough.errors import AccessDenied
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName

#: AWS's are valid for an hour; a client that is slow to begin asks for another one.
LIFETIME_SECONDS = 900
_EXPIRES, _SIGNATURE = "X-Pullthrough-Expires", "X-Pullthrough-Signature"


def sign(key: bytes, repository: RepositoryName, digest: Digest, expires_at: int) -> str:
    """The query string that opens the blob's path."""
    return f"{_EXPIRES}={expires_at}&{_SIGNATURE}={_mac(key, repository, digest, expires_at)}"


def opens(key: bytes, repository: RepositoryName, digest: Digest, raw_query: str, now: float) -> bool:
    """Whether the query holds a signature for this blob; False where it holds none.

    Raises AccessDenied where it is for something else, or has ended.
    """
    if _SIGNATURE not in raw_query:
        return False
    try:
        values = parse_qs(raw_query, keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise AccessDenied("the query has too many parameters") from error
    expires, signature = values.get(_EXPIRES, [""]), values.get(_SIGNATURE, [""])
    if len(expires) != 1 or len(signature) != 1 or re.fullmatch(r"[0-9]{1,15}", expires[0], re.ASCII) is None:
        raise AccessDenied("the download URL is not whole")
    expected = _mac(key, repository, digest, int(expires[0]))
    if not hmac.compare_digest(expected.encode(), signature[0].encode(errors="replace")):
        raise AccessDenied("the download URL is not for this layer")
    if int(expires[0]) < now:
        raise AccessDenied("the download URL has expired", hint="ask for another one with GetDownloadUrlForLayer")
    return True


def _mac(key: bytes, repository: RepositoryName, digest: Digest, expires_at: int) -> str:
    return hmac.new(key, f"{repository}@{digest} {expires_at}".encode(), "sha256").hexdigest()
