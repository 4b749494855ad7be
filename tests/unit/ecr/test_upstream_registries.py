"""Which upstreams a rule may have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.faces.ecr.registry.upstream_registries import check_credential, read_upstream
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.ecr_upstreams import kind_of, upstream_host
from pullthrough.settings import is_upstream_host

SECRET = "arn:aws:secretsmanager:us-east-1:123456789012:secret:ecr-pullthroughcache/hub-AbCdEf"


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("public.ecr.aws", "ecr-public"),
        ("registry-1.docker.io", "docker-hub"),
        ("myown.azurecr.io", "azure-container-registry"),
        ("my.own.azurecr.io", None),
        ("azurecr.io", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com", "ecr"),
        ("123456789012.dkr-ecr.us-east-1.on.aws", "ecr"),
        ("1234.dkr.ecr.us-east-1.amazonaws.com", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example", None),
        ("quay.io.evil.example", None),
        ("quay.io:8443", None),
    ],
)
def test_the_kind_of_a_host(host: str, kind: str | None) -> None:
    assert kind_of(host) == kind


@given(st.text(max_size=40) | st.from_regex(r"(https?://)?[a-z0-9.:/-]{1,30}", fullmatch=True), st.booleans())
def test_any_text_is_a_host_or_refused(url: str, strict: bool) -> None:
    refusal = kind = None
    try:
        kind = read_upstream(url, None, strict=strict)
    except ApiError as error:
        refusal = error.code
    if refusal is not None:
        assert refusal == "UnsupportedUpstreamRegistryException"
        return
    assert is_upstream_host(upstream_host(url))
    if strict:
        assert kind is not None
        assert upstream_host(url) == url


@pytest.mark.parametrize("kind", ["quay", "k8s", "ecr-public", "ecr"])
def test_what_needs_no_login_takes_no_secret(kind: str) -> None:
    check_credential(kind, None, None)
    with pytest.raises(ApiError, match="credentialArn"):
        check_credential(kind, SECRET, None)


@pytest.mark.parametrize("kind", ["docker-hub", "github-container-registry", "gitlab-container-registry", "chainguard"])
def test_what_needs_a_login_needs_a_secret(kind: str) -> None:
    check_credential(kind, SECRET, None)
    with pytest.raises(ApiError, match="requires authentication"):
        check_credential(kind, None, None)
    with pytest.raises(ApiError, match="customRoleArn"):
        check_credential(kind, SECRET, "arn:aws:iam::123456789012:role/pulls")
