"""Images: described, listed, deleted, archived. Pulling one by BatchGetImage, and pushing one, is in `image_manifests`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.engine.tell.events import Events
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_ids import (
    as_output,
    failure,
    image_not_found,
    known_repository,
    read_image_id,
    read_image_ids,
)
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.parameters import invalid
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.oci.names import RepositoryName
from pullthrough.oci.owners import Owner
from pullthrough.storage.catalog.records import Failure, ImageDetail, ImageId
from pullthrough.storage.registry.images import Deletion, Filter, Images
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class ImageHandlers:
    run: Runner
    names: RepositoryNames
    images: Images
    events: Events

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "BatchDeleteImage": self.batch_delete_image,
            "DescribeImages": self.describe_images,
            "ListImages": self.list_images,
            "UpdateImageStorageClass": self.update_image_storage_class,
        }

    async def describe_images(self, call: Call, input: Input) -> Output:
        """Those that are named, which must all be there, or all of them in pages; by digest."""
        name, owner = self.names.shown(call, "DescribeImages", input)
        wanted = _filter(input)
        token = None
        with known_repository(call.registry, name):
            if "imageIds" in input:
                refuse_paging(input)
                wanted = _filter(input, default_status="ANY")
                details = await self._named(call, name, owner, input["imageIds"])
                details = [detail for detail in details if wanted is not None and _fits(detail, wanted)]
            elif wanted is None:
                await self.run(self.images.find, name, [])
                details = []
            else:
                page = page_request("DescribeImages", input)
                after = str(page.after[0]) if page.after else ""
                found = await self.run(self.images.page, name, wanted, after=after, limit=page.size + 1, owner=owner)
                part, token = page.cut(found, lambda detail: (detail.digest,))
                details = list(part)
        return {"imageDetails": [_detail(call, name, detail) for detail in details], "nextToken": token}

    async def list_images(self, call: Call, input: Input) -> Output:
        """Once for each tag, and once for an image without; by digest and tag."""
        name, owner = self.names.shown(call, "ListImages", input)
        wanted = _filter(input)
        page = page_request("ListImages", input, (str, str))
        digest, tag = page.after or ("", "")
        with known_repository(call.registry, name):
            if wanted is None:
                await self.run(self.images.find, name, [])
                return {"imageIds": []}
            found = await self.run(
                self.images.names_page,
                name,
                wanted,
                after=(str(digest), str(tag)),
                limit=page.size + 1,
                owner=owner,
            )
        part, token = page.cut(found, lambda entry: (entry[0], entry[1] or ""))
        return {"imageIds": [{"imageDigest": digest, "imageTag": tag} for digest, tag in part], "nextToken": token}

    async def batch_delete_image(self, call: Call, input: Input) -> Output:
        name, owner = self.names.shown(call, "BatchDeleteImage", input)
        ids, failures = read_image_ids(input["imageIds"])
        with known_repository(call.registry, name):
            deletions = await self.run(self.images.delete, name, ids, now=call.now, owner=owner)
        for deletion in deletions:
            if deletion.failure is not None:
                failures.append(_refused(deletion))
            for removed in deletion.removed:
                image = deletion.image
                assert image is not None
                self.events.image(
                    "DELETE",
                    name,
                    image.digest,
                    tag=removed.tag,
                    media_type=image.media_type,
                    artifact_type=image.artifact_type,
                )
        removed_ids = [as_output(removed) for deletion in deletions for removed in deletion.removed]
        return {"imageIds": removed_ids, "failures": failures}

    async def update_image_storage_class(self, call: Call, input: Input) -> Output:
        """To the archive, which pulls answer with "not found", and back; both at once."""
        name, owner = self.names.shown(call, "UpdateImageStorageClass", input)
        wanted = read_image_id(input["imageId"])
        images = self.images
        change = images.archive if input["targetStorageClass"] == "ARCHIVE" else images.restore
        with known_repository(call.registry, name):
            detail = await self.run(change, name, wanted, now=call.now, owner=owner)
        if detail is Failure.REFERENCED:
            raise ApiError(
                "ImageStorageClassUpdateNotSupportedException",
                "The requested image storage class update is not supported: the image is part of a manifest list that is "
                "not archived. Archive the manifest list, and the image goes with it.",
            )
        if isinstance(detail, Failure):
            raise image_not_found(call.registry, name, input["imageId"])
        return {
            "registryId": call.registry.account,
            "repositoryName": name,
            "imageId": as_output(ImageId(detail.digest, wanted.tag)),
            "imageStatus": _status(detail),
        }

    async def _named(
        self, call: Call, name: RepositoryName, owner: Owner | None, given: list[Mapping[str, str]]
    ) -> list[ImageDetail]:
        """Each image once. Raises ApiError for one that is not there."""
        ids = [read_image_id(entry) for entry in given]
        found = await self.run(self.images.find, name, ids, owner=owner)
        details: dict[str, ImageDetail] = {}
        for entry, detail in zip(given, found, strict=True):
            if isinstance(detail, Failure):
                raise image_not_found(call.registry, name, entry)
            details[detail.digest] = detail
        return list(details.values())


def refuse_paging(input: Input) -> None:
    for member in ("nextToken", "maxResults"):
        if member in input:
            raise invalid(member, f"{member} cannot be used when you specify images with imageIds")


def _filter(input: Input, *, default_status: str = "ACTIVE") -> Filter | None:
    """None where no image can match: none is ever ACTIVATING, as images are restored at once."""
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


def _detail(call: Call, name: str, detail: ImageDetail) -> Output:
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


def _refused(deletion: Deletion) -> Output:
    reasons: Mapping[Failure | None, str] = {
        Failure.NOT_FOUND: "Requested image not found",
        Failure.MISMATCH: "The image tag does not match the image digest",
        Failure.REFERENCED: f"Requested image referenced by manifest list: [{', '.join(deletion.indexes)}]",
    }
    assert deletion.failure is not None
    return failure(as_output(deletion.wanted), deletion.failure.value, reasons[deletion.failure])
