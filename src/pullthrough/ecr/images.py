"""Images: described, listed, deleted, archived. Pulling one by BatchGetImage, and pushing one, is in `image_manifests`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.image_ids import (
    as_output,
    failure,
    image_not_found,
    known_repository,
    read_image_id,
    read_image_ids,
)
from pullthrough.ecr.paging import encode_token, page_request
from pullthrough.ecr.parameters import invalid
from pullthrough.ecr.targets import authorize, pull_target, require_repository, stored_content
from pullthrough.errors import UpstreamError
from pullthrough.oci import lists
from pullthrough.oci.digests import parse_digest
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.images import Deletion, Filter
from pullthrough.storage.pushed import ReferrersPage
from pullthrough.storage.records import Failure, ImageDetail, ImageId


async def describe_images(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are named, which must all be there, or all of them in pages; by digest."""
    name, owner = stored_content(call, "DescribeImages", input)
    wanted = _filter(input)
    token = None
    with known_repository(call, name):
        if "imageIds" in input:
            refuse_paging(input)
            wanted = _filter(input, default_status="ANY")
            details = await _named(call, name, owner, input["imageIds"])
            details = [detail for detail in details if wanted is not None and _fits(detail, wanted)]
        elif wanted is None:
            await call.engine.call(call.engine.images.find, name, [])
            details = []
        else:
            page = page_request("DescribeImages", input)
            after = str(page.after[0]) if page.after else ""
            found = await call.engine.call(
                call.engine.images.page, name, wanted, after=after, limit=page.size + 1, owner=owner
            )
            part, token = page.cut(found, lambda detail: (detail.digest,))
            details = list(part)
    return {"imageDetails": [_detail(call, name, detail) for detail in details], "nextToken": token}


async def list_images(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """Once for each tag, and once for an image without; by digest and tag."""
    name, owner = stored_content(call, "ListImages", input)
    wanted = _filter(input)
    page = page_request("ListImages", input, (str, str))
    digest, tag = page.after or ("", "")
    with known_repository(call, name):
        if wanted is None:
            await call.engine.call(call.engine.images.find, name, [])
            return {"imageIds": []}
        found = await call.engine.call(
            call.engine.images.names_page,
            name,
            wanted,
            after=(str(digest), str(tag)),
            limit=page.size + 1,
            owner=owner,
        )
    part, token = page.cut(found, lambda entry: (entry[0], entry[1] or ""))
    return {"imageIds": [{"imageDigest": digest, "imageTag": tag} for digest, tag in part], "nextToken": token}


async def batch_delete_image(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name, owner = stored_content(call, "BatchDeleteImage", input)
    ids, failures = read_image_ids(input["imageIds"])
    with known_repository(call, name):
        deletions = await call.engine.call(call.engine.images.delete, name, ids, now=call.clock(), owner=owner)
    for deletion in deletions:
        if deletion.failure is not None:
            failures.append(_refused(deletion))
        for removed in deletion.removed:
            image = deletion.image
            assert image is not None
            call.engine.events.image(
                "DELETE",
                name,
                image.digest,
                tag=removed.tag,
                media_type=image.media_type,
                artifact_type=image.artifact_type,
            )
    removed_ids = [as_output(removed) for deletion in deletions for removed in deletion.removed]
    return {"imageIds": removed_ids, "failures": failures}


async def update_image_storage_class(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """To the archive, which pulls answer with "not found", and back; both at once."""
    name, owner = stored_content(call, "UpdateImageStorageClass", input)
    wanted = read_image_id(input["imageId"])
    images = call.engine.images
    change = images.archive if input["targetStorageClass"] == "ARCHIVE" else images.restore
    with known_repository(call, name):
        detail = await call.engine.call(change, name, wanted, now=call.clock(), owner=owner)
    if detail is Failure.REFERENCED:
        raise ApiError(
            "ImageStorageClassUpdateNotSupportedException",
            "The requested image storage class update is not supported: the image is part of a manifest list that is "
            "not archived. Archive the manifest list, and the image goes with it.",
        )
    if isinstance(detail, Failure):
        raise image_not_found(call, name, input["imageId"])
    return {
        "registryId": call.registry.account,
        "repositoryName": name,
        "imageId": as_output(ImageId(detail.digest, wanted.tag)),
        "imageStatus": _status(detail),
    }


async def list_image_referrers(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """What has the image as its subject: of a cached repository, what its upstream says; by digest."""
    target = pull_target(call, "ListImageReferrers", input)
    # As on AWS: what refers to an image is for who may pull it.
    authorize(call, "BatchGetImage", target.repository)
    if target.is_own:
        await require_repository(call, target.repository)
    subject = parse_digest(input["subjectId"]["imageDigest"])
    page = page_request("ListImageReferrers", input, default=20)
    after = str(page.after[0]) if page.after else ""
    asked = input.get("filter", {})
    types, status = asked.get("artifactTypes") or (), asked.get("artifactStatus", "ACTIVE")
    stored = functools.partial(
        call.engine.pushed.referrers,
        target.repository,
        subject,
        types=types,
        after=after,
        most=page.size,
        owner=target.owner,
    )
    if target.is_own:
        own = await call.engine.call(stored, archived={"ACTIVE": False, "ARCHIVED": True}.get(status))
        referrers = (_referrer(each.descriptor, each.is_archived) for each in own.referrers)
        found, last = [referrer for referrer in referrers if status in ("ANY", referrer.status)], own.last
    else:
        try:
            kept = await call.engine.listings.all_referrers(target, subject)
        except UpstreamError as error:
            raise ApiError(
                "UnableToListUpstreamImageReferrersException",
                f"The referrers could not be listed at {error.upstream}: {error.message}",
            ) from error
        archived = await call.engine.call(stored, archived=True)
        found = await call.engine.call(
            _merge,
            kept.body,
            archived,
            lambda referrer: (
                referrer.digest > after
                and (not types or referrer.artifact_type in types)
                and (status == "ANY" or referrer.status == status)
            ),
        )
        last = archived.last
    part, token = page.cut(found, lambda referrer: (referrer.digest,))
    if token is None and last:
        token = encode_token(page.operation, (last,))
    return {"referrers": [referrer.to_dict() for referrer in part], "nextToken": token}


def _merge(kept: bytes, archived: ReferrersPage, is_wanted: Callable[[_Referrer], bool]) -> list[_Referrer]:
    """An upstream's list, and what of it is in the archive here; by digest, as far as both are known."""
    listed = [_referrer(entry) for entry in lists.parse_referrers(kept)]
    listed += [_referrer(each.descriptor, is_archived=True) for each in archived.referrers]
    found = {referrer.digest: referrer for referrer in listed}
    return [
        referrer
        for digest, referrer in sorted(found.items())
        if is_wanted(referrer) and (not archived.last or digest <= archived.last)
    ]


@dataclass(frozen=True, slots=True)
class _Referrer:
    """An entry of a referrers list; what upstreams write was looked at when it was kept."""

    digest: str
    media_type: str
    size_bytes: int
    artifact_type: str | None
    annotations: Mapping[str, str]
    status: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "mediaType": self.media_type,
            "size": self.size_bytes,
            "artifactType": self.artifact_type,
            "annotations": dict(self.annotations) or None,
            "artifactStatus": self.status,
        }


def _referrer(entry: Mapping[str, Any], is_archived: bool = False) -> _Referrer:
    return _Referrer(
        entry["digest"],
        entry["mediaType"],
        entry["size"],
        entry.get("artifactType") or None,
        entry.get("annotations", {}),
        "ARCHIVED" if is_archived else "ACTIVE",
    )


async def _named(
    call: Call, name: RepositoryName, owner: Owner | None, given: list[Mapping[str, str]]
) -> list[ImageDetail]:
    """Each image once. Raises ApiError for one that is not there."""
    ids = [read_image_id(entry) for entry in given]
    found = await call.engine.call(call.engine.images.find, name, ids, owner=owner)
    details: dict[str, ImageDetail] = {}
    for entry, detail in zip(given, found, strict=True):
        if isinstance(detail, Failure):
            raise image_not_found(call, name, entry)
        details[detail.digest] = detail
    return list(details.values())


def refuse_paging(input: Mapping[str, Any]) -> None:
    for member in ("nextToken", "maxResults"):
        if member in input:
            raise invalid(member, f"{member} cannot be used when you specify images with imageIds")


def _filter(input: Mapping[str, Any], *, default_status: str = "ACTIVE") -> Filter | None:
    """None where no image can be as the filter wants it: one is restored at once, and never ACTIVATING."""
    given = input.get("filter", {})
    status = given.get("imageStatus", default_status)
    if status == "ACTIVATING":
        return None
    return Filter(
        {"TAGGED": True, "UNTAGGED": False}.get(given.get("tagStatus", "ANY")),
        {"ACTIVE": False, "ARCHIVED": True}.get(status),
    )


def _fits(detail: ImageDetail, wanted: Filter) -> bool:
    return wanted.tagged in (None, bool(detail.tags)) and wanted.archived in (None, detail.archived_at is not None)


def _status(detail: ImageDetail) -> str:
    return "ACTIVE" if detail.archived_at is None else "ARCHIVED"


def _detail(call: Call, name: str, detail: ImageDetail) -> dict[str, Any]:
    return {
        "registryId": call.registry.account,
        "repositoryName": name,
        "imageDigest": detail.digest,
        # AWS leaves them out where there are none.
        "imageTags": list(detail.tags) or None,
        "imageSizeInBytes": detail.size_bytes,
        "imagePushedAt": detail.pushed_at,
        "imageManifestMediaType": detail.media_type,
        "artifactMediaType": detail.artifact_type or None,
        "lastRecordedPullTime": detail.pulled_at,
        "subjectManifestDigest": detail.subject or None,
        "imageStatus": _status(detail),
        "lastArchivedAt": detail.archived_at,
        "lastActivatedAt": detail.activated_at,
    }


def _refused(deletion: Deletion) -> dict[str, Any]:
    reasons: Mapping[Failure | None, str] = {
        Failure.NOT_FOUND: "Requested image not found",
        Failure.MISMATCH: "The image tag does not match the image digest",
        Failure.REFERENCED: f"Requested image referenced by manifest list: [{', '.join(deletion.indexes)}]",
    }
    assert deletion.failure is not None
    return failure(as_output(deletion.wanted), deletion.failure.value, reasons[deletion.failure])


HANDLERS: Mapping[str, Handler] = {
    "BatchDeleteImage": batch_delete_image,
    "DescribeImages": describe_images,
    "ListImageReferrers": list_image_referrers,
    "ListImages": list_images,
    "UpdateImageStorageClass": update_image_storage_class,
}
