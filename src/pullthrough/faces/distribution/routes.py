"""From a request's path and query to what is asked for. No I/O, no web framework.

Nothing is remembered here: this is done before anybody has logged in, and strangers choose what they send.

The end-points: OCI distribution specification 1.1, "Endpoints".
https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#endpoints
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qs

from pullthrough.errors import NameInvalid, UploadUnknown
from pullthrough.faces.distribution.errors import EndpointUnknown
from pullthrough.oci.digests import Digest, parse_digest
from pullthrough.oci.names import Reference, RepositoryName, parse_reference, parse_repository_name

#: A UUID's, which is what uploads are called here.
_UPLOAD_ID_LENGTH = 36


class Endpoint(StrEnum):
    """What a request is about; a label of the metrics."""

    PING = "ping"
    MANIFEST = "manifest"
    BLOB = "blob"
    TAGS = "tags"
    REFERRERS = "referrers"
    CATALOG = "catalog"
    UPLOAD = "upload"


@dataclass(frozen=True, slots=True)
class Route:
    """`name` and `reference` are None where the kind has none; a blob's and a subject's reference is a Digest."""

    kind: Endpoint
    name: RepositoryName | None = None
    reference: Reference | None = None
    #: An upload's id, unchecked but for its length; empty where the path is that of all uploads of the repository.
    upload: str = ""

    @property
    def digest(self) -> Digest:
        assert isinstance(self.reference, Digest)
        return self.reference


def parse_path(raw_path: str) -> Route:
    """`raw_path` as it came, still percent-encoded, without the query.

    Names, tags and digests need no encoding but for a digest's colon, so that everything else that is encoded (slashes,
    dots) is refused instead of being understood differently here and elsewhere. Raises NameInvalid, TagInvalid,
    DigestInvalid, UploadUnknown or EndpointUnknown.
    """
    if "%" in raw_path:
        raw_path = raw_path.replace("%3A", ":").replace("%3a", ":")
        if "%" in raw_path:
            raise NameInvalid("the path is percent-encoded; names, tags and digests never need that")
    if raw_path in ("/v2/", "/v2"):
        return Route(Endpoint.PING)
    if raw_path == "/v2/_catalog":
        return Route(Endpoint.CATALOG)
    if not raw_path.startswith("/v2/"):
        raise EndpointUnknown("there is no such path; the registry is under /v2/")
    rest = raw_path[4:]
    if rest.endswith("/tags/list"):
        return Route(Endpoint.TAGS, parse_repository_name(rest[:-10]))
    name, _, reference = rest.rpartition("/")
    name, _, kind = name.rpartition("/")
    if kind == "manifests":
        return Route(Endpoint.MANIFEST, parse_repository_name(name), parse_reference(reference))
    if kind == "blobs":
        if reference == "uploads":
            return Route(Endpoint.UPLOAD, parse_repository_name(name))
        return Route(Endpoint.BLOB, parse_repository_name(name), parse_digest(reference))
    if kind == "referrers":
        return Route(Endpoint.REFERRERS, parse_repository_name(name), parse_digest(reference))
    if kind == "uploads" and name.endswith("/blobs"):
        repository = parse_repository_name(name[:-6])
        if len(reference) > _UPLOAD_ID_LENGTH:
            raise UploadUnknown(f"{reference[:_UPLOAD_ID_LENGTH]!r}… is longer than the id of an upload")
        return Route(Endpoint.UPLOAD, repository, None, reference)
    raise EndpointUnknown("there is no such end-point in the OCI distribution specification")


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters that mean something to a registry; everything else is ignored."""

    #: containerd's mirror parameter: the registry the client really means.
    ns: str | None = None
    n: int | None = None
    last: str = ""
    artifact_type: str = ""
    #: What a pushed blob is to be.
    digest: str | None = None
    #: A blob that is wanted from another repository, `source`, or from any.
    mount: str | None = None
    source: str | None = None


NO_QUERY = Query()
#: Above this a page is cut to it: ECR refuses, others clamp, and clients follow the Link either way.
MAX_PAGE = 1000


def parse_query(text: str) -> Query:
    """Raises NameInvalid where `n` is not a number."""
    if not text:
        return NO_QUERY
    try:
        values = parse_qs(text, keep_blank_values=True, max_num_fields=20)
    except ValueError as error:
        raise NameInvalid("the query has too many parameters") from error
    n = values.get("n", [""])[0]
    if n and not (n.isascii() and n.isdigit() and len(n) < 10):
        raise NameInvalid(f"the parameter n is not a number: {n[:40]!r}")
    return Query(
        ns=values["ns"][0][:300] if "ns" in values else None,
        n=min(int(n), MAX_PAGE) if n else None,
        last=values.get("last", [""])[0][:300],
        artifact_type=values.get("artifactType", [""])[0][:300],
        digest=values["digest"][0] if "digest" in values else None,
        mount=values["mount"][0] if "mount" in values else None,
        source=values["from"][0] if "from" in values else None,
    )
