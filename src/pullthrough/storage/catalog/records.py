"""What the catalog gives back: plain values, true at the moment they were read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pullthrough.oci.digests import Digest
from pullthrough.oci.names import RepositoryName, Tag

#: What a manifest uses a blob as; empty where no manifest of the repository names it.
BlobKind = Literal["layer", "config", ""]


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A manifest exactly as the upstream sent it. `media_type` is the one this repository's upstream gave."""

    digest: Digest
    media_type: str
    body: bytes
    #: Whether its repository is the registry's own.
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class TagRecord:
    """Times are seconds since the epoch."""

    tag: Tag
    manifest: ManifestRecord
    #: When the upstream last confirmed the tag, or said that it is gone.
    validated_at: float
    #: When a check was last forced; 0 for never.
    forced_at: float
    #: Since when the upstream has not had the tag any more; None while it has.
    gone_at: float | None
    #: The repository does not let it name another manifest.
    immutable: bool = False


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """What is known of a blob as seen from one repository."""

    digest: Digest
    #: The published size where this repository may read it, else what a manifest of the repository claims, else None: what
    #: others have says nothing to this one.
    size_bytes: int | None
    #: Whether the bytes are here, under whatever repository they came.
    published: bool
    #: The boot in which the file was last verified; empty for never, and where the blob is not published.
    verified_boot: str
    #: Whether this repository may read the bytes without asking its upstream.
    granted: bool
    #: Whether a manifest of this repository names the blob.
    named: bool
    kind: BlobKind
    #: Whether there is such a repository at all, with this owner.
    repository_known: bool = False
    #: Whether the bytes were once had by the asker's account from its upstream, or by nobody in particular: then it is
    #: enough that its upstream says that it has them.
    is_shared: bool = False
    #: Whether the repository is the registry's own.
    is_own: bool = False


@dataclass(frozen=True, slots=True)
class ListingRecord:
    """A list of an upstream's, as it is sent to clients, and when it was read from there."""

    body: bytes
    validated_at: float


@dataclass(frozen=True, slots=True)
class Totals:
    """How much is stored in all."""

    repositories: int
    manifests: int
    tags: int
    blobs: int
    #: What the blobs take, and the catalog.
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class ImageUse:
    """A manifest in a repository, as eviction sees it."""

    image_id: int
    repository: RepositoryName
    digest: Digest
    stored_at: float
    #: None for never.
    pulled_at: float | None
    manifest_bytes: int
    #: How many images, of whatever repository, are this manifest.
    images: int


class Failure(StrEnum):
    """Why an image was not found or not deleted, as the API's ImageFailureCode spells it."""

    NOT_FOUND = "ImageNotFound"
    MISMATCH = "ImageTagDoesNotMatchDigest"
    REFERENCED = "ImageReferencedByManifestList"


@dataclass(frozen=True, slots=True)
class ImageId:
    """What the API names an image by: at least one of the two."""

    digest: Digest | None = None
    tag: Tag | None = None


@dataclass(frozen=True, slots=True)
class ImageDetail:
    """An image of a repository, as the ECR API describes it. Times are None where nothing of the kind happened."""

    image_id: int
    digest: Digest
    #: Sorted.
    tags: tuple[Tag, ...]
    media_type: str
    #: The manifest's `artifactType`, else its config's media type; empty where it has neither.
    artifact_type: str
    #: Of its config and layers; of an index the largest of its stored children.
    size_bytes: int
    pushed_at: float
    pulled_at: float | None
    #: Empty for none.
    subject: str
    archived_at: float | None
    activated_at: float | None


@dataclass(frozen=True, slots=True)
class ImageState:
    """An image of a repository, as lifecycle policies see it."""

    image_id: int
    digest: str
    tags: tuple[str, ...]
    pushed_at: float
    #: None for never.
    pulled_at: float | None
    #: Since when it has been archived; None while it is not.
    archived_at: float | None
    #: When it was last taken out of the archive.
    activated_at: float | None
    #: What it names as an index, stored or not.
    children: tuple[str, ...] = ()
    #: Empty for none.
    subject: str = ""
    media_type: str = ""
    #: As ImageDetail's.
    artifact_type: str = ""


@dataclass(frozen=True, slots=True)
class NamedBlob:
    """A blob that an image names. `size_bytes` and `last_used_at` are None where it is not published."""

    image_id: int
    digest: Digest
    size_bytes: int | None
    last_used_at: float | None
    #: How many images, of whatever repository, name it.
    images: int


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A published blob."""

    digest: Digest
    size_bytes: int
    last_used_at: float
