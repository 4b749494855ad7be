"""What was asked of a demo upstream: one record a request, and questions about them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypedDict, Unpack
from urllib.parse import unquote

from aiohttp import web
from multidict import MultiDict, MultiMapping


class RequestKind(StrEnum):
    """What a request is about."""

    PING = "ping"
    MANIFEST = "manifest"
    BLOB = "blob"
    TAGS = "tags"
    REFERRERS = "referrers"
    TOKEN = "token"
    #: The second half of a redirected blob.
    CDN = "cdn"
    OTHER = "other"


_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)")
_KINDS = {
    "manifests": RequestKind.MANIFEST,
    "blobs": RequestKind.BLOB,
    "tags": RequestKind.TAGS,
    "referrers": RequestKind.REFERRERS,
}


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request, parsed as far as the registry needs it."""

    method: str
    path: str
    kind: RequestKind
    repository: str
    reference: str
    query: MultiMapping[str]
    headers: MultiMapping[str]


def parse_request(request: web.BaseRequest) -> ParsedRequest:
    """The request's kind and what it names, from its path."""
    path = request.rel_url.raw_path
    kind, repository, reference = RequestKind.OTHER, "", ""
    if path.rstrip("/") == "/v2":
        kind = RequestKind.PING
    elif path == "/token":
        kind = RequestKind.TOKEN
    elif path.startswith("/cdn/"):
        kind, reference = RequestKind.CDN, unquote(path.removeprefix("/cdn/"))
    elif match := _PATH.fullmatch(path):
        kind, repository, reference = _KINDS[match["what"]], match["name"], unquote(match["reference"])
    return ParsedRequest(
        request.method, path, kind, repository, reference, MultiDict(request.rel_url.query), request.headers
    )


class AuthorizationKind(StrEnum):
    """What the Authorization header held. The credential itself is never recorded."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    OTHER = "other"


@dataclass(slots=True)
class RequestRecord:
    """One request. `status`, `bytes_sent` and `finished` change while it is answered.

    `bytes_sent` counts body bytes when they are handed to the socket, so that a client that has a whole body finds all
    of it counted. `status` is 0 until there is one, and stays 0 where the connection ended before the status line.
    """

    method: str
    path: str
    kind: RequestKind
    repository: str = ""
    reference: str = ""
    #: The Range header as it came, "" where there was none.
    range: str = ""
    authorization: AuthorizationKind = AuthorizationKind.NONE
    #: Whose credential or token it was; "" is anonymous.
    user: str = ""
    #: All headers but Authorization, with lower-case names.
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    status: int = 0
    bytes_sent: int = 0
    finished: bool = False


class Wanted(TypedDict, total=False):
    """Which records are asked for; what is not given is any."""

    kind: RequestKind | str
    method: str
    repository: str
    reference: str
    status: int


class UpstreamLog:
    """All records, oldest first. Safe to read in any thread while requests are answered in another."""

    def __init__(self) -> None:
        self._lock = threading.Condition(threading.RLock())
        self._records: list[RequestRecord] = []

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[RequestRecord]:
        """Over those that are there now."""
        with self._lock:
            return iter(list(self._records))

    def __getitem__(self, index: int) -> RequestRecord:
        return self._records[index]

    def append(self, record: RequestRecord) -> None:
        with self._lock:
            self._records.append(record)
            self._lock.notify_all()

    def finish(self, record: RequestRecord) -> None:
        with self._lock:
            record.finished = True
            self._lock.notify_all()

    def clear(self) -> None:
        """Forget all. A request under way goes on filling a record that is no longer here."""
        with self._lock:
            self._records.clear()

    def select(self, **wanted: Unpack[Wanted]) -> list[RequestRecord]:
        """The records that agree with everything given."""
        return [record for record in self if all(getattr(record, name) == value for name, value in wanted.items())]

    def count(self, **wanted: Unpack[Wanted]) -> int:
        """How many records `select` would give."""
        return len(self.select(**wanted))

    @property
    def bytes_sent(self) -> int:
        """Body bytes of all requests together."""
        return sum(record.bytes_sent for record in self)

    def wait_for(self, condition: Callable[[UpstreamLog], bool], timeout_seconds: float = 10) -> None:
        """Block until `condition` holds; asked again whenever a request begins or ends. Raises TimeoutError."""
        with self._lock:
            if not self._lock.wait_for(lambda: condition(self), timeout_seconds):
                raise TimeoutError(f"not within {timeout_seconds} s; requests so far: {self._records!r}")
