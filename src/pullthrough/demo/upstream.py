"""A small, correct OCI registry that behaves like Docker Hub, for the demo and, with faults added, for tests.

It serves pulls only; images are put in by `add`. What it does as Docker Hub does:

- `/v2/` and everything below answers 401 with a Bearer challenge until a token is shown; `/token` gives one to anybody
  for public repositories, and after a login for private ones. A token is good for its repositories and for
  `token_seconds`. Unknown repositories are 401 too, since Docker Hub does not tell them from private ones.
- A GET of a manifest counts against the rate limit and says so in `RateLimit-Limit` and `RateLimit-Remaining`; a HEAD
  says the same and does not count. Above the limit: 429 with `Retry-After` and TOOMANYREQUESTS.
- With `blob_redirect`, blobs are answered by 307 to a signed URL, which refuses an Authorization header as S3 does.

Beyond that: HEAD wherever there is GET, Range, If-Range and ETag on blobs, If-None-Match on manifests, Accept decides
whether a manifest may be sent, paged tags/list and referrers, `referrers_api=False` for registries that know only the
`sha256-<hex>` fallback tags.

`UpstreamRegistry.answer` is pure: a question in, an answer out. `handle` is the aiohttp handler around it.
"""

from __future__ import annotations

import hmac
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from pullthrough.demo.images import Blob, Image, StoredManifest
from pullthrough.demo.replies import Reply, answer_blob, failure, json_reply, text_reply
from pullthrough.demo.requests import (
    AuthorizationKind,
    ParsedRequest,
    RequestKind,
    RequestRecord,
    UpstreamLog,
    parse_request,
)
from pullthrough.demo.tokens import AuthenticationScheme, Identity, TokenService, parse_scopes
from pullthrough.errors import DigestInvalid, NameInvalid, TagInvalid
from pullthrough.oci import media_types
from pullthrough.oci.codes import ErrorCode
from pullthrough.oci.digests import Digest, digest_of, is_digest
from pullthrough.oci.names import parse_reference, parse_repository_name
from pullthrough.units import format_time

#: Docker Hub's window: https://docs.docker.com/docker-hub/usage/pulls/
RATE_LIMIT_WINDOW_SECONDS = 21_600
_RATE_LIMIT_MESSAGE = (
    "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
)


@dataclass(frozen=True, slots=True)
class UpstreamOptions:
    """How a demo upstream behaves. The defaults are Docker Hub's, without a rate limit."""

    authentication: AuthenticationScheme = AuthenticationScheme.BEARER
    service: str = "registry.docker.io"
    #: Where tokens are asked for; "" is this registry's own /token.
    realm: str = ""
    #: Names and passwords of those who may log in; they may read private repositories.
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    private: frozenset[str] = frozenset()
    token_seconds: float = 300
    #: GETs of manifests within the window; None is no limit and no header, as for paid accounts.
    rate_limit: int | None = None
    rate_limit_window_seconds: int = RATE_LIMIT_WINDOW_SECONDS
    #: What a 429 says in Retry-After; None is the rest of the window.
    retry_after_seconds: int | None = None
    blob_redirect: bool = False
    #: `http://host:port` of the CDN; "" is this registry's own address.
    cdn_url: str = ""
    referrers_api: bool = True
    #: At most so many entries in a page of tags or referrers, whatever the client asks; None is no limit.
    page_entries: int | None = None


@dataclass(slots=True)
class _Repository:
    tags: dict[str, Digest] = field(default_factory=dict)
    manifests: dict[Digest, StoredManifest] = field(default_factory=dict)
    blobs: dict[Digest, Blob] = field(default_factory=dict)


class UpstreamRegistry:
    """See the module. Images may be added and removed in any thread while it serves in another."""

    def __init__(self, options: UpstreamOptions | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.options = options or UpstreamOptions()
        self.requests = UpstreamLog()
        self.tokens = TokenService(
            authentication=self.options.authentication,
            users=self.options.users,
            expires_in_seconds=self.options.token_seconds,
            clock=clock,
        )
        #: `http://host:port` under which it is reached; set by whoever makes it listen.
        self.url = ""
        self._clock = clock
        self._lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}
        self._window_ends_at = 0.0
        self._pulls_left = self.options.rate_limit or 0

    # -- content

    def add(self, repository: str, image: Image, *tags: str) -> None:
        """Put an image, all that it names, and its tags into `repository`. Tags that exist move.

        Where there is no referrers API, an image with a subject is entered in the subject's fallback tag, as clients
        do.
        """
        with self._lock:
            content = self._repositories.setdefault(parse_repository_name(repository), _Repository())
            for manifest in image.all_manifests():
                content.manifests[manifest.digest] = manifest
            for blob in image.all_blobs():
                content.blobs[blob.digest] = blob
            for tag in tags:
                content.tags[tag] = image.digest
            if image.manifest.subject is not None and not self.options.referrers_api:
                self.add_fallback_tag(repository, image.manifest.subject)

    def add_fallback_tag(self, repository: str, subject: Digest) -> None:
        """Tag an index of all that refers to `subject` as `sha256-<hex>` (distribution specification 1.1)."""
        with self._lock:
            content = self._repositories[repository]
            body = _index_of(self._referrers(content, subject, ""))
            manifest = StoredManifest(digest_of(body), media_types.OCI_INDEX, body)
            content.manifests[manifest.digest] = manifest
            content.tags[f"{subject.algorithm}-{subject.hex}"] = manifest.digest

    def remove_tag(self, repository: str, tag: str) -> None:
        with self._lock:
            del self._repositories[repository].tags[tag]

    def remove_manifest(self, repository: str, digest: Digest) -> None:
        """Also removes the tags that point to it."""
        with self._lock:
            content = self._repositories[repository]
            del content.manifests[digest]
            content.tags = {tag: target for tag, target in content.tags.items() if target != digest}

    def remove_blob(self, repository: str, digest: Digest) -> None:
        with self._lock:
            del self._repositories[repository].blobs[digest]

    def remove_repository(self, repository: str) -> None:
        with self._lock:
            del self._repositories[repository]

    # -- rate limit

    @property
    def pulls_left(self) -> int:
        """GETs of manifests until 429. Meaningless where there is no rate limit."""
        with self._lock:
            if self._clock() >= self._window_ends_at:
                return self.options.rate_limit or 0
            return self._pulls_left

    def set_pulls_left(self, pulls: int) -> None:
        """From now on, and until the window ends, which begins now."""
        with self._lock:
            self._pulls_left = pulls
            self._window_ends_at = self._clock() + self.options.rate_limit_window_seconds

    # -- answering

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The aiohttp handler: parse, answer, record, send."""
        question = parse_request(request)
        identity = self._identify(question)
        record = RequestRecord(
            method=question.method,
            path=question.path,
            kind=question.kind,
            repository=question.repository,
            reference=question.reference,
            range=question.headers.get("Range", ""),
            authorization=identity.authorization,
            user=identity.user,
            headers={
                name.lower(): value for name, value in question.headers.items() if name.lower() != "authorization"
            },
            query=dict(question.query),
        )
        self.requests.append(record)
        try:
            return await self.respond(request, question, record)
        finally:
            self.requests.finish(record)

    async def respond(
        self, request: web.BaseRequest, question: ParsedRequest, record: RequestRecord
    ) -> web.StreamResponse:
        """Answer and send; where a subclass misbehaves."""
        return await self.send(request, self.answer(question), record)

    async def send(self, request: web.BaseRequest, answer: Reply, record: RequestRecord) -> web.StreamResponse:
        """Send an answer as it is. HEAD sends its headers only."""
        record.status = answer.status
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if answer.status != 304:
            response.content_length = answer.length_bytes
        await response.prepare(request)
        if request.method != "HEAD" and answer.status != 304:
            async for chunk in answer.chunks():
                record.bytes_sent += len(chunk)
                await response.write(chunk)
        await response.write_eof()
        return response

    def answer(self, question: ParsedRequest) -> Reply:
        """The correct answer to any question. Counts against the rate limit."""
        if question.kind is RequestKind.CDN:
            return self._answer_cdn(question)
        if question.method not in ("GET", "HEAD"):
            return failure(405, ErrorCode.UNSUPPORTED, "this registry serves pulls only")
        if question.kind is RequestKind.OTHER:
            return failure(404, ErrorCode.NAME_UNKNOWN, "no such page")
        if question.kind is RequestKind.TOKEN:
            return self._answer_token(question)
        identity = self._identify(question)
        if question.kind is RequestKind.PING:
            anonymous = identity.authorization is AuthorizationKind.NONE
            if not identity.valid or (anonymous and self.options.authentication is not AuthenticationScheme.NONE):
                return self.challenge("", identity)
            return json_reply({})
        try:
            parse_repository_name(question.repository)
        except NameInvalid as error:
            return failure(400, ErrorCode.NAME_INVALID, str(error))
        if not self._may_pull(identity, question.repository):
            return self.challenge(question.repository, identity)
        with self._lock:
            content = self._repositories.get(question.repository)
            if content is None:
                return failure(404, ErrorCode.NAME_UNKNOWN, "repository name not known to registry")
            match question.kind:
                case RequestKind.MANIFEST:
                    return self._answer_manifest(question, content)
                case RequestKind.BLOB:
                    return self._answer_blob(question, content)
                case RequestKind.TAGS:
                    return self._answer_tags(question, content)
                case _:
                    return self._answer_referrers(question, content)

    def challenge(self, repository: str, identity: Identity) -> Reply:
        """401, and how to be let in."""
        if self.options.authentication is AuthenticationScheme.BASIC:
            header = f'Basic realm="{self.options.service}"'
        else:
            header = f'Bearer realm="{self.options.realm or f"{self.url}/token"}",service="{self.options.service}"'
            if repository:
                header += f',scope="repository:{repository}:pull"'
            if identity.authorization is AuthorizationKind.BEARER:
                header += f',error="{"insufficient_scope" if identity.valid else "invalid_token"}"'
        detail = [{"Type": "repository", "Class": "", "Name": repository, "Action": "pull"}] if repository else None
        answer = failure(401, ErrorCode.UNAUTHORIZED, "authentication required", detail)
        answer.headers["WWW-Authenticate"] = header
        return answer

    def _identify(self, question: ParsedRequest) -> Identity:
        header = question.headers.get("Authorization", "")
        if question.kind is RequestKind.TOKEN:
            return self.tokens.identify_login(header)
        return self.tokens.identify(header)

    def _may_pull(self, identity: Identity, repository: str) -> bool:
        """Whether the token, or the login, covers the repository. A token was only given for what may be read."""
        if not identity.valid:
            return False
        match self.options.authentication:
            case AuthenticationScheme.NONE:
                return True
            case AuthenticationScheme.BASIC:
                return bool(identity.user)
            case _:
                return identity.repositories is not None and repository in identity.repositories

    def _answer_token(self, question: ParsedRequest) -> Reply:
        identity = self._identify(question)
        if not identity.valid:
            return json_reply({"details": "incorrect username or password"}, status=401)
        asked = parse_scopes(question.query.getall("scope", []))
        with self._lock:
            granted = [
                name
                for name in asked
                if name in self._repositories and (identity.user or name not in self.options.private)
            ]
        token = self.tokens.issue(identity.user, granted)
        return json_reply(
            {
                "token": token,
                "access_token": token,
                "expires_in": int(self.options.token_seconds),
                "issued_at": format_time(self._clock()),
            }
        )

    def _answer_manifest(self, question: ParsedRequest, content: _Repository) -> Reply:
        try:
            reference = parse_reference(question.reference)
        except (DigestInvalid, TagInvalid) as error:
            code = ErrorCode.DIGEST_INVALID if isinstance(error, DigestInvalid) else ErrorCode.MANIFEST_UNKNOWN
            return failure(400 if isinstance(error, DigestInvalid) else 404, code, str(error))
        digest = reference if isinstance(reference, Digest) else content.tags.get(reference)
        manifest = content.manifests.get(digest) if digest else None
        if manifest is None:
            return failure(404, ErrorCode.MANIFEST_UNKNOWN, "manifest unknown", {"Name": question.reference})
        if not _accepts(question.headers, manifest.media_type):
            return failure(
                404,
                ErrorCode.MANIFEST_UNKNOWN,
                f"the manifest is {manifest.media_type}, which the Accept header does not name",
            )
        limited = self._count_pull(question.method)
        if limited is None:
            answer = failure(429, ErrorCode.TOOMANYREQUESTS, _RATE_LIMIT_MESSAGE)
            answer.headers["Retry-After"] = str(self._retry_after_seconds())
            answer.headers.extend(self._rate_limit_headers(0))
            return answer
        etag = f'"{manifest.digest}"'
        headers = CIMultiDict(
            {
                "Content-Type": manifest.media_type,
                "Docker-Content-Digest": str(manifest.digest),
                "Docker-Distribution-Api-Version": "registry/2.0",
                "ETag": etag,
                **limited,
            }
        )
        if etag in question.headers.get("If-None-Match", ""):
            return Reply(304, headers)
        return Reply(200, headers, manifest.body)

    def _count_pull(self, method: str) -> dict[str, str] | None:
        """The rate limit's headers, or None above the limit."""
        if self.options.rate_limit is None:
            return {}
        if self._clock() >= self._window_ends_at:
            self.set_pulls_left(self.options.rate_limit)
        if method == "GET":
            if self._pulls_left <= 0:
                return None
            self._pulls_left -= 1
        return self._rate_limit_headers(self._pulls_left)

    def _rate_limit_headers(self, left: int) -> dict[str, str]:
        window = self.options.rate_limit_window_seconds
        return {
            "RateLimit-Limit": f"{self.options.rate_limit};w={window}",
            "RateLimit-Remaining": f"{left};w={window}",
        }

    def _retry_after_seconds(self) -> int:
        if self.options.retry_after_seconds is not None:
            return self.options.retry_after_seconds
        return max(1, math.ceil(self._window_ends_at - self._clock()))

    def _answer_blob(self, question: ParsedRequest, content: _Repository) -> Reply:
        if not is_digest(question.reference):
            return failure(400, ErrorCode.DIGEST_INVALID, "provided digest did not match uploaded content")
        blob = content.blobs.get(Digest(question.reference))
        if blob is None:
            return failure(404, ErrorCode.BLOB_UNKNOWN, "blob unknown to registry", {"Digest": question.reference})
        if self.options.blob_redirect:
            location = f"{self.options.cdn_url or self.url}/cdn/{quote(blob.digest)}?signature={_sign(blob.digest)}"
            return Reply(
                307,
                CIMultiDict({"Location": location, "Docker-Content-Digest": str(blob.digest)}),
            )
        return answer_blob(blob, question.headers)

    def _answer_cdn(self, question: ParsedRequest) -> Reply:
        if "Authorization" in question.headers:
            # As S3 does for a signed URL. A client that sends one has leaked its credential.
            return text_reply(400, "Only one auth mechanism allowed")
        if not hmac.compare_digest(question.query.get("signature", ""), _sign(question.reference)):
            return text_reply(403, "SignatureDoesNotMatch")
        blob = self._find_blob(question.reference)
        return text_reply(404, "NoSuchKey") if blob is None else answer_blob(blob, question.headers)

    def _find_blob(self, digest: str) -> Blob | None:
        with self._lock:
            for content in self._repositories.values():
                blob = content.blobs.get(Digest(digest))
                if blob is not None:
                    return blob
        return None

    def _answer_tags(self, question: ParsedRequest, content: _Repository) -> Reply:
        if question.reference != "list":
            return failure(404, ErrorCode.NAME_UNKNOWN, "no such page")
        asked = question.query.get("n", str(len(content.tags)))
        if not asked.isdecimal():
            return failure(400, ErrorCode.UNSUPPORTED, "n must be a number")
        last = question.query.get("last", "")
        tags = sorted(tag for tag in content.tags if tag > last)
        entries = int(asked) if self.options.page_entries is None else min(int(asked), self.options.page_entries)
        page = tags[:entries]
        answer = json_reply({"name": question.repository, "tags": page})
        if page and len(page) < len(tags):
            answer.headers["Link"] = (
                f'</v2/{question.repository}/tags/list?last={quote(page[-1])}&n={len(page)}>; rel="next"'
            )
        return answer

    def _answer_referrers(self, question: ParsedRequest, content: _Repository) -> Reply:
        if not self.options.referrers_api:
            return text_reply(404, "404 page not found")
        if not is_digest(question.reference):
            return failure(400, ErrorCode.DIGEST_INVALID, "the referrers of what?")
        wanted = question.query.get("artifactType", "")
        descriptors = self._referrers(content, Digest(question.reference), wanted)
        first = question.query.get("from", "0")
        start = int(first) if first.isdecimal() else 0
        stop = len(descriptors) if self.options.page_entries is None else start + self.options.page_entries
        answer = Reply(200, CIMultiDict({"Content-Type": media_types.OCI_INDEX}), _index_of(descriptors[start:stop]))
        if wanted:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        if stop < len(descriptors):
            query = f"from={stop}" + (f"&artifactType={quote(wanted, safe='')}" if wanted else "")
            answer.headers["Link"] = f'<{question.path}?{query}>; rel="next"'
        return answer

    @staticmethod
    def _referrers(content: _Repository, subject: Digest, artifact_type: str) -> list[dict[str, object]]:
        return [
            manifest.descriptor()
            | ({"artifactType": manifest.artifact_type} if manifest.artifact_type else {})
            | ({"annotations": dict(manifest.annotations)} if manifest.annotations else {})
            for manifest in content.manifests.values()
            if manifest.subject == subject and artifact_type in ("", manifest.artifact_type)
        ]


def _index_of(descriptors: list[dict[str, object]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": descriptors}).encode()


def _accepts(headers: MultiMapping[str], media_type: str) -> bool:
    """No Accept header accepts everything (RFC 9110, section 12.5.1)."""
    accepted = [
        entry.partition(";")[0].strip().lower() for value in headers.getall("Accept", []) for entry in value.split(",")
    ]
    return not accepted or "*/*" in accepted or media_type in accepted


def _sign(digest: str) -> str:
    """Not a secret: it only makes the URL one that must not be logged or guessed by a rule."""
    return hmac.digest(b"demo upstream", digest.encode(), "sha256").hex()
