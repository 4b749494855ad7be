"""Where an upstream may not lead this client, and what it may not take along."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from pullthrough.declaration import CredentialSource
from pullthrough.errors import UpstreamError, UpstreamInvalid, UpstreamRefused
from pullthrough.oci.digests import digest_of
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.http.address_classes import AddressClass
from pullthrough.upstream.interfaces import Upstream
from tests.integration.upstream.clients import Make, Recorder, one, over_tls
from tests.integration.upstream.conftest import Certificates
from tests.integration.upstream.servers import Asked, Reply, Server, error_reply, json_reply

MANIFEST = b'{"schemaVersion": 2}'
CREDENTIAL = CredentialSource("acme", access_token_env="TOKEN")
ENVIRON = {"TOKEN": "s3cret"}
#: What 127.0.0.1, where the endpoint is, passes for in these tests.
PUBLIC = {"127.0.0.1": AddressClass.PUBLIC}


def redirecting(location: str | Callable[[Asked], str], status: int = 307) -> Callable[[Asked, socket.socket], Reply]:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        return Reply(status, {"Location": location if isinstance(location, str) else location(asked)})

    return answer


def serving(asked: Asked, sock: socket.socket) -> Reply:
    return Reply(200, {}, MANIFEST)


async def ask(upstream: Upstream) -> None:
    await upstream.fetch_manifest("a", "1", None)


@pytest.mark.parametrize(
    "passes_for",
    [
        AddressClass.LOOPBACK,
        AddressClass.PRIVATE,
        AddressClass.LINK_LOCAL,
        AddressClass.SHARED,
        AddressClass.UNSPECIFIED,
        AddressClass.MULTICAST,
        AddressClass.RESERVED,
        AddressClass.METADATA,
    ],
)
async def test_a_public_upstream_cannot_redirect_into_the_neighbourhood(
    upstreams: Make, passes_for: AddressClass
) -> None:
    with Server(serving, host="127.0.0.2") as target, Server(redirecting(f"{target.url}/x")) as server:
        upstream = one(upstreams, server, classes={**PUBLIC, "127.0.0.2": passes_for})
        with pytest.raises(UpstreamRefused, match=rf"127\.0\.0\.2:{target.port}.*{passes_for.value}"):
            await ask(upstream)
        assert target.connections == 0


@pytest.mark.parametrize("passes_for", [AddressClass.LOOPBACK, AddressClass.PRIVATE, AddressClass.SHARED])
async def test_an_upstream_may_redirect_within_its_own_class_of_addresses(
    upstreams: Make, passes_for: AddressClass
) -> None:
    with Server(serving, host="127.0.0.2") as target, Server(redirecting(f"{target.url}/x")) as server:
        upstream = one(upstreams, server, classes={"127.0.0.1": passes_for, "127.0.0.2": passes_for})
        await ask(upstream)
        assert target.lines == ["GET /x"]


async def test_a_private_upstream_may_redirect_to_the_internet_but_not_back_to_another_class(upstreams: Make) -> None:
    with (
        Server(serving, host="127.0.0.3") as inside,
        Server(redirecting(f"{inside.url}/x"), host="127.0.0.2") as outside,
        Server(redirecting(f"{outside.url}/x")) as server,
    ):
        classes = {
            "127.0.0.1": AddressClass.PRIVATE,
            "127.0.0.2": AddressClass.PUBLIC,
            "127.0.0.3": AddressClass.LOOPBACK,
        }
        with pytest.raises(UpstreamRefused):
            await ask(one(upstreams, server, classes=classes))
        assert (outside.connections, inside.connections) == (1, 0)


async def test_metadata_is_refused_even_where_the_endpoint_is_link_local_itself(upstreams: Make) -> None:
    with Server(redirecting("http://169.254.169.254/latest/meta-data/")) as server:
        upstream = one(upstreams, server, classes={"127.0.0.1": AddressClass.LINK_LOCAL})
        with pytest.raises(UpstreamRefused, match="metadata"):
            await ask(upstream)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://169.254.169.254",
        "http://[fd00:ec2::254]",
        "http://metadata.google.internal",
        "http://[::ffff:a9fe:a9fe]",
    ],
)
async def test_metadata_is_refused_as_an_endpoint_too(upstreams: Make, endpoint: str) -> None:
    with pytest.raises(UpstreamRefused, match="metadata"):
        await ask(one(upstreams, endpoint))


async def test_a_name_is_judged_by_the_address_that_is_connected_to(upstreams: Make, recorder: Recorder) -> None:
    with Server(redirecting("http://evil.example.net:8080/x")) as server:
        upstream = one(upstreams, server, classes=PUBLIC, hosts={"evil.example.net": "10.0.0.5"})
        with pytest.raises(UpstreamRefused, match=r"evil\.example\.net:8080.*private") as caught:
            await ask(upstream)
    assert "10.0.0.5" not in str(caught.value)
    assert recorder.requests == [("registry.example.com", "GET", 307)]


async def test_a_name_with_a_good_and_a_bad_address_is_connected_to_at_the_good_one(upstreams: Make) -> None:
    with Server(serving) as target:

        def look_up(host: str, port: int, **options: object) -> list[object]:
            addresses = [("10.0.0.5", port), ("127.0.0.1", target.port)]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]

        with Server(redirecting("http://two.example.net/x")) as server:
            await ask(one(upstreams, server, resolver=look_up, classes=PUBLIC))
        assert target.lines == ["GET /x"]


async def test_a_kept_connection_is_judged_again(upstreams: Make) -> None:
    """A connection that one upstream's endpoint was allowed to have does not open the way for a redirect."""
    with Server(serving, host="127.0.0.2") as private, Server(redirecting(f"{private.url}/x")) as public:
        upstream = one(
            upstreams,
            public,
            classes={**PUBLIC, "127.0.0.2": AddressClass.PRIVATE},
        )
        for _ in range(2):
            with pytest.raises(UpstreamRefused):
                await ask(upstream)
        assert private.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_authorization_does_not_cross_to_another_host_or_port_and_does_not_come_back(
    upstreams: Make, status: int
) -> None:
    with Server(lambda asked, sock: None) as server, Server(redirecting(f"{server.url}/back", status)) as target:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            if asked.path == "/back":
                return Reply(200, {}, MANIFEST)
            if asked.path == "/token":
                return json_reply({"token": "bearer-s3cret"})
            if not asked.authorization:
                challenge = f'Bearer realm="{server.url}/token"'
                return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
            return Reply(status, {"Location": f"{target.url}/there"})

        server.handler = answer
        await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
        assert [asked.authorization for asked in target.asked] == [""]
        assert server.asked[-1].path == "/back"
        assert server.asked[-1].authorization == ""


async def test_authorization_stays_on_a_redirect_within_the_host(upstreams: Make) -> None:
    def answer(asked: Asked, sock: socket.socket) -> Reply:
        if not asked.authorization:
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate="Basic")
        return Reply(200, {}, MANIFEST) if asked.path == "/elsewhere" else Reply(307, {"Location": "/elsewhere"})

    with Server(answer) as server:
        await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
    assert [bool(asked.authorization) for asked in server.asked] == [False, True, True]


async def test_a_challenge_from_behind_a_redirect_gets_nothing(upstreams: Make) -> None:
    def challenge(asked: Asked, sock: socket.socket) -> Reply:
        return error_reply(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="give me"')

    with Server(challenge) as target, Server(redirecting(f"{target.url}/x")) as server:
        with pytest.raises(UpstreamError, match="redirected to"):
            await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
        assert [asked.authorization for asked in target.asked] == [""]


async def test_a_redirect_loop_is_refused(upstreams: Make) -> None:
    with Server(redirecting(lambda asked: asked.target)) as server:
        with pytest.raises(UpstreamRefused, match="circle"):
            await ask(one(upstreams, server))
        assert len(server.asked) == 1


async def test_at_most_five_redirects_are_followed(upstreams: Make) -> None:
    def further(asked: Asked) -> str:
        return f"/step?n={int(asked.query.get('n', ['0'])[0]) + 1}"

    with Server(redirecting(further)) as server:
        with pytest.raises(UpstreamRefused, match="more than 5"):
            await ask(one(upstreams, server))
        assert len(server.asked) == 6


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("", UpstreamInvalid),
        ("ftp://h/x", UpstreamRefused),
        ("http://user:pw@h/x", UpstreamRefused),
        ("javascript:alert(1)", UpstreamRefused),
        ("http://h/\x01", UpstreamInvalid),
    ],
)
async def test_a_redirect_to_no_address_is_an_error(upstreams: Make, location: str, error: type[UpstreamError]) -> None:
    with Server(redirecting(location)) as server:
        with pytest.raises(error):
            await ask(one(upstreams, server))
        assert len(server.asked) == 1


async def test_https_is_never_left_for_http(upstreams: Make, certificates: Certificates) -> None:
    with Server(serving) as plain, Server(redirecting(f"{plain.url}/x"), tls=certificates.server()) as server:
        upstream = upstreams(
            settings={"registry.example.com": over_tls(certificates.ca)}, hosts={"registry.example.com": server}
        ).get("registry.example.com")
        with pytest.raises(UpstreamRefused, match="plain HTTP"):
            await ask(upstream)
        assert plain.connections == 0


async def test_a_hostile_realm_gets_no_credential_and_no_connection(upstreams: Make) -> None:
    with Server(serving, host="127.0.0.2") as thief:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            challenge = f'Bearer realm="{thief.url}/token",service="x"'
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=challenge)

        with Server(answer) as server:
            with pytest.raises(UpstreamRefused, match=rf"127\.0\.0\.2:{thief.port}") as caught:
                await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
            assert "token_realms" in caught.value.hint
        assert thief.connections == 0


async def test_a_realm_named_in_the_settings_is_used(upstreams: Make) -> None:
    with Server(lambda asked, sock: json_reply({"token": "t"}), host="127.0.0.2") as realm:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            if asked.authorization:
                return Reply(200, {}, MANIFEST)
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{realm.url}/token"')

        with Server(answer) as server:
            upstream = one(upstreams, server, token_realms=(f"127.0.0.2:{realm.port}",), environ=ENVIRON)
            await upstream.fetch_manifest("a", "1", CREDENTIAL)
        assert realm.asked[0].authorization.startswith("Basic ")


async def test_a_realm_in_the_neighbourhood_of_a_public_upstream_is_refused(upstreams: Make) -> None:
    with Server(serving, host="127.0.0.2") as realm:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            return error_reply(401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="{realm.url}/token"')

        with Server(answer) as server:
            upstream = one(
                upstreams,
                server,
                token_realms=(f"127.0.0.2:{realm.port}",),
                classes={**PUBLIC, "127.0.0.2": AddressClass.PRIVATE},
                environ=ENVIRON,
            )
            for _ in range(2):
                with pytest.raises(UpstreamRefused, match="private"):
                    await upstream.fetch_manifest("a", "1", CREDENTIAL)
        assert realm.connections == 0


async def test_a_token_server_cannot_pass_the_credential_on(upstreams: Make) -> None:
    with Server(lambda asked, sock: json_reply({"token": "t"}), host="127.0.0.2") as thief:

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            if asked.path == "/token":
                return Reply(307, {"Location": f"{thief.url}/token"})
            if asked.authorization:
                return Reply(200, {}, MANIFEST)
            return error_reply(
                401, "UNAUTHORIZED", WWW_Authenticate=f'Bearer realm="http://{asked.headers["host"]}/token"'
            )

        with Server(answer) as server:
            await one(upstreams, server, environ=ENVIRON).fetch_manifest("a", "1", CREDENTIAL)
        assert [asked.authorization for asked in thief.asked] == [""]


async def test_urls_inside_manifests_are_never_fetched(upstreams: Make) -> None:
    digest = digest_of(b"layer")
    with Server(serving, host="127.0.0.2") as foreign:
        manifest = (
            '{"schemaVersion":2,"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar",'
            f'"digest":"{digest}","size":5,"urls":["{foreign.url}/layer"]}}]}}'
        ).encode()

        def answer(asked: Asked, sock: socket.socket) -> Reply:
            return Reply(200, {}, manifest) if "manifests" in asked.path else error_reply(404, "BLOB_UNKNOWN")

        with Server(answer) as server:
            upstream = one(upstreams, server)
            await ask(upstream)
            with pytest.raises(UpstreamError):
                upstream.open_blob("a", digest, None, abort=AbortHandle())
        assert foreign.connections == 0


async def test_signed_addresses_are_in_no_error(upstreams: Make) -> None:
    def broken(asked: Asked, sock: socket.socket) -> Reply:
        return error_reply(403, "AccessDenied", f"see http://{asked.headers['host']}{asked.target}")

    with (
        Server(broken) as target,
        Server(redirecting(f"{target.url}/blob?X-Amz-Signature=s3cret")) as server,
        pytest.raises(UpstreamError) as caught,
    ):
        await ask(one(upstreams, server))
    assert "s3cret" not in str(caught.value)
    assert "AccessDenied" in str(caught.value)
