"""Manifests by API: BatchGetImage, which pulls as registry clients do, and PutImage, which pushes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pullthrough.engine.configuration import Configuration
from pullthrough.engine.own_repositories import NOT_FOUND
from pullthrough.engine.pull.manifests.manifests import ManifestAnswer, Manifests
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.push.manifests import ManifestPushes
from pullthrough.engine.rules import Target
from pullthrough.errors import (
    AccessDenied,
    ContentError,
    DigestInvalid,
    ImageArchived,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    RepositoryUnknown,
    TagImmutable,
    TagInvalid,
    UpstreamDenied,
    UpstreamThrottled,
    UpstreamUnavailable,
)
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import as_output, failure, read_image_ids
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.parameters import invalid, repository_not_found
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, parse_digest
from pullthrough.oci.manifests import Descriptor, parse_manifest
from pullthrough.oci.names import Reference, Tag, parse_tag
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ImageDetail, ImageId
from pullthrough.storage.registry.images import Images
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner

#: Indexes may hold indexes; nobody nests them this deep.
_MAX_DEPTH = 4
#: Images that are fetched at once, and what their manifests may have together: all of the answer is in memory.
_AT_ONCE = 10
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_PREFERRED_PLATFORM = "linux/amd64"
#: How BuildKit marks the attestations in an index: https://docs.docker.com/build/metadata/attestations/attestation-storage/
_NO_PLATFORM = "unknown/unknown"


@dataclass(frozen=True, slots=True)
class ManifestHandlers:
    run: Runner
    manifest_rows: ManifestRows
    repositories: Repositories
    configuration: Configuration
    rights: Rights
    names: RepositoryNames
    images: Images
    manifests: Manifests
    pull_times: PullTimes
    pushes: ManifestPushes

    def handlers(self) -> Mapping[str, Handler]:
        return {"BatchGetImage": self.batch_get_image, "PutImage": self.put_image}

    async def batch_get_image(self, call: Call, input: Input) -> Output:
        """Images that are not cached are fetched from their upstream, some at once, if a rule covers the repository."""
        target = self.names.target(call, "BatchGetImage", input)
        if target.is_own:
            await self.names.require_repository(call, target.repository)
        ids, failures = read_image_ids(input["imageIds"])
        accepts_index = not media_types.INDEXES.isdisjoint(input.get("acceptedMediaTypes", ()))
        results: list[ManifestAnswer | BaseException] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            results += await asyncio.gather(
                *(self._get(call, target, image_id, accepts_index=accepts_index) for image_id in part),
                return_exceptions=True,
            )
            if sum(len(got.manifest.body) for got in results if isinstance(got, ManifestAnswer)) > _MAX_ANSWER_BYTES:
                raise invalid(
                    "imageIds",
                    f"their manifests have more than {_MAX_ANSWER_BYTES:,} bytes together: ask for fewer at once",
                )
        images: list[Output] = []
        for image_id, result in zip(ids, results, strict=True):
            if isinstance(result, BaseException):
                failures.append(_failure(image_id, result))
            else:
                images.append(
                    {
                        "registryId": call.registry.account,
                        "repositoryName": target.repository,
                        "imageId": as_output(ImageId(result.manifest.digest, image_id.tag)),
                        "imageManifest": result.manifest.body.decode(),
                        "imageManifestMediaType": result.manifest.media_type,
                    }
                )
        return {"images": images, "failures": failures}

    async def put_image(self, call: Call, input: Input) -> Output:
        """Push a manifest whose blobs are there. The repository must exist, or a creation template for pushes cover it."""
        target = self.names.target(call, "PutImage", input)
        await self.names.require_pushable(call, target)
        name, account = target.repository, call.registry.account
        body = input["imageManifest"].encode()
        digest, tag = _read_reference(input, body)
        media_type = input.get("imageManifestMediaType", "")
        try:
            media_type = parse_manifest(body, media_type).media_type
        except ManifestInvalid as error:
            raise invalid("ImageManifest", f"Invalid image manifest provided: {error.message}") from error
        try:
            (found,) = await self.run(self.images.find, name, [ImageId(digest, tag)])
        except RepositoryUnknown:
            found = None
        if isinstance(found, ImageDetail) and found.archived_at is None:
            tagged = f" and tag '{tag}'" if tag else ""
            raise ApiError(
                "ImageAlreadyExistsException",
                f"Image with digest '{digest}'{tagged} already exists in the repository with name '{name}' in registry with "
                f"id '{account}'",
            )
        try:
            await self.pushes.put_manifest(target, tag or digest, body, media_type)
        except ManifestBlobUnknown as error:
            raise _missing_parts(error, name, account) from error
        except TagImmutable as error:
            raise ApiError(
                "ImageTagAlreadyExistsException",
                f"The image tag '{tag}' already exists in the '{name}' repository and cannot be overwritten because the tag "
                "is immutable.",
            ) from error
        return {
            "image": {
                "registryId": account,
                "repositoryName": name,
                "imageId": as_output(ImageId(digest, tag)),
                "imageManifest": input["imageManifest"],
                "imageManifestMediaType": media_type,
            }
        }

    async def _get(self, call: Call, target: Target, wanted: ImageId, *, accepts_index: bool) -> ManifestAnswer:
        """One image, pulled. Raises what the engine raises, and _Mismatch."""
        reference = wanted.tag or wanted.digest
        assert reference is not None
        answer = await self._pull(call, target, reference)
        if wanted.digest and answer.manifest.digest != wanted.digest:
            raise _Mismatch(f"the tag {wanted.tag} names {answer.manifest.digest}, and not {wanted.digest}")
        for _ in range(_MAX_DEPTH):
            if accepts_index or answer.manifest.media_type not in media_types.INDEXES:
                break
            child = _choose(parse_manifest(answer.manifest.body, answer.manifest.media_type).children)
            if child is None:
                break
            answer = await self._pull(call, target, child.digest)
        return answer

    async def _pull(self, call: Call, target: Target, reference: Reference) -> ManifestAnswer:
        await self._check_import(call, target, reference)
        answer = await self.manifests.get(target, reference)
        if call.principal.arn not in self.configuration.pull_time_exclusions:
            self.pull_times.note_manifest(answer.target.repository, answer.manifest.digest)
        return answer

    async def _check_import(self, call: Call, target: Target, reference: Reference) -> None:
        """A manifest that is not here needs two more rights: to have it fetched, and to make its repository.

        Raises AccessDenied where the first is missing. Where the second is, ApiError, as AWS says it, with the reason.
        """
        if target.is_own:
            return
        try:
            self.rights.check_repository(call, "CreateRepository", target.repository)
            self.rights.check_repository(call, "BatchImportUpstreamImage", target.repository)
            return
        except AccessDenied:
            if await self.run(self._is_cached, target, reference):
                return
        if not await self.run(self.repositories.is_there, target.repository, None):
            try:
                self.rights.check_repository(call, "CreateRepository", target.repository)
            except AccessDenied as error:
                missing = repository_not_found(call.registry, target.repository)
                raise ApiError(missing.code, f"{missing.message} ({error.message})") from error
        self.rights.check_repository(call, "BatchImportUpstreamImage", target.repository)

    def _is_cached(self, target: Target, reference: Reference) -> bool:
        try:
            return self.manifest_rows.has(target.repository, target.owner, reference)
        except ImageArchived:
            return True


def _choose(children: Iterable[Descriptor]) -> Descriptor | None:
    """The child of an index for a client that does not take indexes, chosen as ECR does."""
    images = [child for child in children if child.platform != _NO_PLATFORM]
    preferred = (child for child in images if child.platform.startswith(_PREFERRED_PLATFORM))
    return next(preferred, images[0] if images else None)


class _Mismatch(Exception):
    """The tag names another image than the digest says."""


def _failure(image_id: ImageId, error: BaseException) -> Output:
    """An entry of `failures`. Raises what makes the whole call fail."""
    code, reason = "", str(error)
    match error:
        case ImageArchived():
            code = "ImageInaccessible"
        case ManifestUnknown():
            code, reason = "ImageNotFound", error.message
            if not reason.startswith(NOT_FOUND):  # of an upstream
                reason = f"{NOT_FOUND} ({reason})"
        case AccessDenied():
            # What AWS answers to who may not have an image fetched; the reason is what it keeps to itself.
            code, reason = "ImageNotFound", f"{NOT_FOUND} (it is not cached, and: {error.message})"
        case UpstreamDenied():
            code = "UpstreamAccessDenied"
        case UpstreamThrottled():
            code = "UpstreamTooManyRequests"
        case UpstreamUnavailable():
            code = "UpstreamUnavailable"
        case _Mismatch():
            code = "ImageTagDoesNotMatchDigest"
        case ContentError():
            raise ApiError("UnableToGetUpstreamImageException", error.message) from error
        case _:
            raise error
    return failure(as_output(image_id), code, reason)


def _read_reference(input: Input, body: bytes) -> tuple[Digest, Tag | None]:
    """The manifest's digest, by the algorithm that the caller names one by, and the tag if there is one."""
    try:
        expected = parse_digest(input["imageDigest"]) if "imageDigest" in input else None
        tag = parse_tag(input["imageTag"]) if "imageTag" in input else None
    except DigestInvalid as error:
        raise invalid("imageDigest", error.message) from error
    except TagInvalid as error:
        raise invalid("imageTag", error.message) from error
    digest = digest_of(body, expected.algorithm if expected and tag is None else "sha256")
    if expected is not None and digest != expected:
        raise ApiError(
            "ImageDigestDoesNotMatchException",
            f"The specified image digest '{expected}' does not match the digest '{digest}' of the image manifest",
        )
    return digest, tag


def _missing_parts(error: ManifestBlobUnknown, name: str, account: str) -> ApiError:
    where = f"required for pushing image into repository with name '{name}' in the registry with id '{account}' do not exist"
    if error.blobs:
        return ApiError("LayersNotFoundException", f"Layers with digests '[{', '.join(error.blobs)}]' {where}")
    return ApiError(
        "ReferencedImagesNotFoundException", f"Images with digests '[{', '.join(error.manifests)}]' {where}"
    )
