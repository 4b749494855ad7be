"""Pages of tags and referrers: parsed strictly, followed by their query only, bounded in all that grows.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags and #listing-referrers
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from pullthrough.errors import DigestInvalid, TagInvalid
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.documents import parse_object
from pullthrough.oci.manifests import MAX_MEDIA_TYPE_LENGTH
from pullthrough.oci.names import parse_tag
from pullthrough.oci.texts import whole_text
from pullthrough.upstream.urls import MAX_URL_LENGTH

MAX_TAG_PAGES = 1000
MAX_TAG_BYTES = 16 * 1024 * 1024
MAX_TAGS = 100_000
#: What ECR allows at most (ListImages, 1,000); registries with a lower limit answer fewer.
TAGS_A_PAGE = 1000
MAX_REFERRER_PAGES = 16
MAX_REFERRER_PAGE_BYTES = 4 * 1024 * 1024
MAX_REFERRER_BYTES = 16 * 1024 * 1024
MAX_REFERRERS = 10_000

_LINK = re.compile(r"\s*<([^<>]*)>((?:\s*;\s*[^;,]+)*)\s*(?:,|$)")
_REL_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"next\"|next)\s*(?:;|$)", re.IGNORECASE)
_MAX_SIZE_BYTES = 1 << 50
_MAX_TAG_HEX = 64


def next_query(links: Iterable[str]) -> str:
    """The query of the next page by the Link headers (RFC 8288); empty on the last page.

    Only the query is taken: the page is at the same address as this one, whatever host and path the link names. Behind
    proxies registries often name themselves wrongly, and hostile ones on purpose.
    """
    for header in links:
        at = 0
        while match := _LINK.match(header[:MAX_URL_LENGTH], at):
            if _REL_NEXT.search(match[2]):
                try:
                    return urlsplit(match[1]).query
                except ValueError:
                    return ""
            at = match.end()
            if at >= len(header):
                break
    return ""


def parse_tags(body: bytes) -> list[str]:
    """The valid tags of one page; `null` is none. Raises ValueError with a sentence."""
    tags = parse_object(body).get("tags")
    if tags is None:
        return []
    if not isinstance(tags, list):
        raise ValueError("`tags` is no list")
    return [tag for tag in tags if isinstance(tag, str) and _is_tag(tag)]


def parse_referrers(body: bytes) -> list[dict[str, Any]]:
    """The valid descriptors of an index, with the members a client needs and no others. Raises ValueError."""
    entries = parse_object(body).get("manifests")
    if entries is None:
        return []
    if not isinstance(entries, list):
        raise ValueError("`manifests` is no list")
    return [descriptor for entry in entries if (descriptor := _descriptor(entry)) is not None]


def fallback_tag(digest: Digest) -> str:
    """Where registries without the referrers API keep the list (specification, "Referrers Tag Schema")."""
    return f"{digest.algorithm}-{digest.hex[:_MAX_TAG_HEX]}"


def _is_tag(text: str) -> bool:
    try:
        parse_tag(text)
    except TagInvalid:
        return False
    return True


def _descriptor(entry: object) -> dict[str, Any] | None:
    if not isinstance(entry, dict):
        return None
    media_type, size, digest = entry.get("mediaType"), entry.get("size"), entry.get("digest")
    if not isinstance(digest, str) or not isinstance(media_type, str):
        return None
    if len(media_type) > MAX_MEDIA_TYPE_LENGTH or not media_type.isprintable():
        return None
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_SIZE_BYTES:
        return None
    try:
        parse_digest(digest)
    except DigestInvalid:
        return None
    descriptor: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    artifact_type, annotations = entry.get("artifactType"), entry.get("annotations")
    if isinstance(artifact_type, str) and len(artifact_type) <= MAX_MEDIA_TYPE_LENGTH:
        descriptor["artifactType"] = whole_text(artifact_type)
    if isinstance(annotations, dict):
        descriptor["annotations"] = {
            whole_text(key): whole_text(value)
            for key, value in annotations.items()
            if isinstance(key, str) and isinstance(value, str)
        }
    return descriptor
