"""What operations call an image by: a digest, a tag, or both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pullthrough.errors import DigestInvalid, RepositoryUnknown, TagInvalid
from pullthrough.faces.ecr.calls import Call, Output, RegistryIdentity
from pullthrough.faces.ecr.images.repository_names import RepositoryNames
from pullthrough.faces.ecr.parameters import invalid, repository_not_found
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.digests import parse_digest
from pullthrough.oci.names import RepositoryName, parse_tag
from pullthrough.storage.catalog.records import Failure, ImageId
from pullthrough.storage.registry.images import Images
from pullthrough.threads import Runner


def read_image_id(given: Mapping[str, str]) -> ImageId:
    """Raises ApiError where neither digest nor tag is given, DigestInvalid or TagInvalid where one is not valid."""
    if not given:
        raise invalid("imageId", "it must have an imageDigest or an imageTag")
    digest, tag = given.get("imageDigest"), given.get("imageTag")
    return ImageId(parse_digest(digest) if digest is not None else None, parse_tag(tag) if tag is not None else None)


def shown(given: Mapping[str, str]) -> str:
    """As ECR's sentences name an image."""
    return f"{{imageDigest:'{given.get('imageDigest', 'null')}', imageTag:'{given.get('imageTag', 'null')}'}}"


def read_image_ids(given: Sequence[Mapping[str, str]]) -> tuple[list[ImageId], list[Output]]:
    """The images, and an entry of `failures` for each that is not valid."""
    ids: list[ImageId] = []
    failures: list[Output] = []
    for entry in given:
        try:
            if not entry:
                raise ApiError("MissingDigestAndTag", "Invalid request parameters: both tag and digest cannot be null")
            ids.append(read_image_id(entry))
        except DigestInvalid:
            failures.append(
                failure(
                    entry,
                    "InvalidImageDigest",
                    "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'",
                )
            )
        except TagInvalid as error:
            failures.append(failure(entry, "InvalidImageTag", f"Invalid request parameters: {error.message}"))
        except ApiError as error:
            failures.append(failure(entry, error.code, error.message))
    return ids, failures


def failure(image_id: Mapping[str, str | None], code: str, reason: str) -> Output:
    """An entry of `failures`."""
    return {"imageId": dict(image_id), "failureCode": code, "failureReason": reason}


def as_output(image_id: ImageId) -> Output:
    return {"imageDigest": image_id.digest, "imageTag": image_id.tag}


def image_not_found(registry: RegistryIdentity, name: RepositoryName, given: Mapping[str, str]) -> ApiError:
    return ApiError(
        "ImageNotFoundException",
        f"The image with imageId {shown(given)} does not exist within the repository with name '{name}' in the "
        f"registry with id '{registry.account}'",
    )


@contextmanager
def known_repository(registry: RegistryIdentity, name: RepositoryName) -> Iterator[None]:
    """Says in AWS's words that there is no such repository, if the block finds none."""
    try:
        yield
    except RepositoryUnknown as error:
        raise repository_not_found(registry, name) from error


@dataclass(frozen=True, slots=True)
class KnownImages:
    run: Runner
    images: Images
    names: RepositoryNames

    async def require(self, call: Call, name: RepositoryName, given: Mapping[str, str]) -> Output:
        """The image's digest, and the tag that it was asked for by. Raises ApiError where there is no such image."""
        wanted = read_image_id(given)
        with known_repository(call.registry, name):
            (found,) = await self.run(self.images.find, name, [wanted], owner=self.names.shown_owner(name))
        if isinstance(found, Failure):
            raise image_not_found(call.registry, name, given)
        return {"imageDigest": str(found.digest), "imageTag": wanted.tag}
