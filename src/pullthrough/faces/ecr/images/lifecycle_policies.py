"""Lifecycle policies: set, read and deleted, and previews of what they would do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pullthrough.engine.keep.lifecycle_policy import parse_lifecycle_policy
from pullthrough.engine.keep.lifecycle_runs import LifecycleRuns
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.image_handlers import refuse_paging
from pullthrough.faces.ecr.images.image_ids import known_repository, read_image_id
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import page_request
from pullthrough.oci.names import RepositoryName
from pullthrough.storage.catalog.records import ImageDetail
from pullthrough.storage.registry.images import Images
from pullthrough.storage.registry.lifecycles import (
    COMPLETE,
    IN_PROGRESS,
    LifecyclePolicyRecord,
    Lifecycles,
    Preview,
    PreviewResult,
)
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class LifecycleHandlers:
    run: Runner
    repositories: Repositories
    names: RepositoryNames
    images: Images
    lifecycles: Lifecycles
    lifecycle_runs: LifecycleRuns

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "GetLifecyclePolicyPreview": self.get_lifecycle_policy_preview,
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "StartLifecyclePolicyPreview": self.start_lifecycle_policy_preview,
        }

    async def put_lifecycle_policy(self, call: Call, input: Input) -> Output:
        name = self.names.stored(call, "PutLifecyclePolicy", input)
        text = input["lifecyclePolicyText"]
        parse_lifecycle_policy(text)
        with known_repository(call.registry, name):
            await self.run(self.lifecycles.set_policy, name, text)
        return {"registryId": call.registry.account, "repositoryName": name, "lifecyclePolicyText": text}

    async def get_lifecycle_policy(self, call: Call, input: Input) -> Output:
        name = self.names.stored(call, "GetLifecyclePolicy", input)
        with known_repository(call.registry, name):
            record = await self.run(self.lifecycles.policy, name)
        return _policy(call, name, record)

    async def delete_lifecycle_policy(self, call: Call, input: Input) -> Output:
        name = self.names.stored(call, "DeleteLifecyclePolicy", input)
        with known_repository(call.registry, name):
            record = await self.run(self.lifecycles.set_policy, name, None)
        return _policy(call, name, record)

    async def start_lifecycle_policy_preview(self, call: Call, input: Input) -> Output:
        """Of the policy that is given, else of the repository's own."""
        name = self.names.stored(call, "StartLifecyclePolicyPreview", input)
        with known_repository(call.registry, name):
            text = input.get("lifecyclePolicyText")
            if text is None:
                text = (await self.run(self.lifecycles.policy, name)).text
            if text is None:
                raise _no_policy(call, name)
            parse_lifecycle_policy(text)
            started = await self.lifecycle_runs.start_preview(name, text)
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

    async def get_lifecycle_policy_preview(self, call: Call, input: Input) -> Output:
        """The images that the policy would change, by digest."""
        name, owner = self.names.shown(call, "GetLifecyclePolicyPreview", input)
        page = page_request("GetLifecyclePolicyPreview", input)
        tagged = {"TAGGED": True, "UNTAGGED": False}.get(input.get("filter", {}).get("tagStatus", "ANY"))
        digests: list[str] | None = None
        with known_repository(call.registry, name):
            if "imageIds" in input:
                refuse_paging(input)
                ids = [read_image_id(entry) for entry in input["imageIds"]]
                found = await self.run(self.images.find, name, ids, owner=owner)
                digests = [detail.digest for detail in found if isinstance(detail, ImageDetail)]
            preview = await self.lifecycle_runs.preview(name)
            if preview is None:
                raise ApiError(
                    "LifecyclePolicyPreviewNotFoundException",
                    f"Lifecycle policy preview does not exist for the repository with name '{name}' in the registry with id "
                    f"'{call.registry.account}'",
                )
            if owner is not None and not await self.run(self.repositories.is_there, name, owner):
                digests = []  # what another one has left under the name is not shown
            results = await self.run(
                self.lifecycles.preview_page,
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


def _policy(call: Call, name: RepositoryName, record: LifecyclePolicyRecord) -> Output:
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


def _result(result: PreviewResult) -> Output:
    archives = result.action == "TRANSITION"
    return {
        "imageDigest": result.digest,
        "imageTags": list(result.tags) or None,
        "imagePushedAt": result.pushed_at,
        "action": {"type": result.action, "targetStorageClass": "ARCHIVE" if archives else None},
        "appliedRulePriority": result.priority,
        "storageClass": "ARCHIVE" if result.archived else "STANDARD",
    }


def _summary(preview: Preview) -> Output:
    counts = [{"targetStorageClass": "ARCHIVE", "imageTotalCount": preview.transitioning}]
    return {
        "expiringImageTotalCount": preview.expiring,
        "transitioningImageTotalCounts": counts if preview.transitioning else None,
    }
