"""The pushing half of the registry face: uploads, manifests, deletions. Thin, as the other half.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#push
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from pullthrough.engine.configuration import Configuration
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.push.manifests import ManifestPushes
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import Denied, DigestInvalid, ManifestTooLarge, RepositoryUnknown, UploadInvalid
from pullthrough.faces.distribution.errors import EncodingUnsupported, MethodNotAllowed
from pullthrough.faces.distribution.exchange import RegistryExchange, common_headers
from pullthrough.faces.distribution.permissions import Permissions
from pullthrough.faces.distribution.routes import Endpoint, Route
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES
from pullthrough.oci.names import parse_repository_name
from pullthrough.oci.ranges import ByteRange

#: The specification's form, and RFC 9110's, which some clients send.
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", re.ASCII)
#: A client that sends nothing for so long has gone, though its connection stands.
_SILENCE_SECONDS = 300.0
_METHODS = {
    Endpoint.UPLOAD: "GET, HEAD, PATCH, PUT, DELETE",
    Endpoint.MANIFEST: "GET, HEAD, PUT, DELETE",
    Endpoint.BLOB: "GET, HEAD, DELETE",
}


class PushFace:
    """Answers what is not a pull."""

    def __init__(
        self,
        *,
        blobs: BlobPushes,
        manifests: ManifestPushes,
        configuration: Configuration,
        tasks: Tasks,
        permissions: Permissions,
    ) -> None:
        self._blobs = blobs
        self._manifests = manifests
        self._configuration = configuration
        self._tasks = tasks
        self._permissions = permissions

    async def handle(self, exchange: RegistryExchange, route: Route, target: Target) -> web.StreamResponse:
        method, is_begun = exchange.request.method, bool(route.upload)
        match route.kind, method:
            case Endpoint.UPLOAD, "POST" if not is_begun:
                return await self._begin(exchange, target)
            case Endpoint.UPLOAD, _ if not is_begun:
                allowed = "POST"
            case Endpoint.UPLOAD, "GET" | "HEAD":
                self._permissions.check(exchange, "UploadLayerPart", target.repository)
                size = await self._blobs.size(target, route.upload)
                return self._progress(exchange, target, route.upload, size, 204)
            case Endpoint.UPLOAD, "PATCH":
                return await self._append(exchange, target, route.upload)
            case Endpoint.UPLOAD, "PUT":
                return await self._finish(exchange, target, route.upload)
            case Endpoint.UPLOAD, "DELETE":
                self._permissions.check(exchange, "UploadLayerPart", target.repository)
                await self._blobs.cancel(target, route.upload)
                return _empty(exchange, 204)
            case Endpoint.MANIFEST, "PUT":
                return await self._put_manifest(exchange, route, target)
            case ((Endpoint.MANIFEST | Endpoint.BLOB), "DELETE"):
                return await self._delete(exchange, route, target)
            case _:
                allowed = _METHODS.get(route.kind, "GET, HEAD")
        raise MethodNotAllowed(f"{method} is not possible here, only {allowed}", allowed=allowed)

    # --- uploads -----------------------------------------------------------------------------------------------------

    async def _begin(self, exchange: RegistryExchange, target: Target) -> web.StreamResponse:
        self._permissions.check(exchange, "InitiateLayerUpload", target.repository)
        query = exchange.query
        if query.mount is not None and await self._mount(exchange, target, parse_digest(query.mount)):
            return self._created(exchange, target, parse_digest(query.mount))
        await self._check_creation(exchange, target)
        digest = None
        if query.digest is not None:
            digest = parse_digest(query.digest)
            self._permissions.check(exchange, "CompleteLayerUpload", target.repository)
        upload_id = await self._blobs.begin(target)
        if digest is None:
            return self._progress(exchange, target, upload_id, 0, 202)
        try:
            await self._blobs.finish(target, upload_id, digest, _body(exchange))
        except BaseException:
            # Nobody has been told of it, so that nobody could go on with it.
            self._tasks.spawn(self._blobs.cancel(target, upload_id), name=f"cancel the upload {upload_id}")
            raise
        return self._created(exchange, target, digest)

    async def _mount(self, exchange: RegistryExchange, target: Target, digest: Digest) -> bool:
        """Take the blob over from the repository that the client names, or from any, that it may read it in."""
        if self._configuration.account_setting("BLOB_MOUNTING") != "ENABLED":
            return False
        source = exchange.query.source
        names = [parse_repository_name(source)] if source is not None else await self._blobs.holders(digest)
        for name in names:
            try:
                holder = self._configuration.rules.resolve(name).literal
            except (Denied, RepositoryUnknown):
                continue  # nobody may pull from there either
            if self._permissions.may(exchange, "GetDownloadUrlForLayer", holder.repository):
                await self._check_creation(exchange, target)
                if await self._blobs.mount(target, digest, holder):
                    return True
        return False

    async def _check_creation(self, exchange: RegistryExchange, target: Target) -> None:
        if target.is_own:
            await self._permissions.check_creation(exchange, target)

    async def _append(self, exchange: RegistryExchange, target: Target, upload_id: str) -> web.StreamResponse:
        self._permissions.check(exchange, "UploadLayerPart", target.repository)
        part = _content_range(exchange.request)
        size = await self._blobs.append(target, upload_id, _body(exchange), part=part)
        return self._progress(exchange, target, upload_id, size, 202)

    async def _finish(self, exchange: RegistryExchange, target: Target, upload_id: str) -> web.StreamResponse:
        self._permissions.check(exchange, "CompleteLayerUpload", target.repository)
        if exchange.query.digest is None:
            raise DigestInvalid("an upload ends with ?digest=<the blob's digest>")
        digest = parse_digest(exchange.query.digest)
        part = _content_range(exchange.request)
        await self._blobs.finish(target, upload_id, digest, _body(exchange), part=part)
        return self._created(exchange, target, digest)

    def _progress(
        self, exchange: RegistryExchange, target: Target, upload_id: str, size_bytes: int, status: int
    ) -> web.StreamResponse:
        response = _empty(exchange, status)
        response.headers["Location"] = f"/v2/{target.repository}/blobs/uploads/{upload_id}"
        # Inclusive, so that it cannot say that nothing has arrived; clients know that of a new upload.
        response.headers["Range"] = f"0-{max(0, size_bytes - 1)}"
        response.headers["Docker-Upload-UUID"] = upload_id
        return response

    def _created(self, exchange: RegistryExchange, target: Target, digest: Digest) -> web.StreamResponse:
        response = _empty(exchange, 201)
        response.headers["Location"] = f"/v2/{target.repository}/blobs/{digest}"
        response.headers["Docker-Content-Digest"] = digest
        return response

    # --- manifests, deletions ----------------------------------------------------------------------------------------

    async def _put_manifest(self, exchange: RegistryExchange, route: Route, target: Target) -> web.StreamResponse:
        self._permissions.check(exchange, "PutImage", target.repository)
        await self._check_creation(exchange, target)
        assert route.reference is not None
        body = await _small_body(exchange)
        media_type = exchange.request.headers.get("Content-Type", "")
        pushed = await self._manifests.put_manifest(target, route.reference, body, media_type)
        response = _empty(exchange, 201)
        response.headers["Location"] = f"/v2/{target.repository}/manifests/{pushed.digest}"
        response.headers["Docker-Content-Digest"] = pushed.digest
        if pushed.subject is not None:
            response.headers["OCI-Subject"] = pushed.subject
        return response

    async def _delete(self, exchange: RegistryExchange, route: Route, target: Target) -> web.StreamResponse:
        self._permissions.check(exchange, "BatchDeleteImage", target.repository)
        if route.kind is Endpoint.BLOB:
            await self._blobs.delete_blob(target, route.digest)
        elif isinstance(route.reference, Digest):
            await self._manifests.delete_manifest(target, route.reference)
        else:
            assert route.reference is not None
            await self._manifests.delete_tag(target, route.reference)
        return _empty(exchange, 202)


def _empty(exchange: RegistryExchange, status: int) -> web.Response:
    headers = common_headers(exchange)
    del headers["X-Cache"]  # nothing was served
    return web.Response(status=status, headers=headers)


def _content_range(request: web.BaseRequest) -> ByteRange | None:
    """The chunk's place in the blob; None where the client leaves that to us."""
    header = request.headers.get("Content-Range")
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None or int(match[2]) < int(match[1]):
        raise UploadInvalid(f"Content-Range is not of the form <first byte>-<last byte>: {header[:80]!r}")
    part = ByteRange(int(match[1]), int(match[2]) + 1)
    length = request.content_length
    if length is not None and length != part.size_bytes:
        raise UploadInvalid(
            f"Content-Range {header[:80]!r} has {part.size_bytes:,} bytes, Content-Length says {length:,}"
        )
    return part


async def _body(exchange: RegistryExchange) -> AsyncIterator[bytes]:
    """The request's body as it comes. aiohttp stops reading while nobody takes it, so that memory stays flat.

    Raises EncodingUnsupported before the first byte; UploadInvalid where the body cannot be read to its end.
    """
    request = exchange.request
    encodings = ",".join(request.headers.getall("Content-Encoding", ()))
    if any(encoding.strip().lower() not in ("", "identity") for encoding in encodings.split(",")):
        raise EncodingUnsupported(
            f"the body has the Content-Encoding {encodings[:80]!r}",
            hint="send it as it is: a blob's digest is that of the bytes that are sent",
        )
    await exchange.invite()
    try:
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                chunk = await request.content.readany()
            if not chunk:
                return
            yield chunk
    except TimeoutError:
        raise UploadInvalid(f"nothing came for {_SILENCE_SECONDS:.0f} s; what has arrived is kept") from None
    except (ClientPayloadError, HttpProcessingError, RequestPayloadError) as error:
        raise UploadInvalid("the request's body broke off or is not encoded as its headers say") from error


async def _small_body(exchange: RegistryExchange) -> bytes:
    """A manifest's. Raises ManifestTooLarge."""
    too_large = ManifestTooLarge(f"the manifest is larger than {MAX_MANIFEST_BYTES:,} bytes")
    if (exchange.request.content_length or 0) > MAX_MANIFEST_BYTES:
        raise too_large
    body = bytearray()
    async for chunk in _body(exchange):
        body += chunk
        if len(body) > MAX_MANIFEST_BYTES:
            raise too_large
    return bytes(body)
