"""Lists of tags and referrers: parsed strictly, followed by their query only, bounded in all that grows.

A list comes in pages, and it is had as a whole or not at all.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags and #listing-referrers
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode, urlsplit

from pullthrough.declaration import Credential
from pullthrough.errors import DigestInvalid, TagInvalid, UpstreamInvalid
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.documents import parse_object
from pullthrough.oci.manifests import MAX_MEDIA_TYPE_LENGTH
from pullthrough.oci.names import parse_tag
from pullthrough.oci.texts import whole_text
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.http.urls import MAX_URL_LENGTH
from pullthrough.upstream.login.answers import read_document
from pullthrough.upstream.login.exchanges import RegistryCall


@dataclass(frozen=True, slots=True)
class ListBounds:
    """Of one list. `noun` is what it is a list of."""

    noun: str
    entries: int
    total_bytes: int
    pages: int
    page_bytes: int


TAGS = ListBounds(noun="tags", entries=100_000, total_bytes=16 * 1024 * 1024, pages=1000, page_bytes=16 * 1024 * 1024)
REFERRERS = ListBounds(
    noun="entries", entries=10_000, total_bytes=16 * 1024 * 1024, pages=16, page_bytes=4 * 1024 * 1024
)
#: What ECR allows at most (ListImages, 1,000); registries with a lower limit answer fewer.
TAGS_A_PAGE = 1000

_LINK = re.compile(r"\s*<([^<>]*)>((?:\s*;\s*[^;,]+)*)\s*(?:,|$)")
_REL_NEXT = re.compile(r";\s*rel\s*=\s*(?:\"next\"|next)\s*(?:;|$)", re.IGNORECASE)
_MAX_SIZE_BYTES = 1 << 50
_MAX_TAG_HEX = 64
#: What registries without the referrers API answer for it.
_NO_REFERRERS = frozenset({400, 404, 405, 406, 501})


class PagedList(ABC):
    """One list, and what has come of it so far. `read_all` asks for it."""

    def __init__(
        self,
        bounds: ListBounds,
        path: str,
        repository: str,
        what: str,
        credential: Credential | None,
        *,
        query: str = "",
        headers: Mapping[str, str] = MappingProxyType({}),
        accepted: frozenset[int] = frozenset(),
    ) -> None:
        self._bounds = bounds
        self._query = query
        self._call = RegistryCall("GET", path, repository, what, credential, self._read, headers, accepted)
        self._taken_bytes = 0

    async def read_all(self, ask: Callable[[RegistryCall[str | None]], Awaitable[str | None]], upstream: str) -> bool:
        """Ask for page after page. False where the first answer is a status that the call accepts, or no JSON while there
        is such a status: the upstream does not know this kind of list."""
        query = self._query
        seen = {query}
        for _ in range(self._bounds.pages):
            following = await ask(self._page(query))
            if following is None:
                return False
            if not following:
                return True
            if following in seen:
                raise self._unusable(upstream, "its pages go round in a circle")
            query = following
            seen.add(query)
        raise self._unusable(upstream, f"it has more than {self._bounds.pages:,} pages")

    def take(self, body: bytes, upstream: str) -> None:
        """One page. Raises UpstreamInvalid where it cannot be used, or the list is longer than it may be."""
        self._taken_bytes += len(body)
        most, most_bytes = self._bounds.entries, self._bounds.total_bytes
        try:
            if self._add(body) > most or self._taken_bytes > most_bytes:
                raise ValueError(f"it is longer than {most:,} {self._bounds.noun} or {most_bytes:,} bytes")
        except ValueError as error:
            raise self._unusable(upstream, str(error)) from error

    @abstractmethod
    def _add(self, body: bytes) -> int:
        """How many entries there are now. Raises ValueError with a sentence."""

    def _page(self, query: str) -> RegistryCall[str | None]:
        return replace(self._call, path=f"{self._call.path}?{query}") if query else self._call

    def _read(self, response: Response) -> str | None:
        """The query of the next page, which is empty after the last one. The page is taken in the thread that reads it."""
        if response.status in self._call.accepted:
            response.discard()
            return None
        if self._call.accepted and "json" not in response.media_type:
            response.close()
            return None
        following = next_query(response.headers_of("Link"))
        self.take(read_document(response, self._bounds.page_bytes, self._call.what), response.upstream)
        return following

    def _unusable(self, upstream: str, why: str) -> UpstreamInvalid:
        return UpstreamInvalid(
            f"{upstream} sent a list for {self._call.what} that cannot be used: {why}", upstream=upstream
        )


class TagList(PagedList):
    def __init__(self, repository: str, credential: Credential | None) -> None:
        path, query = f"/v2/{repository}/tags/list", urlencode({"n": TAGS_A_PAGE})
        super().__init__(TAGS, path, repository, f"{repository}'s tags", credential, query=query)
        #: Each once, in the upstream's order.
        self.tags: dict[str, None] = {}

    def _add(self, body: bytes) -> int:
        self.tags.update(dict.fromkeys(parse_tags(body)))
        return len(self.tags)


class ReferrerList(PagedList):
    def __init__(self, repository: str, digest: Digest, credential: Credential | None) -> None:
        super().__init__(
            REFERRERS,
            f"/v2/{repository}/referrers/{digest}",
            repository,
            f"the referrers of {repository} {digest}",
            credential,
            headers={"Accept": media_types.OCI_INDEX},
            accepted=_NO_REFERRERS,
        )
        self.descriptors: list[dict[str, Any]] = []

    def _add(self, body: bytes) -> int:
        self.descriptors.extend(parse_referrers(body))
        return len(self.descriptors)


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
