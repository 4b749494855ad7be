"""Questions about blobs: whether there is one, how large it is, and its bytes as they come.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-blobs
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Self, TypeVar

from pullthrough.declaration import Credential
from pullthrough.errors import UpstreamInvalid
from pullthrough.oci.digests import Digest, digest_of
from pullthrough.upstream.http.responses import Response
from pullthrough.upstream.login.answers import refuse_html
from pullthrough.upstream.login.exchanges import RegistryCall

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.ASCII)
_TOTAL = re.compile(r"bytes (?:[0-9]{1,18}-[0-9]{1,18}|\*)/([0-9]{1,18})", re.ASCII)
#: A strong entity tag, RFC 9110 section 8.8.3; weak ones do not say that bytes are the same.
T = TypeVar("T")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"', re.ASCII)


class HttpBlobBody:
    """A `BlobBody` that reads an HTTP answer."""

    def __init__(self, response: Response, *, start: int, total_bytes: int | None) -> None:
        self._response = response
        self.status = response.status
        self.start = start
        self.total_bytes = total_bytes
        etag = response.header("ETag")
        self.etag = etag if _STRONG_ETAG.fullmatch(etag) else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def readinto(self, buffer: memoryview, /) -> int:
        return self._response.readinto(buffer)

    def close(self) -> None:
        """Keeps the connection for the next request if the body was read to its end."""
        self._response.finish()


def blob_head(repository: str, digest: Digest, credential: Credential | None) -> RegistryCall[int | None]:
    """The blob's size, None where it is not said."""

    def read(response: Response) -> int | None:
        refuse_html(response, b"")
        # Proxies that know nothing of HEAD answer it with a length of 0.
        size = response.content_length
        return size if size or digest == digest_of(b"", digest.algorithm) else None

    return replace(_call("HEAD", repository, digest, credential, read), is_often_refused=True)


def first_byte(repository: str, digest: Digest, credential: Credential | None) -> RegistryCall[int | None]:
    """The blob's size by a GET of its first byte, None where it is not said."""

    def read(response: Response) -> int | None:
        if response.status == 200:
            response.close()  # the whole of it is on its way
            return response.content_length
        response.discard()
        match = _TOTAL.fullmatch(response.header("Content-Range"))
        return int(match[1]) if match else None

    return replace(
        _call("GET", repository, digest, credential, read),
        headers={"Accept": "*/*", "Range": "bytes=0-0"},
        accepted=frozenset({416}),  # of an empty blob there is no first byte
        is_body=True,
    )


def blob(
    repository: str,
    digest: Digest,
    credential: Credential | None,
    *,
    start: int,
    stop: int | None,
    if_range: str,
) -> RegistryCall[HttpBlobBody]:
    """The bytes from `start` up to, not including, `stop`. An upstream may answer the whole blob instead."""
    headers = {"Accept": "*/*"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        if if_range:
            headers["If-Range"] = if_range
    call = _call("GET", repository, digest, credential, lambda response: _body(response, start=start, stop=stop))
    return replace(call, headers=headers, is_body=True)


def is_about_the_method(status: int | None) -> bool:
    """Whether this answer to HEAD may be another one to GET: 4xx, and 501 for a method that the server does not know."""
    return status is not None and (400 <= status < 500 or status == 501)


def _call(
    method: str, repository: str, digest: Digest, credential: Credential | None, read: Callable[[Response], T]
) -> RegistryCall[T]:
    path, what = f"/v2/{repository}/blobs/{digest}", f"{repository} {digest}"
    return RegistryCall(method, path, repository, what, credential, read)


def _body(response: Response, *, start: int, stop: int | None) -> HttpBlobBody:
    """Raises UpstreamInvalid where the answer holds other bytes than were asked for; the response is then closed."""
    if response.status == 200:
        return HttpBlobBody(response, start=0, total_bytes=response.content_length)
    try:
        return HttpBlobBody(response, start=start, total_bytes=_checked_total(response, start, stop))
    except ValueError as error:
        response.close()
        raise UpstreamInvalid(
            f"{response.url.authority} answered other bytes than it was asked for: {error}",
            upstream=response.upstream,
            status=response.status,
        ) from error


def _checked_total(response: Response, start: int, stop: int | None) -> int | None:
    if response.status != 206 or (start == 0 and stop is None):
        raise ValueError(f"status {response.status}")
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range"))
    if match is None:
        raise ValueError("Content-Range is missing or malformed")
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if first != start or last < first or (total is not None and last >= total):
        raise ValueError(f"Content-Range is {match[0]}")
    end = last + 1
    ends_with_blob = end == total if total is not None else stop is None
    if end != stop and not (ends_with_blob and (stop is None or end < stop)):
        raise ValueError(f"Content-Range is {match[0]}")
    if response.content_length not in (None, end - first):
        raise ValueError(f"Content-Range is {match[0]}, but Content-Length is {response.content_length}")
    return total
