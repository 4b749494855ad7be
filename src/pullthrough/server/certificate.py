"""The listeners' certificate, which can be read again while they serve."""

from __future__ import annotations

import ssl
from typing import NoReturn

from pullthrough.errors import ConfigurationError
from pullthrough.settings import ServeSettings


def make_tls(serve: ServeSettings) -> ssl.SSLContext | None:
    if serve.tls_cert is None or serve.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, serve)
    return context


def load_certificate(context: ssl.SSLContext, serve: ServeSettings) -> None:
    assert serve.tls_cert is not None
    try:
        context.load_cert_chain(serve.tls_cert, serve.tls_key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"the certificate {serve.tls_cert} with the key {serve.tls_key} cannot be used: {error}",
            hint="tls_cert and tls_key must be PEM files that belong together, the key without a pass phrase",
        ) from error


def _no_password() -> NoReturn:
    raise ValueError("the key has a pass phrase")
