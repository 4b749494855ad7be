"""Questions about manifests.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from pullthrough.declaration import Credential
from pullthrough.errors import UpstreamInvalid
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, is_digest, parse_digest
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.interfaces import FetchedManifest, ManifestHead
from pullthrough.upstream.login.answers import read_document, refuse_html
from pullthrough.upstream.login.exchanges import RegistryCall

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*", re.ASCII)
_MAX_MEDIA_TYPE_LENGTH = 255
T = TypeVar("T")


def manifest(repository: str, reference: str, credential: Credential | None) -> RegistryCall[FetchedManifest]:
    """Verified: its bytes hash to the digest asked for, or to the one that the upstream names for the tag."""

    def read(response: Response) -> FetchedManifest:
        body = read_document(response, MAX_MANIFEST_BYTES, "a manifest")
        named = _named_digest(response)
        expected = parse_digest(reference) if is_digest(reference) else named
        digest = digest_of(body, expected.algorithm) if expected is not None else digest_of(body)
        if expected is not None and digest != expected:
            raise UpstreamInvalid(
                f"{response.upstream} sent a manifest for {repository} {reference} that is not the one it should be: "
                f"expected {expected}, got {digest}",
                upstream=response.upstream,
            )
        return FetchedManifest(body, _media_type(response), digest)

    return _call("GET", repository, reference, credential, read)


def manifest_head(repository: str, reference: str, credential: Credential | None) -> RegistryCall[ManifestHead]:
    """What the tag or digest names now, as far as the upstream says it."""

    def read(response: Response) -> ManifestHead:
        refuse_html(response, b"")
        return ManifestHead(_named_digest(response), _media_type(response), response.content_length)

    return _call("HEAD", repository, reference, credential, read)


def _call(
    method: str, repository: str, reference: str, credential: Credential | None, read: Callable[[Response], T]
) -> RegistryCall[T]:
    path, what = f"/v2/{repository}/manifests/{reference}", f"{repository} {reference}"
    return RegistryCall(method, path, repository, what, credential, read, {"Accept": media_types.ACCEPT})


def _named_digest(response: Response) -> Digest | None:
    """Docker-Content-Digest where it is a digest; registries may leave it out."""
    text = response.header("Docker-Content-Digest").strip()
    return parse_digest(text) if is_digest(text) else None


def _media_type(response: Response) -> str:
    text = response.media_type
    return text if len(text) <= _MAX_MEDIA_TYPE_LENGTH and _MEDIA_TYPE.fullmatch(text) else ""
