"""What refers to an image: of a cached repository, what its upstream says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pullthrough.engine.pull.listings import Listings
from pullthrough.errors import UpstreamError
from pullthrough.faces.ecr.calls import Call, Handler, Input, Output
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.faces.ecr.wire.paging import encode_token, page_request
from pullthrough.oci import lists
from pullthrough.oci.digests import parse_digest
from pullthrough.storage.catalog.referrers import Referrers, ReferrersPage
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class ReferrerHandlers:
    run: Runner
    rights: Rights
    names: RepositoryNames
    referrers: Referrers
    listings: Listings

    def handlers(self) -> Mapping[str, Handler]:
        return {"ListImageReferrers": self.list_image_referrers}

    async def list_image_referrers(self, call: Call, input: Input) -> Output:
        """What has the image as its subject, by digest."""
        target = self.names.target(call, "ListImageReferrers", input)
        # As on AWS: what refers to an image is for who may pull it.
        self.rights.check_repository(call, "BatchGetImage", target.repository)
        if target.is_own:
            await self.names.require_repository(call, target.repository)
        subject = parse_digest(input["subjectId"]["imageDigest"])
        page = page_request("ListImageReferrers", input, default=20)
        after = str(page.after[0]) if page.after else ""
        asked = input.get("filter", {})
        types, status = asked.get("artifactTypes") or (), asked.get("artifactStatus", "ACTIVE")
        stored = functools.partial(
            self.referrers.page,
            target.repository,
            subject,
            types=types,
            after=after,
            most=page.size,
            owner=target.owner,
        )
        if target.is_own:
            own = await self.run(stored, archived={"ACTIVE": False, "ARCHIVED": True}.get(status))
            referrers = (_referrer(each.descriptor, each.is_archived) for each in own.referrers)
            found, last = [referrer for referrer in referrers if status in ("ANY", referrer.status)], own.last
        else:
            try:
                served = await self.listings.all_referrers(target, subject)
            except UpstreamError as error:
                raise ApiError(
                    "UnableToListUpstreamImageReferrersException",
                    f"The referrers could not be listed at {error.upstream}: {error.message}",
                ) from error
            archived = await self.run(stored, archived=True)
            found = await self.run(
                _merge,
                served.record.body,
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

    def to_dict(self) -> Output:
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
