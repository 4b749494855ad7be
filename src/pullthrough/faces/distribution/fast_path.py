"""A fresh manifest to a plain request, straight from the protocol: no request object, no task, no response object.

aiohttp's own path costs more than everything this cache does for a hit. So a request that is nothing but `GET` or `HEAD`
of a manifest, with no header that changes the answer, is recognised by its bytes and answered from memory. Everything
else, and everything in the least unusual, takes the ordinary path; both give the same answer (a test compares them).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache

from pullthrough.access.authorization import Authorizer
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.outcomes import Outcome, clean
from pullthrough.engine.pull.manifests.manifests import Manifests
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.errors import PullthroughError
from pullthrough.faces.access_log import Entry
from pullthrough.faces.distribution.routes import Endpoint, Query, Route, parse_path, parse_query
from pullthrough.storage.catalog.records import ManifestRecord

#: A request of a registry client has a few hundred bytes; these are kept, so larger ones are not worth it.
_MAX_REQUEST_BYTES = 2048
#: Requests that are kept, of some 2 KiB each with what they say: 10 MiB at the most.
_MAX_REQUESTS = 2048
#: Larger bodies need the ordinary path's flow control.
_MAX_BODY_BYTES = 64 * 1024
_REQUEST_LINE = re.compile(rb"(GET|HEAD) (/v2/[A-Za-z0-9._:/-]+)(?:\?([A-Za-z0-9._:/=&%-]*))? HTTP/1\.1")
_HEADER = re.compile(rb"([A-Za-z0-9-]+):[ \t]*([\x20-\x7e]*)")
#: These leave the answer as it is. Whatever is not here may change it, or how the connection goes on.
_HARMLESS = frozenset({b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"x-request-id"})


@dataclass(frozen=True, slots=True)
class PlainRequest:
    is_head: bool
    target: str
    route: Route
    query: Query
    agent: str


def parse_plain(data: bytes) -> PlainRequest | None:
    """The request, if these bytes are exactly one plain request for a manifest."""
    head, end, rest = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None or not end or rest:
        return None
    headers: dict[bytes, bytes] = {}
    for text in lines[1:]:
        header = _HEADER.fullmatch(text)
        if header is None or (name := header[1].lower()) in headers or name not in _HARMLESS:
            return None
        headers[name] = header[2]
    if b"host" not in headers:
        return None
    method, path, query = line.groups()
    try:
        route, parsed_query = parse_path(path.decode()), parse_query((query or b"").decode())
    except PullthroughError:
        return None
    if route.kind is not Endpoint.MANIFEST:
        return None
    target = path if query is None else path + b"?" + query
    return PlainRequest(
        method == b"HEAD", target.decode(), route, parsed_query, headers.get(b"user-agent", b"").strip().decode()
    )


@dataclass(slots=True)
class _Known:
    """A request that clients repeat, and the head of its last answer: it holds for a second, or until what it says changes."""

    request: PlainRequest
    says: tuple[object, ...] = ()
    head: bytes = b""


def _known(data: bytes) -> _Known | None:
    request = parse_plain(data)
    return None if request is None else _Known(request)


class FastPath:
    """Answers what can be answered at once. `record` is told of each answer, as of any other."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        manifests: Manifests,
        pull_times: PullTimes,
        authorizer: Authorizer,
        server_name: str,
        record: Callable[[Entry], None],
        clock: Callable[[], float],
    ) -> None:
        self._configuration = configuration
        self._manifests = manifests
        self._pull_times = pull_times
        self._authorizer = authorizer
        self._server_name = server_name
        self._record = record
        self._clock = clock
        #: Clients repeat their requests to the letter. Asked only where everybody may pull: else strangers would fill it.
        self._known = lru_cache(maxsize=_MAX_REQUESTS)(_known)

    def answer(self, data: bytes, client: str, mirror: str | None) -> bytes | None:
        """The whole answer to the request in `data`; None where the ordinary path has to give it."""
        if len(data) > _MAX_REQUEST_BYTES:
            return None
        started = time.perf_counter()
        if not self._configuration.is_current or not self._authorizer.open_pulls:
            return None
        known = self._known(data)
        if known is None:
            return None
        request = known.request
        assert request.route.name is not None
        assert request.route.reference is not None
        try:
            targets = self._configuration.rules.resolve(request.route.name, ns=request.query.ns, mirror=mirror)
        except PullthroughError:
            return None
        if targets.stripped is not None:
            return None
        found = self._manifests.from_memory(targets.literal, request.route.reference)
        if found is None or len(found.manifest.body) > _MAX_BODY_BYTES:
            return None
        manifest, outcome = found.manifest, found.outcome
        self._pull_times.note_manifest(found.target.repository, manifest.digest)
        now = self._clock()
        age = None if outcome.age_seconds is None else int(outcome.age_seconds)
        says = (manifest.digest, manifest.media_type, outcome.kind, outcome.rule, age, outcome.reason, int(now))
        if known.says != says:
            known.says, known.head = says, self._head(request, manifest, outcome, int(now))
        head = known.head
        sent_bytes = 0 if request.is_head else len(manifest.body)
        self._record(
            Entry(
                now,
                client,
                "HEAD" if request.is_head else "GET",
                request.target,
                200,
                sent_bytes,
                time.perf_counter() - started,
                request.route.kind.value,
                outcome.kind.value,
                outcome.rule,
                outcome.reason,
                request.agent,
            )
        )
        return head if request.is_head else head + manifest.body

    def _head(self, request: PlainRequest, manifest: ManifestRecord, outcome: Outcome, second: int) -> bytes:
        namespace = "" if request.query.ns is None else f"OCI-Namespace: {clean(request.query.ns)}\r\n"
        return (
            "HTTP/1.1 200 OK\r\n"
            "Docker-Distribution-Api-Version: registry/2.0\r\n"
            f"X-Cache: {outcome.header()}\r\n"
            f"{namespace}"
            f"Docker-Content-Digest: {manifest.digest}\r\n"
            f'ETag: "{manifest.digest}"\r\n'
            f"Content-Type: {manifest.media_type}\r\n"
            f"Content-Length: {len(manifest.body)}\r\n"
            f"Date: {formatdate(second, usegmt=True)}\r\n"
            f"Server: {self._server_name}\r\n"
            "\r\n"
        ).encode("ascii")
