"""Lifecycle policies: set, read and deleted, and previews of what they would do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pullthrough.ecr.calls import Call, Handler
from pullthrough.ecr.errors import ApiError
from pullthrough.ecr.image_ids import known_repository, read_image_id
from pullthrough.ecr.images import refuse_paging
from pullthrough.ecr.paging import page_request
from pullthrough.ecr.targets import stored_content, stored_name
from pullthrough.engine.lifecycle_policy import parse_lifecycle_policy
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.lifecycles import COMPLETE, IN_PROGRESS, LifecyclePolicyRecord, Preview, PreviewResult
from pullthrough.storage.records import ImageDetail


async def put_lifecycle_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = stored_name(call, "PutLifecyclePolicy", input)
    text = input["lifecyclePolicyText"]
    parse_lifecycle_policy(text)
    with known_repository(call, name):
        await call.engine.call(call.engine.lifecycles.set_policy, name, text)
    return {"registryId": call.registry.account, "repositoryName": name, "lifecyclePolicyText": text}


async def get_lifecycle_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = stored_name(call, "GetLifecyclePolicy", input)
    with known_repository(call, name):
        record = await call.engine.call(call.engine.lifecycles.policy, name)
    return _policy(call, name, record)


async def delete_lifecycle_policy(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    name = stored_name(call, "DeleteLifecyclePolicy", input)
    with known_repository(call, name):
        record = await call.engine.call(call.engine.lifecycles.set_policy, name, None)
    return _policy(call, name, record)


async def start_lifecycle_policy_preview(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """Of the policy that is given, else of the repository's own."""
    name = stored_name(call, "StartLifecyclePolicyPreview", input)
    with known_repository(call, name):
        text = input.get("lifecyclePolicyText")
        if text is None:
            text = (await call.engine.call(call.engine.lifecycles.policy, name)).text
        if text is None:
            raise _no_policy(call, name)
        parse_lifecycle_policy(text)
        started = await call.engine.lifecycle_runs.start_preview(name, text)
    if not started:
        raise ApiError(
            "LifecyclePolicyPreviewInProgressException",
            "The previous lifecycle policy preview request has not completed. Wait and try again.",
        )
    return {
        "registryId": call.registry.account,
        "repositoryName": name,
        "lifecyclePolicyText": text,
        "status": IN_PROGRESS,
    }


async def get_lifecycle_policy_preview(call: Call, input: Mapping[str, Any]) -> dict[str, Any]:
    """The images that the policy would change, by digest."""
    name, owner = stored_content(call, "GetLifecyclePolicyPreview", input)
    page = page_request("GetLifecyclePolicyPreview", input)
    tagged = {"TAGGED": True, "UNTAGGED": False}.get(input.get("filter", {}).get("tagStatus", "ANY"))
    digests: list[str] | None = None
    with known_repository(call, name):
        if "imageIds" in input:
            refuse_paging(input)
            ids = [read_image_id(entry) for entry in input["imageIds"]]
            found = await call.engine.call(call.engine.images.find, name, ids, owner=owner)
            digests = [detail.digest for detail in found if isinstance(detail, ImageDetail)]
        preview = await call.engine.lifecycle_runs.preview(name)
        if preview is None:
            raise ApiError(
                "LifecyclePolicyPreviewNotFoundException",
                f"Lifecycle policy preview does not exist for the repository with name '{name}' in the registry with id "
                f"'{call.registry.account}'",
            )
        if owner is not None and not await call.engine.call(call.engine.catalog.has_repository, name, owner):
            digests = []  # what another one has left under the name is not shown
        results = await call.engine.call(
            call.engine.lifecycles.preview_page,
            name,
            tagged=tagged,
            after=str(page.after[0]) if page.after else "",
            limit=page.size + 1,
            digests=digests,
        )
    part, token = page.cut(results, lambda result: (result.digest,))
    return {
        "registryId": call.registry.account,
        "repositoryName": name,
        "lifecyclePolicyText": preview.policy,
        "status": preview.status,
        "previewResults": [_result(result) for result in part],
        "summary": _summary(preview) if preview.status == COMPLETE else None,
        "nextToken": token,
    }


def _policy(call: Call, name: RepositoryName, record: LifecyclePolicyRecord) -> dict[str, Any]:
    if record.text is None:
        raise _no_policy(call, name)
    return {
        "registryId": call.registry.account,
        "repositoryName": name,
        "lifecyclePolicyText": record.text,
        "lastEvaluatedAt": record.evaluated_at,
    }


def _no_policy(call: Call, name: RepositoryName) -> ApiError:
    return ApiError(
        "LifecyclePolicyNotFoundException",
        f"Lifecycle policy does not exist for the repository with name '{name}' in the registry with id "
        f"'{call.registry.account}'",
    )


def _result(result: PreviewResult) -> dict[str, Any]:
    archives = result.action == "TRANSITION"
    return {
        "imageDigest": result.digest,
        "imageTags": list(result.tags) or None,
        "imagePushedAt": result.pushed_at,
        "action": {"type": result.action, "targetStorageClass": "ARCHIVE" if archives else None},
        "appliedRulePriority": result.priority,
        "storageClass": "ARCHIVE" if result.archived else "STANDARD",
    }


def _summary(preview: Preview) -> dict[str, Any]:
    counts = [{"targetStorageClass": "ARCHIVE", "imageTotalCount": preview.transitioning}]
    return {
        "expiringImageTotalCount": preview.expiring,
        "transitioningImageTotalCounts": counts if preview.transitioning else None,
    }


HANDLERS: Mapping[str, Handler] = {
    "DeleteLifecyclePolicy": delete_lifecycle_policy,
    "GetLifecyclePolicy": get_lifecycle_policy,
    "GetLifecyclePolicyPreview": get_lifecycle_policy_preview,
    "PutLifecyclePolicy": put_lifecycle_policy,
    "StartLifecyclePolicyPreview": start_lifecycle_policy_preview,
}
