"""The demo's upstream as questions and answers, without sockets; its clock is the test's."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from multidict import CIMultiDict, MultiDict

from pullthrough.demo.images import make_artifact, make_image, make_index
from pullthrough.demo.replies import Reply
from pullthrough.demo.requests import ParsedRequest, RequestKind, RequestRecord, UpstreamLog
from pullthrough.demo.tokens import AuthenticationScheme
from pullthrough.demo.upstream import UpstreamOptions, UpstreamRegistry
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest

NAME = "library/app"
IMAGE = make_image("upstream", layer_sizes=(1000,))
INDEX = make_index(IMAGE)
LAYER = IMAGE.blobs[1]


@dataclass
class Asking:
    """A registry, the clock it reads, and short forms of questions."""

    registry: UpstreamRegistry
    now: float = 0.0

    def ask(
        self,
        kind: RequestKind,
        repository: str = "",
        reference: str = "",
        *,
        method: str = "GET",
        query: list[tuple[str, str]] | None = None,
        path: str = "/",
        **headers: str,
    ) -> Reply:
        sent = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
        return self.registry.answer(
            ParsedRequest(method, path, kind, repository, reference, MultiDict(query or []), sent)
        )

    def manifest(self, reference: str = "latest", repository: str = NAME, **headers: Any) -> Reply:
        return self.ask(RequestKind.MANIFEST, repository, reference, **headers)

    def token(self, *repositories: str, login: str = "") -> str:
        headers = {"Authorization": basic(login)} if login else {}
        query = [("scope", f"repository:{name}:pull") for name in repositories]
        token = document(self.ask(RequestKind.TOKEN, query=query, **headers))["token"]
        return f"Bearer {token}"


def asking(**options: Any) -> Asking:
    registry = UpstreamRegistry(UpstreamOptions(**options), clock=lambda: made.now)
    made = Asking(registry)
    registry.url = "http://127.0.0.1:1"
    registry.add(NAME, INDEX, "latest", "1.0")
    return made


def document(answer: Reply) -> Any:
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


def code(answer: Reply) -> tuple[int, str]:
    return answer.status, document(answer)["errors"][0]["code"]


def basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


# -- tokens


def test_without_a_token_the_challenge_names_realm_service_and_scope() -> None:
    hub = asking()
    assert hub.ask(RequestKind.PING).headers["WWW-Authenticate"] == (
        'Bearer realm="http://127.0.0.1:1/token",service="registry.docker.io"'
    )
    answer = hub.manifest()
    assert code(answer) == (401, "UNAUTHORIZED")
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="http://127.0.0.1:1/token",service="registry.docker.io",scope="repository:library/app:pull"'
    )


def test_a_token_is_good_for_its_repositories_only() -> None:
    hub = asking()
    hub.registry.add("library/other", IMAGE, "latest")
    token = hub.token(NAME)
    assert hub.manifest(Authorization=token).status == 200
    assert hub.ask(RequestKind.PING, Authorization=token).status == 200
    refused = hub.manifest(repository="library/other", Authorization=token)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"].endswith(',error="insufficient_scope"')
    both = hub.token(NAME, "library/other")
    assert hub.manifest(repository="library/other", Authorization=both).status == 200


def test_a_token_ends_after_its_time() -> None:
    hub = asking(token_seconds=60)
    token = hub.token(NAME)
    hub.now = 59.9
    assert hub.manifest(Authorization=token).status == 200
    hub.now = 60
    refused = hub.manifest(Authorization=token)
    assert refused.headers["WWW-Authenticate"].endswith(',error="invalid_token"')


def test_revoked_tokens_are_invalid_at_once() -> None:
    hub = asking()
    token = hub.token(NAME)
    hub.registry.tokens.revoke_all()
    assert hub.manifest(Authorization=token).status == 401


def test_an_unknown_repository_is_401_like_a_private_one() -> None:
    hub = asking(users={"me": "secret"}, private=frozenset({"me/private"}))
    hub.registry.add("me/private", IMAGE, "latest")
    for name in ("no/such", "me/private"):
        refused = hub.manifest(repository=name, Authorization=hub.token(name))
        assert code(refused) == (401, "UNAUTHORIZED")
    allowed = hub.token("me/private", login="me:secret")
    assert hub.manifest(repository="me/private", Authorization=allowed).status == 200


def test_a_wrong_login_gets_no_token_even_for_public_images() -> None:
    hub = asking(users={"me": "secret"})
    for header in (basic("me:wrong"), basic("you:secret"), "Basic %%%", "Bearer x", basic("")):
        assert hub.ask(RequestKind.TOKEN, Authorization=header).status == 401


def test_basic_authentication_asks_for_a_login_at_every_request() -> None:
    hub = asking(authentication=AuthenticationScheme.BASIC, users={"me": "secret"})
    assert hub.manifest().headers["WWW-Authenticate"] == 'Basic realm="registry.docker.io"'
    assert hub.manifest(Authorization=basic("me:wrong")).status == 401
    assert hub.manifest(Authorization=basic("me:secret")).status == 200


def test_without_authentication_an_unknown_repository_is_404() -> None:
    open_hub = asking(authentication=AuthenticationScheme.NONE)
    assert open_hub.ask(RequestKind.PING).status == 200
    assert code(open_hub.manifest(repository="no/such")) == (404, "NAME_UNKNOWN")


def test_a_password_is_in_no_representation() -> None:
    assert "secret" not in repr(UpstreamOptions(users={"me": "secret"}))


# -- rate limit


def limited(**options: Any) -> Asking:
    return asking(authentication=AuthenticationScheme.NONE, **{"rate_limit": 2} | options)


def test_gets_of_manifests_count_and_heads_only_say_what_is_left() -> None:
    hub = limited()
    assert hub.manifest().headers["RateLimit-Remaining"] == "1;w=21600"
    head = hub.ask(RequestKind.MANIFEST, NAME, "latest", method="HEAD")
    assert (head.headers["RateLimit-Limit"], head.headers["RateLimit-Remaining"]) == ("2;w=21600", "1;w=21600")
    assert hub.ask(RequestKind.BLOB, NAME, LAYER.digest).status == 200
    assert hub.registry.pulls_left == 1


def test_above_the_limit_is_429_until_the_window_ends() -> None:
    hub = limited()
    hub.manifest()
    hub.manifest()
    hub.now = 600
    refused = hub.manifest()
    assert code(refused) == (429, "TOOMANYREQUESTS")
    assert refused.headers["Retry-After"] == "21000"
    assert hub.ask(RequestKind.MANIFEST, NAME, "latest", method="HEAD").status == 200
    hub.now = 21_600
    assert hub.manifest().status == 200


def test_what_is_not_there_does_not_count() -> None:
    hub = limited()
    assert hub.manifest("absent").status == 404
    assert hub.registry.pulls_left == 2


def test_the_rest_of_the_limit_can_be_set() -> None:
    hub = limited(retry_after_seconds=7)
    hub.registry.set_pulls_left(0)
    assert hub.manifest().headers["Retry-After"] == "7"
    hub.registry.set_pulls_left(1)
    assert hub.manifest().status == 200


def test_without_a_limit_no_header_speaks_of_one() -> None:
    answer = asking(authentication=AuthenticationScheme.NONE).manifest()
    assert not [name for name in answer.headers if name.lower().startswith("ratelimit")]


# -- content


@pytest.fixture
def hub() -> Asking:
    return asking(authentication=AuthenticationScheme.NONE)


def test_a_moved_tag_points_to_the_new_image(hub: Asking) -> None:
    hub.registry.add(NAME, IMAGE, "latest")
    assert hub.manifest().headers["Docker-Content-Digest"] == IMAGE.digest
    assert hub.manifest("1.0").headers["Docker-Content-Digest"] == INDEX.digest


def test_what_was_removed_is_404(hub: Asking) -> None:
    hub.registry.remove_tag(NAME, "latest")
    assert hub.manifest("latest").status == 404
    assert hub.manifest("1.0").status == 200
    hub.registry.remove_manifest(NAME, INDEX.digest)
    assert hub.manifest("1.0").status == 404
    hub.registry.remove_blob(NAME, LAYER.digest)
    assert hub.ask(RequestKind.BLOB, NAME, LAYER.digest).status == 404
    hub.registry.remove_repository(NAME)
    assert code(hub.manifest(IMAGE.digest)) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (media_types.ACCEPT, 200),
        ("*/*", 200),
        (f"text/html, {media_types.OCI_INDEX};q=0.5", 200),
        (media_types.DOCKER_MANIFEST, 404),
    ],
)
def test_a_manifest_goes_only_to_those_who_accept_it(hub: Asking, accept: str, status: int) -> None:
    assert hub.manifest(Accept=accept).status == status


def test_blobs_belong_to_their_repository(hub: Asking) -> None:
    hub.registry.add("library/other", make_image("other"), "latest")
    assert code(hub.ask(RequestKind.BLOB, "library/other", LAYER.digest)) == (404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    ("kind", "reference", "expected"),
    [
        (RequestKind.MANIFEST, "sha256:abc", (400, "DIGEST_INVALID")),
        (RequestKind.BLOB, "abc", (400, "DIGEST_INVALID")),
        (RequestKind.REFERRERS, "abc", (400, "DIGEST_INVALID")),
        (RequestKind.MANIFEST, "-bad", (404, "MANIFEST_UNKNOWN")),
    ],
)
def test_references_that_cannot_be_are_refused(
    hub: Asking, kind: RequestKind, reference: str, expected: tuple[int, str]
) -> None:
    assert code(hub.ask(kind, NAME, reference)) == expected


def test_only_pulls_are_served(hub: Asking) -> None:
    assert code(hub.ask(RequestKind.BLOB, NAME, LAYER.digest, method="DELETE")) == (405, "UNSUPPORTED")


def test_a_redirected_blob_wants_its_signature_and_no_credential() -> None:
    hub = asking(authentication=AuthenticationScheme.NONE, blob_redirect=True, cdn_url="http://127.0.0.2:2")
    redirect = hub.ask(RequestKind.BLOB, NAME, LAYER.digest)
    location = redirect.headers["Location"]
    assert (redirect.status, location.startswith("http://127.0.0.2:2/cdn/")) == (307, True)
    signed = [("signature", location.rpartition("=")[2])]
    assert hub.ask(RequestKind.CDN, reference=LAYER.digest, query=signed).status == 200
    assert hub.ask(RequestKind.CDN, reference=LAYER.digest, query=signed, Range="bytes=1-2").length_bytes == 2
    assert hub.ask(RequestKind.CDN, reference=LAYER.digest).status == 403
    assert hub.ask(RequestKind.CDN, reference=IMAGE.blobs[0].digest, query=signed).status == 403
    assert hub.ask(RequestKind.CDN, reference=LAYER.digest, query=signed, Authorization="Bearer x").status == 400


def _tags(hub: Asking, *query: tuple[str, str]) -> tuple[list[str], str]:
    answer = hub.ask(RequestKind.TAGS, NAME, "list", query=list(query))
    return document(answer)["tags"], answer.headers.get("Link", "")


def test_tags_come_in_pages_of_the_smaller_size(hub: Asking) -> None:
    assert _tags(hub) == (["1.0", "latest"], "")
    first, link = _tags(hub, ("n", "1"))
    assert (first, link) == (["1.0"], f'</v2/{NAME}/tags/list?last=1.0&n=1>; rel="next"')
    assert _tags(hub, ("n", "1"), ("last", "1.0")) == (["latest"], "")
    assert _tags(hub, ("n", "0")) == ([], "")
    small = asking(authentication=AuthenticationScheme.NONE, page_entries=1)
    assert _tags(small, ("n", "500"))[0] == ["1.0"]
    assert hub.ask(RequestKind.TAGS, NAME, "list", query=[("n", "many")]).status == 400


def test_referrers_are_listed_filtered_and_paged() -> None:
    hub = asking(authentication=AuthenticationScheme.NONE, page_entries=1)
    for number, kind in enumerate(("application/sig", "application/sbom", "application/sig")):
        hub.registry.add(NAME, make_artifact(str(number), subject=IMAGE, artifact_type=kind, annotations={"n": "1"}))
    path = f"/v2/{NAME}/referrers/{IMAGE.digest}"
    answer = hub.ask(RequestKind.REFERRERS, NAME, IMAGE.digest, query=[("artifactType", "application/sig")], path=path)
    assert answer.headers["Content-Type"] == media_types.OCI_INDEX
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert answer.headers["Link"] == f'<{path}?from=1&artifactType=application%2Fsig>; rel="next"'
    (descriptor,) = document(answer)["manifests"]
    assert (descriptor["artifactType"], descriptor["annotations"]) == ("application/sig", {"n": "1"})
    last = hub.ask(RequestKind.REFERRERS, NAME, IMAGE.digest, query=[("from", "2")], path=path)
    assert "Link" not in last.headers


def test_without_the_referrers_api_the_fallback_tag_lists_them() -> None:
    hub = asking(authentication=AuthenticationScheme.NONE, referrers_api=False)
    signatures = [make_artifact(str(number), subject=IMAGE) for number in range(2)]
    for signature in signatures:
        hub.registry.add(NAME, signature)
    assert hub.ask(RequestKind.REFERRERS, NAME, IMAGE.digest).status == 404
    answer = hub.manifest(f"sha256-{IMAGE.digest.hex}")
    assert [entry["digest"] for entry in document(answer)["manifests"]] == [
        signature.digest for signature in signatures
    ]


def test_an_unknown_subject_has_no_referrers(hub: Asking) -> None:
    assert document(hub.ask(RequestKind.REFERRERS, NAME, Digest("sha256:" + "0" * 64)))["manifests"] == []


# -- the log of requests


def test_the_log_selects_by_everything_that_is_given() -> None:
    log = UpstreamLog()
    for method, kind, sent in (
        ("GET", RequestKind.BLOB, 5),
        ("HEAD", RequestKind.BLOB, 0),
        ("GET", RequestKind.TOKEN, 7),
    ):
        log.append(RequestRecord(method, "/", kind, NAME, "x", bytes_sent=sent, status=200))
    assert log.count() == len(log) == 3
    assert log.count(kind="blob", method="GET", status=200, repository=NAME, reference="x") == 1
    assert log.count(kind=RequestKind.BLOB, reference="y") == 0
    assert (log.bytes_sent, log[-1].kind) == (12, "token")
    with pytest.raises(TimeoutError):
        log.wait_for(lambda requests: len(requests) == 4, timeout_seconds=0)
    log.clear()
    assert list(log) == []
