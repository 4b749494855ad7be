"""A registry as the client sees it: one address, one session, every failure an error of ours.

Nothing is retried: what fails here fails visibly. A login goes to the registry's own host only.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from pullthrough.client.answers import refusal
from pullthrough.client.reports import FetchReport, ImagePart, parse_source
from pullthrough.errors import (
    ConfigurationError,
    DigestInvalid,
    DigestMismatch,
    SizeMismatch,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnavailable,
)
from pullthrough.oci import media_types
from pullthrough.oci.digests import Digest, digest_of, parse_digest
from pullthrough.oci.manifests import MAX_MANIFEST_BYTES, Manifest, parse_manifest
from pullthrough.oci.names import ImageReference, canonical_host

CONNECT_TIMEOUT_SECONDS = 10.0
#: Longer than an engine lets a cold pull wait for its turn (30 s) and for the upstream's first byte (15 s).
STALL_TIMEOUT_SECONDS = 60.0
_MAX_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password of the registry itself, sent with each request (RFC 7617)."""

    username: str
    password: str = field(repr=False)

    @property
    def authorization(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class PulledManifest:
    """A manifest, verified, and how it came."""

    manifest: Manifest
    report: FetchReport


@asynccontextmanager
async def open_registry(
    registry: str,
    *,
    login: Login | None = None,
    connections: int = 4,
    stall_timeout_seconds: float = STALL_TIMEOUT_SECONDS,
    use_proxies: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[RegistryClient]:
    """The registry at the URL `registry`. `use_proxies`: whether HTTPS_PROXY, HTTP_PROXY and NO_PROXY count.

    Raises ConfigurationError where it is not the URL of a host.
    """
    base = parse_registry(registry)
    connector = aiohttp.TCPConnector(limit=connections)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=stall_timeout_seconds)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        # A body is verified as it travels; a transfer encoding that nobody asked for shows up as a wrong size.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity", "User-Agent": "pullthrough"},
        trust_env=use_proxies,
    ) as session:
        yield RegistryClient(session, base, login, clock)


def parse_registry(registry: str) -> URL:
    try:
        url = URL(registry)
        wrong = url.scheme not in ("http", "https") or not url.host or url.path != "/" or url.query or url.user
    except ValueError:
        wrong = True
    if wrong:
        raise ConfigurationError(
            "the registry's address is not the URL of a host", hint="write it like http://127.0.0.1:5000"
        )
    return url


class RegistryClient:
    """Its session belongs to `open_registry`."""

    def __init__(
        self, session: aiohttp.ClientSession, base: URL, login: Login | None, clock: Callable[[], float]
    ) -> None:
        self._session = session
        self._base = base
        self._login = login
        self._clock = clock

    def __str__(self) -> str:
        return str(self._base)

    @property
    def host(self) -> str:
        return self._base.authority

    def _is_at(self, host: str) -> bool:
        default_port = ":443" if self._base.scheme == "https" else ":80"
        return canonical_host(host).removesuffix(default_port) == self.host.lower().removesuffix(default_port)

    async def fetch_manifest(
        self, image: ImageReference, reference: str | None = None, *, size_bytes: int | None = None
    ) -> PulledManifest:
        """The manifest at `reference`, else at the image's own. `size_bytes` is what an index said about it."""
        reference = image.reference if reference is None else reference
        what = f"the manifest {image.repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"
        started = self._clock()
        async with self.get(image, "manifests", reference, what, accept=media_types.ACCEPT) as response:
            first_byte_seconds = self._clock() - started
            body = await self._read_limited(response, what)
        seconds = self._clock() - started
        digest = self._verify_manifest(what, reference, body, response.headers.get("Docker-Content-Digest"))
        if size_bytes is not None and len(body) != size_bytes:
            raise SizeMismatch(f"{what} has {len(body)} bytes; its index says {size_bytes}")
        manifest = parse_manifest(body, response.headers.get("Content-Type", ""))
        return PulledManifest(
            manifest,
            FetchReport(
                part=ImagePart.INDEX if manifest.is_index else ImagePart.MANIFEST,
                digest=digest,
                size_bytes=len(body),
                seconds=seconds,
                first_byte_seconds=first_byte_seconds,
                source=parse_source(response.headers.get("X-Cache")),
            ),
        )

    def _verify_manifest(self, what: str, reference: str, body: bytes, stated: str | None) -> Digest:
        """The manifest's digest: the one asked for, else the one stated, else the body's own."""
        if isinstance(reference, Digest):
            expected = reference
        elif stated is not None:
            try:
                expected = parse_digest(stated)
            except DigestInvalid as error:
                raise UpstreamInvalid(
                    f"{self.host} sent {what} with a Docker-Content-Digest that is none", upstream=self.host
                ) from error
        else:
            return digest_of(body)
        actual = digest_of(body, expected.algorithm)
        if actual != expected:
            raise DigestMismatch(
                f"{what} is not what it should be: expected {expected}, got {actual}", expected=expected, actual=actual
            )
        return expected

    async def _read_limited(self, response: aiohttp.ClientResponse, what: str) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_MANIFEST_BYTES:
                raise UpstreamInvalid(
                    f"{self.host} sent more than {MAX_MANIFEST_BYTES:,} bytes for {what}", upstream=self.host
                )
        return bytes(body)

    @asynccontextmanager
    async def get(
        self, image: ImageReference, kind: str, reference: str, what: str, *, accept: str = "*/*"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 200, its body not read yet; everything else is raised.

        A host in the image that is not the registry's own is sent as containerd sends it to mirrors (`ns=<host>`).
        """
        query = {"ns": image.host} if image.host and not self._is_at(image.host) else {}
        url = self._base.joinpath("v2", *image.repository.split("/"), kind, reference).with_query(query)
        headers = {"Accept": accept}
        if self._login:
            # The HTTP client takes it off where a redirect leads to another host.
            headers["Authorization"] = self._login.authorization
        try:
            async with self._session.get(url, headers=headers, max_redirects=_MAX_REDIRECTS) as response:
                if response.status != 200:
                    raise refusal(
                        registry=self.host,
                        what=what,
                        status=response.status,
                        body=await self._read_limited(response, what),
                        retry_after=response.headers.get("Retry-After"),
                        logged_in=self._login is not None,
                    )
                yield response
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{self.host} sent nothing for too long while asked for {what}", upstream=self.host
            ) from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise UpstreamRefused(
                f"the certificate of {self.host} is not one that this machine trusts",
                upstream=self.host,
                hint="SSL_CERT_FILE=<its CA in a PEM file> makes it trusted",
            ) from error
        except aiohttp.ClientConnectorSSLError as error:
            raise UpstreamRefused(
                f"no TLS with {self.host}",
                upstream=self.host,
                hint="where it serves plain HTTP, write http:// instead of https://",
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise UpstreamUnavailable(
                f"no connection to {self.host}: {error.os_error.strerror or type(error.os_error).__name__}",
                upstream=self.host,
                hint="is the engine running there? `pullthrough serve` starts one",
            ) from error
        except aiohttp.TooManyRedirects as error:
            raise UpstreamInvalid(
                f"{self.host} redirects without end when asked for {what}", upstream=self.host
            ) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise UpstreamUnavailable(
                f"{self.host} broke the connection off while asked for {what}", upstream=self.host
            ) from error
        except aiohttp.ClientError as error:
            raise UpstreamInvalid(
                f"{self.host} gave no usable answer for {what} ({type(error).__name__})", upstream=self.host
            ) from error
