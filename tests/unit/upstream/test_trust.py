from __future__ import annotations

import pytest

from pullthrough.errors import UpstreamInvalid, UpstreamRefused
from pullthrough.upstream.http.urls import parse_url
from pullthrough.upstream.login.trust import redirect_target, trusted_realm

HUB = "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("endpoint", "realm", "token_realms"),
    [
        (HUB, "https://auth.docker.io/token", ()),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", ()),
        ("https://ghcr.io", "https://ghcr.io/token", ()),
        ("https://quay.io", "https://quay.io/v2/auth", ()),
        ("https://public.ecr.aws", "https://public.ecr.aws/token/", ()),
        ("https://registry.example.com:5050", "https://registry.example.com/jwt/auth", ()),
        ("http://127.0.0.1:5009", "http://127.0.0.1:6000/token", ()),
        ("http://127.0.0.1:5009", "https://127.0.0.1/token", ()),
        ("https://registry.example.com", "https://auth.example.com/token", ("auth.example.com",)),
        ("https://registry.example.com", "https://AUTH.example.com:8443/token", ("auth.example.com:8443",)),
    ],
)
def test_the_realms_of_registries_in_use_and_of_the_settings_are_trusted(
    endpoint: str, realm: str, token_realms: tuple[str, ...]
) -> None:
    url = trusted_realm(realm, endpoint=parse_url(endpoint), token_realms=token_realms, upstream="u")
    assert url == parse_url(realm)


@pytest.mark.parametrize(
    ("endpoint", "realm", "token_realms"),
    [
        (HUB, "https://evil.example.net/token", ()),
        (HUB, "https://auth.docker.io.evil.example.net/token", ()),
        (HUB, "https://evil-auth.docker.io/token", ()),
        (HUB, "https://xauth.docker.io/token", ()),
        (HUB, "https://docker.io/token", ()),
        (HUB, "http://auth.docker.io/token", ()),
        (HUB, "https://user@auth.docker.io/token", ()),
        (HUB, "https://evil.example.net#@auth.docker.io/token", ()),
        (HUB, "https://evil.example.net\\@auth.docker.io/token", ()),
        ("https://ghcr.io", "https://github.com/token", ()),
        # An endpoint takes the place of the upstream's own host: the table is not for whoever is put before it.
        ("https://mirror.corp", "https://auth.docker.io/token", ()),
        ("https://registry.example.com", "https://auth.example.com:8443/token", ("auth.example.com",)),
        ("https://registry.example.com", "https://auth.example.com/token", ("auth.example.com:8443",)),
        ("https://registry.example.com", "https://sub.auth.example.com/token", ("auth.example.com",)),
        ("https://registry.example.com", "http://auth.example.com/token", ("auth.example.com",)),
        ("https://registry.example.com", "//auth.example.com/token", ("auth.example.com",)),
        ("https://registry.example.com", "/token", ()),
        ("https://registry.example.com", "file:///etc/passwd", ()),
    ],
)
def test_any_other_realm_is_refused(endpoint: str, realm: str, token_realms: tuple[str, ...]) -> None:
    with pytest.raises(UpstreamRefused):
        trusted_realm(realm, endpoint=parse_url(endpoint), token_realms=token_realms, upstream="u")


def test_the_refusal_names_the_host_and_says_what_to_set() -> None:
    with pytest.raises(UpstreamRefused, match=r"evil\.example\.net") as caught:
        trusted_realm("https://evil.example.net/t", endpoint=parse_url(HUB), token_realms=(), upstream="the.upstream")
    assert 'token_realms = ["evil.example.net"]' in caught.value.hint


def test_a_redirect_from_https_to_http_is_refused() -> None:
    with pytest.raises(UpstreamRefused, match="plain HTTP"):
        redirect_target("http://quay.io/x", current=parse_url("https://quay.io/"), upstream="u")


@pytest.mark.parametrize(
    "location", ["ftp://h/", "https://user:s3cret@h/", "https://h/\x01", "https://", "https://h:0/"]
)
def test_a_redirect_that_is_no_plain_address_is_refused(location: str) -> None:
    with pytest.raises(UpstreamRefused) as caught:
        redirect_target(location, current=parse_url("http://h/"), upstream="u")
    assert "s3cret" not in caught.value.message


def test_a_redirect_without_a_location_is_invalid() -> None:
    with pytest.raises(UpstreamInvalid, match="Location"):
        redirect_target("", current=parse_url("https://h/"), upstream="u")
