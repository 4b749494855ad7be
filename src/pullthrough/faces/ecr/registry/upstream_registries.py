"""Upstreams as the API names them: what it takes and refuses of their URLs and credentials. No I/O."""

from __future__ import annotations

from pullthrough.faces.ecr.parameters import invalid
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.oci.ecr_upstreams import ECR, WANT_SECRET, kind_of, upstream_host
from pullthrough.settings import is_upstream_host


def read_upstream(url: str, given_kind: str | None, *, strict: bool) -> str | None:
    """AWS's name for the upstream of a rule that is to be made; None for one that AWS does not know.

    Strict takes what AWS takes: bare hosts of the nine kinds. Else any registry's host will do, `https://` before it
    too. Raises ApiError.
    """
    host = upstream_host(url)
    if not is_upstream_host(host) or (strict and host != url):
        why = "a registry's host is wanted, such as quay.io, without a scheme or a path"
        if url.startswith("http://"):
            why = (
                "plain HTTP is not spoken to upstreams by their name; name the host, and set "
                f'[upstreams."{url.removeprefix("http://")[:200]}"] endpoint in pullthrough.toml'
            )
        raise _unsupported(url, why)
    kind = kind_of(host)
    if kind is None and strict:
        raise _unsupported(url, "AWS does not know it, and [ecr] strict = true allows only what AWS knows")
    if kind is not None and given_kind is not None and kind != given_kind:
        raise invalid("upstreamRegistry", f"{host} is {kind}, not {given_kind}")
    return kind or given_kind


def check_credential(kind: str | None, credential_arn: str | None, custom_role_arn: str | None) -> None:
    """What AWS asks of credentials; for strict mode. Raises ApiError."""
    if kind in WANT_SECRET and credential_arn is None:
        raise ApiError(
            "UnsupportedUpstreamRegistryException",
            "The specified upstream registry requires authentication. Specify a valid Secrets Manager ARN in "
            "credentialArn and try again.",
        )
    if kind not in WANT_SECRET and credential_arn is not None:
        raise invalid("credentialArn", f"an upstream of the kind {kind} takes no secret")
    if kind != ECR and custom_role_arn is not None:
        raise invalid("customRoleArn", f"it goes with an upstream of the kind {ECR} only")


def _unsupported(url: str, why: str) -> ApiError:
    return ApiError(
        "UnsupportedUpstreamRegistryException",
        f"The upstream registry URL {url[:300]} is invalid. Specify a valid upstream registry URL and try again ({why})",
    )
