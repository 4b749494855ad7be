"""Layers by API: whether they are there, where to download them, and their upload in parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pullthrough.access.authentication import Authenticator
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.rules import Target
from pullthrough.errors import DigestInvalid, RepositoryUnknown, UploadOutOfOrder, UploadUnknown
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import known_repository
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.parameters import invalid, repository_not_found
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.ranges import ByteRange
from pullthrough.storage.catalog.pushed import Pushed
from pullthrough.storage.registry.images import Images, LayerState
from pullthrough.threads import Runner

#: What clients are told to send at once: AWS's own number.
PART_BYTES = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LayerHandlers:
    run: Runner
    authenticator: Authenticator
    names: RepositoryNames
    images: Images
    pushed: Pushed
    pushes: BlobPushes

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "BatchCheckLayerAvailability": self.batch_check_layer_availability,
            "CompleteLayerUpload": self.complete_layer_upload,
            "GetDownloadUrlForLayer": self.get_download_url_for_layer,
            "InitiateLayerUpload": self.initiate_layer_upload,
            "UploadLayerPart": self.upload_layer_part,
        }

    async def batch_check_layer_availability(self, call: Call, input: Input) -> Output:
        """A layer that a cached image names is AVAILABLE: whoever asks for it gets it, from the upstream if need be."""
        target = self.names.target(call, "BatchCheckLayerAvailability", input)
        digests: list[Digest] = []
        failures: list[Output] = []
        for text in dict.fromkeys(input["layerDigests"]):
            try:
                digests.append(parse_digest(text))
            except DigestInvalid as error:
                code = "InvalidLayerDigest" if text else "MissingLayerDigest"
                reason = f"Invalid layer digest: {error.message}" if text else "The layer digest is empty"
                failures.append({"layerDigest": text, "failureCode": code, "failureReason": reason})
        found = await self._known_layers(call, target, digests)
        layers = [_layer(digest, found.get(digest), fills=not target.is_own) for digest in digests]
        return {"layers": layers, "failures": failures}

    async def get_download_url_for_layer(self, call: Call, input: Input) -> Output:
        """An address on this engine that needs no login for a while. It ends with the caller's key, or its right to the layer.
        A layer that is not cached is fetched when the address is asked for it."""
        target = self.names.target(call, "GetDownloadUrlForLayer", input)
        name, digest = target.repository, parse_digest(input["layerDigest"])
        with known_repository(call.registry, name):
            state = (await self.run(self.images.layers, name, target.owner, [digest])).get(digest)
        if state is None:
            raise ApiError(
                "LayersNotFoundException",
                f"The layer with digest '{digest}' does not exist in the repository with name '{name}' in the registry with "
                f"id '{call.registry.account}'",
            )
        if not state.named or state.archived:
            why = (
                "all images that it is part of are archived"
                if state.named
                else "it is not associated with an image. Unassociated image layers may be cleaned up at any time"
            )
            raise ApiError(
                "LayerInaccessibleException", f"The layer with digest '{digest}' is not available because {why}."
            )
        query = self.authenticator.sign_layer_url(call.principal, name, digest)
        return {"downloadUrl": f"{call.registry.endpoint}/v2/{name}/blobs/{digest}?{query}", "layerDigest": digest}

    async def initiate_layer_upload(self, call: Call, input: Input) -> Output:
        """The repository must exist, or a creation template for pushes cover it."""
        target = self.names.target(call, "InitiateLayerUpload", input)
        await self.names.require_pushable(call, target)
        return {"uploadId": await self.pushes.begin(target), "partSize": PART_BYTES}

    async def upload_layer_part(self, call: Call, input: Input) -> Output:
        """Each part begins where the one before ended."""
        target = self.names.target(call, "UploadLayerPart", input)
        await self.names.require_pushable(call, target)
        upload_id: str = input["uploadId"].lower()
        part: bytes = input["layerPartBlob"]
        first, last = input["partFirstByte"], input["partLastByte"]
        with _known_upload(call, target, upload_id):
            received = await self.pushes.size(target, upload_id)
            if not part or len(part) != last - first + 1:
                raise _invalid_part(
                    call, target, upload_id, received, f"it has {len(part)} bytes, and not those from {first} to {last}"
                )
            try:
                size = await self.pushes.append(target, upload_id, _once(part), part=ByteRange(first, last + 1))
            except UploadOutOfOrder as error:
                raise _invalid_part(
                    call,
                    target,
                    upload_id,
                    error.size_bytes,
                    f"it begins at byte {first}, and {error.size_bytes} bytes were received",
                ) from error
        return {
            "registryId": call.registry.account,
            "repositoryName": target.repository,
            "uploadId": upload_id,
            "lastByteReceived": size - 1,
        }

    async def complete_layer_upload(self, call: Call, input: Input) -> Output:
        target = self.names.target(call, "CompleteLayerUpload", input)
        await self.names.require_pushable(call, target)
        name, upload_id = target.repository, input["uploadId"].lower()
        digests = list(dict.fromkeys(input["layerDigests"]))
        if len(digests) > 1:
            raise invalid("layerDigests", "a layer has one digest here")
        digest = parse_digest(digests[0])
        with _known_upload(call, target, upload_id):
            if not await self.pushes.size(target, upload_id):
                raise ApiError("EmptyUploadException", f"The upload '{upload_id}' does not contain any layer parts")
            known = await self._known_layers(call, target, [digest])
            try:
                await self.pushes.finish(target, upload_id, digest, _nothing())
            except DigestInvalid as error:
                raise ApiError(
                    "InvalidLayerException", f"The layer does not have the digest that was specified: {error.message}"
                ) from error
        if digest in known and known[digest].granted:
            # Only now: that it was pushed again keeps a layer that no image names yet from being cleaned up.
            raise ApiError(
                "LayerAlreadyExistsException",
                f"Layer with digest '{digest}' already exists in the repository with name '{name}' in registry with id "
                f"'{call.registry.account}'",
            )
        return {
            "registryId": call.registry.account,
            "repositoryName": name,
            "uploadId": upload_id,
            "layerDigest": digest,
        }

    async def _known_layers(self, call: Call, target: Target, digests: Sequence[Digest]) -> Mapping[Digest, LayerState]:
        """Those that the repository knows something of. None yet, if a push would make it; any other repository must exist."""
        try:
            return await self.run(self.images.layers, target.repository, target.owner, digests)
        except RepositoryUnknown as error:
            if target.is_own and await self.run(self.pushed.may_create, target.repository):
                return {}
            raise repository_not_found(call.registry, target.repository) from error


def _layer(digest: Digest, state: LayerState | None, *, fills: bool) -> Output:
    if state is None or not (state.granted or (fills and state.named)):
        return {"layerDigest": digest, "layerAvailability": "UNAVAILABLE"}
    return {
        "layerDigest": digest,
        "layerAvailability": "ARCHIVED" if state.archived else "AVAILABLE",
        "layerSize": state.size_bytes,
        "mediaType": state.media_type or None,
    }


def _invalid_part(call: Call, target: Target, upload_id: str, received: int, why: str) -> ApiError:
    members: dict[str, str | int] = {
        "registryId": call.registry.account,
        "repositoryName": target.repository,
        "uploadId": upload_id,
    }
    if received:
        members["lastValidByteReceived"] = received - 1
    return ApiError(
        "InvalidLayerPartException",
        f"Invalid layer part upload parameters for the upload '{upload_id}': {why}",
        members=members,
    )


@contextmanager
def _known_upload(call: Call, target: Target, upload_id: str) -> Iterator[None]:
    """Says in AWS's words that there is no such upload, if the block finds none."""
    try:
        yield
    except UploadUnknown as error:
        raise ApiError(
            "UploadNotFoundException",
            f"The upload '{upload_id}' does not exist in the repository with name '{target.repository}' in the registry "
            f"with id '{call.registry.account}'",
        ) from error


async def _once(part: bytes) -> AsyncIterator[bytes]:
    yield part


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
