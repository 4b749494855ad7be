"""The registries of the standard rules, played as they really answer, and what each pull costs them in requests."""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from pullthrough.declaration import CredentialSource
from pullthrough.errors import UpstreamDenied, UpstreamThrottled
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, over_tls
from tests.integration.upstream.conftest import NAMES, Certificates
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply, json_reply

MANIFEST = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}).encode()
INDEX = "application/vnd.oci.image.index.v1+json"
BLOB = b"layer" * 1000
BLOB_DIGEST = digest_of(BLOB)
CREDENTIAL = CredentialSource("acme", access_token_env="TOKEN")
MakeOne = Callable[[str], Upstream]


class Internet:
    """All hosts of a test on one TLS server; `routes` by `host/path` or, for that method only, `METHOD host/path`, `asked` as
    `METHOD host/path` plus who asked."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self.routes: dict[str, Reply] = {}
        self.asked: list[str] = []
        self.requests: list[Asked] = []
        self.protected: dict[str, str] = {}
        self.server = Server(self._answer, tls=tls)

    def protect(self, prefix: str, challenge: str) -> None:
        """What begins with `prefix` (`host/path`) wants a bearer token, as this header says."""
        self.protected[prefix] = challenge

    def _answer(self, asked: Asked, sock: socket.socket) -> Reply:
        where = asked.headers["host"] + asked.path
        scheme = asked.authorization.partition(" ")[0]
        self.asked.append(f"{asked.method} {where}{f' ({scheme})' if scheme else ''}")
        self.requests.append(asked)
        for prefix, challenge in self.protected.items():
            if where.startswith(prefix) and scheme != "Bearer":
                return error_reply(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        reply = self.routes.get(f"{asked.method} {where}") or self.routes.get(where)
        return reply or error_reply(404, "NAME_UNKNOWN")

    def take(self) -> list[str]:
        asked, self.asked = self.asked, []
        return asked


@pytest.fixture
def internet(certificates: Certificates) -> Iterator[Internet]:
    internet = Internet(certificates.server())
    with internet.server:
        yield internet


@pytest.fixture
def registry(internet: Internet, certificates: Certificates, upstreams: Make) -> MakeOne:
    """Makes the upstream of a host, with all names leading to `internet`."""

    def make(host: str) -> Upstream:
        return upstreams(
            settings={host: over_tls(certificates.ca)},
            hosts=dict.fromkeys(NAMES, internet.server),
            environ={"TOKEN": "s3cret"},
        ).get(host)

    return make


def manifest_reply(**headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    digest = str(digest_of(MANIFEST))
    return Reply(
        200, {"Content-Type": INDEX, "Docker-Content-Digest": digest, "ETag": f'"{digest}"', **named}, MANIFEST
    )


def read_blob(upstream: Upstream, repository: str, credential: CredentialSource | None = None) -> bytes:
    buffer, body = memoryview(bytearray(65536)), bytearray()
    with upstream.open_blob(repository, BLOB_DIGEST, credential, abort=AbortHandle()) as blob:
        while got := blob.readinto(buffer):
            body += buffer[:got]
    assert hashlib.sha256(body).hexdigest() == BLOB_DIGEST.hex
    return bytes(body)


def docker_hub(internet: Internet, repository: str) -> None:
    internet.protect(
        f"registry-1.docker.io/v2/{repository}/",
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        f'scope="repository:{repository}:pull"',
    )
    internet.routes["auth.docker.io/token"] = json_reply(
        {"token": "hub", "access_token": "hub", "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"}
    )
    internet.routes[f"registry-1.docker.io/v2/{repository}/manifests/1.27"] = manifest_reply(
        RateLimit_Limit="100;w=21600", RateLimit_Remaining="76;w=21600", Docker_RateLimit_Source="192.0.2.7"
    )
    signed = "https://production.cloudflare.docker.com/registry-v2/docker/registry/v2/blobs/data?verify=1-s3cret"
    internet.routes[f"registry-1.docker.io/v2/{repository}/blobs/{BLOB_DIGEST}"] = Reply(307, {"Location": signed})
    internet.routes["production.cloudflare.docker.com/registry-v2/docker/registry/v2/blobs/data"] = Reply(200, {}, BLOB)


async def test_docker_hub_costs_three_requests_for_the_first_manifest_and_one_for_each_further_question(
    internet: Internet, registry: MakeOne
) -> None:
    docker_hub(internet, "library/nginx")
    hub = registry("registry-1.docker.io")
    fetched = await hub.fetch_manifest("library/nginx", "1.27", None)
    assert (fetched.body, fetched.media_type, fetched.digest) == (MANIFEST, INDEX, digest_of(MANIFEST))
    assert internet.take() == [
        "GET registry-1.docker.io/v2/library/nginx/manifests/1.27",
        "GET auth.docker.io/token",
        "GET registry-1.docker.io/v2/library/nginx/manifests/1.27 (Bearer)",
    ]
    assert internet.requests[1].query == {"service": ["registry.docker.io"], "scope": ["repository:library/nginx:pull"]}
    head = await hub.head_manifest("library/nginx", "1.27", None)
    assert (head.digest, head.media_type, head.size_bytes) == (digest_of(MANIFEST), INDEX, len(MANIFEST))
    assert internet.take() == ["HEAD registry-1.docker.io/v2/library/nginx/manifests/1.27 (Bearer)"]


async def test_docker_hubs_second_repository_spares_the_challenge(internet: Internet, registry: MakeOne) -> None:
    docker_hub(internet, "library/nginx")
    docker_hub(internet, "library/redis")
    hub = registry("registry-1.docker.io")
    await hub.fetch_manifest("library/nginx", "1.27", None)
    internet.take()
    await hub.fetch_manifest("library/redis", "1.27", None)
    assert internet.take() == [
        "GET auth.docker.io/token",
        "GET registry-1.docker.io/v2/library/redis/manifests/1.27 (Bearer)",
    ]
    assert internet.requests[-2].query["scope"] == ["repository:library/redis:pull"]


async def test_docker_hubs_token_does_not_reach_its_content_network(internet: Internet, registry: MakeOne) -> None:
    docker_hub(internet, "library/nginx")
    hub = registry("registry-1.docker.io")
    await hub.fetch_manifest("library/nginx", "1.27", CREDENTIAL)
    internet.take()
    assert read_blob(hub, "library/nginx", CREDENTIAL) == BLOB
    assert internet.take() == [
        f"GET registry-1.docker.io/v2/library/nginx/blobs/{BLOB_DIGEST} (Bearer)",
        "GET production.cloudflare.docker.com/registry-v2/docker/registry/v2/blobs/data",
    ]


async def test_docker_hubs_credential_goes_to_its_token_server_alone(internet: Internet, registry: MakeOne) -> None:
    docker_hub(internet, "library/nginx")
    await registry("registry-1.docker.io").fetch_manifest("library/nginx", "1.27", CREDENTIAL)
    assert internet.take() == [
        "GET registry-1.docker.io/v2/library/nginx/manifests/1.27",
        "GET auth.docker.io/token (Basic)",
        "GET registry-1.docker.io/v2/library/nginx/manifests/1.27 (Bearer)",
    ]


async def test_docker_hubs_remaining_pulls_are_read(internet: Internet, registry: MakeOne, recorder: Recorder) -> None:
    docker_hub(internet, "library/nginx")
    hub = registry("registry-1.docker.io")
    await hub.fetch_manifest("library/nginx", "1.27", None)
    assert (hub.health.remaining, hub.health.limit, hub.health.paused_until) == (76, 100, None)
    assert recorder.budgets == [("registry-1.docker.io", 76, 0.0)]


async def test_docker_hubs_401_for_what_is_missing_is_no_404(internet: Internet, registry: MakeOne) -> None:
    docker_hub(internet, "library/nginx")
    internet.routes["registry-1.docker.io/v2/library/nope/manifests/1"] = error_reply(
        401,
        "UNAUTHORIZED",
        "authentication required",
        WWW_Authenticate='Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        'scope="repository:library/nope:pull",error="insufficient_scope"',
    )
    hub = registry("registry-1.docker.io")
    with pytest.raises(UpstreamDenied, match="does not exist or is private") as caught:
        await hub.fetch_manifest("library/nope", "1", None)
    assert caught.value.status == 401
    assert internet.take() == [
        "GET registry-1.docker.io/v2/library/nope/manifests/1",
        "GET auth.docker.io/token",
        "GET registry-1.docker.io/v2/library/nope/manifests/1 (Bearer)",
    ]


async def test_docker_hubs_abuse_limit_with_its_malformed_line_ends_is_understood(
    internet: Internet, registry: MakeOne
) -> None:
    internet.server.handler = lambda asked, sock: (
        b"HTTP/1.1 429 Too Many Requests\r\nCache-Control: no-cache\r\nConnection: close\r\n"
        b"Content-Type: text/plain\r\nRetry-After: 60\r\n\nToo Many Requests (HAP429).\n\n"
    )
    with pytest.raises(UpstreamThrottled, match="HAP429") as caught:
        await registry("registry-1.docker.io").fetch_manifest("library/nginx", "1.27", None)
    assert caught.value.retry_after_seconds == 60


async def test_github_gives_anonymous_tokens_from_its_own_host(internet: Internet, registry: MakeOne) -> None:
    internet.protect(
        "ghcr.io/v2/", 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:org/app:pull"'
    )
    internet.routes["ghcr.io/token"] = json_reply({"token": "djE6b3JnL2FwcDoxNzAw"})
    internet.routes["ghcr.io/v2/org/app/manifests/v1"] = manifest_reply()
    internet.routes[f"ghcr.io/v2/org/app/blobs/{BLOB_DIGEST}"] = Reply(
        307, {"Location": f"https://pkg-containers.githubusercontent.com/ghcr1/blobs/{BLOB_DIGEST}?se=1&sig=s3cret"}
    )
    internet.routes[f"pkg-containers.githubusercontent.com/ghcr1/blobs/{BLOB_DIGEST}"] = Reply(200, {}, BLOB)
    github = registry("ghcr.io")
    await github.fetch_manifest("org/app", "v1", None)
    assert read_blob(github, "org/app") == BLOB
    assert internet.take() == [
        "GET ghcr.io/v2/org/app/manifests/v1",
        "GET ghcr.io/token",
        "GET ghcr.io/v2/org/app/manifests/v1 (Bearer)",
        f"GET ghcr.io/v2/org/app/blobs/{BLOB_DIGEST} (Bearer)",
        f"GET pkg-containers.githubusercontent.com/ghcr1/blobs/{BLOB_DIGEST}",
    ]


@pytest.mark.parametrize("status", [401, 403])
async def test_github_denies_what_is_private_or_missing_at_its_token_server(
    internet: Internet, registry: MakeOne, status: int
) -> None:
    internet.protect(
        "ghcr.io/v2/", 'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:org/app:pull"'
    )
    internet.routes["ghcr.io/token"] = error_reply(status, "DENIED", "requested access to the resource is denied")
    with pytest.raises(UpstreamDenied, match="DENIED: requested access"):
        await registry("ghcr.io").fetch_manifest("org/app", "v1", None)
    assert internet.take() == ["GET ghcr.io/v2/org/app/manifests/v1", "GET ghcr.io/token"]


async def test_quay_gives_tokens_below_its_own_api_and_blobs_from_its_content_network(
    internet: Internet, registry: MakeOne
) -> None:
    internet.protect(
        "quay.io/v2/prometheus/",
        'Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:prometheus/prometheus:pull"',
    )
    internet.routes["quay.io/v2/auth"] = json_reply({"token": "quay"})
    internet.routes["quay.io/v2/prometheus/prometheus/manifests/latest"] = manifest_reply()
    internet.routes[f"quay.io/v2/prometheus/prometheus/blobs/{BLOB_DIGEST}"] = Reply(
        302, {"Location": f"https://cdn01.quay.io/sha256/ab/{BLOB_DIGEST.hex}?Signature=s3cret"}
    )
    internet.routes[f"cdn01.quay.io/sha256/ab/{BLOB_DIGEST.hex}"] = Reply(200, {}, BLOB)
    quay = registry("quay.io")
    await quay.fetch_manifest("prometheus/prometheus", "latest", None)
    assert read_blob(quay, "prometheus/prometheus") == BLOB
    assert internet.take() == [
        "GET quay.io/v2/prometheus/prometheus/manifests/latest",
        "GET quay.io/v2/auth",
        "GET quay.io/v2/prometheus/prometheus/manifests/latest (Bearer)",
        f"GET quay.io/v2/prometheus/prometheus/blobs/{BLOB_DIGEST} (Bearer)",
        f"GET cdn01.quay.io/sha256/ab/{BLOB_DIGEST.hex}",
    ]


async def test_kubernetes_redirects_manifests_to_another_host_and_wants_no_token(
    internet: Internet, registry: MakeOne
) -> None:
    there = "us-west1-docker.pkg.dev/v2/k8s-artifacts-prod/images/pause/manifests/3.9"
    internet.routes["registry.k8s.io/v2/pause/manifests/3.9"] = Reply(307, {"Location": f"https://{there}"})
    internet.routes[there] = manifest_reply()
    kubernetes = registry("registry.k8s.io")
    assert (await kubernetes.head_manifest("pause", "3.9", None)).digest == digest_of(MANIFEST)
    assert (await kubernetes.fetch_manifest("pause", "3.9", None)).body == MANIFEST
    assert internet.take() == [
        "HEAD registry.k8s.io/v2/pause/manifests/3.9",
        f"HEAD {there}",
        "GET registry.k8s.io/v2/pause/manifests/3.9",
        f"GET {there}",
    ]


async def test_ecr_publics_token_serves_all_repositories(internet: Internet, registry: MakeOne) -> None:
    internet.protect(
        "public.ecr.aws/v2/", 'Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"'
    )
    internet.routes["public.ecr.aws/token/"] = json_reply({"token": "eyJ" + "x" * 2000 + "=="})
    for repository in ("docker/library/nginx", "docker/library/redis"):
        internet.routes[f"public.ecr.aws/v2/{repository}/manifests/latest"] = manifest_reply()
        internet.routes[f"public.ecr.aws/v2/{repository}/blobs/{BLOB_DIGEST}"] = Reply(
            307, {"Location": "https://d5l0dvt14r5h8.cloudfront.net/data?Expires=1&Signature=s3cret&Key-Pair-Id=K"}
        )
    internet.routes["d5l0dvt14r5h8.cloudfront.net/data"] = Reply(200, {}, BLOB)
    ecr = registry("public.ecr.aws")
    await ecr.fetch_manifest("docker/library/nginx", "latest", None)
    await ecr.fetch_manifest("docker/library/redis", "latest", None)
    assert read_blob(ecr, "docker/library/redis") == BLOB
    assert internet.take() == [
        "GET public.ecr.aws/v2/docker/library/nginx/manifests/latest",
        "GET public.ecr.aws/token/",
        "GET public.ecr.aws/v2/docker/library/nginx/manifests/latest (Bearer)",
        "GET public.ecr.aws/v2/docker/library/redis/manifests/latest (Bearer)",
        f"GET public.ecr.aws/v2/docker/library/redis/blobs/{BLOB_DIGEST} (Bearer)",
        "GET d5l0dvt14r5h8.cloudfront.net/data",
    ]
    assert internet.requests[1].query == {"service": ["public.ecr.aws"], "scope": ["aws"]}


async def test_ecr_public_refuses_head_of_blobs_to_everybody(internet: Internet, registry: MakeOne) -> None:
    challenge = 'Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"'
    internet.protect("public.ecr.aws/v2/", challenge)
    internet.routes["public.ecr.aws/token/"] = json_reply({"token": "eyJ"})
    blob = f"public.ecr.aws/v2/docker/library/nginx/blobs/{BLOB_DIGEST}"
    internet.routes[f"HEAD {blob}"] = error_reply(401, "UNAUTHORIZED", "Not Authorized", WWW_Authenticate=challenge)
    internet.routes[blob] = Reply(307, {"Location": "https://d5l0dvt14r5h8.cloudfront.net/data?Signature=s3cret"})
    first_byte = Reply(206, {"Content-Range": f"bytes 0-0/{len(BLOB)}"}, BLOB[:1])
    internet.routes["d5l0dvt14r5h8.cloudfront.net/data"] = first_byte
    ecr = registry("public.ecr.aws")
    assert await ecr.find_blob("docker/library/nginx", BLOB_DIGEST, None) == len(BLOB)
    by_get = [f"GET {blob} (Bearer)", "GET d5l0dvt14r5h8.cloudfront.net/data"]
    assert internet.take() == [f"HEAD {blob}", "GET public.ecr.aws/token/", f"HEAD {blob} (Bearer)", *by_get]
    assert await ecr.find_blob("docker/library/nginx", BLOB_DIGEST, None) == len(BLOB)
    assert internet.take() == by_get
    assert [asked.headers.get("range") for asked in internet.requests if asked.method == "GET"][-1] == "bytes=0-0"


async def test_a_private_ecr_wants_basic_and_gets_it_at_once_from_the_second_question_on(
    internet: Internet, registry: MakeOne
) -> None:
    challenge = 'Basic realm="https://registry.example.com/",service="ecr.amazonaws.com"'

    def answer(asked: Asked, sock: socket.socket) -> Reply:
        internet.asked.append(f"{asked.method} {asked.path} {asked.authorization.partition(' ')[0]}".rstrip())
        if not asked.authorization.startswith("Basic "):
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        return manifest_reply()

    internet.server.handler = answer
    ecr = registry("registry.example.com")
    await ecr.fetch_manifest("app", "1", CREDENTIAL)
    await ecr.fetch_manifest("app", "2", CREDENTIAL)
    assert internet.take() == [
        "GET /v2/app/manifests/1",
        "GET /v2/app/manifests/1 Basic",
        "GET /v2/app/manifests/2 Basic",
    ]
