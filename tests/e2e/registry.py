"""Debian's docker-registry as the upstream: plain, or behind tokens, with every request it got counted."""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.e2e.certificates import Certificate
from tests.e2e.images import Content, Image, Index
from tests.e2e.processes import Process, environment, free_port, wait_for
from tests.programs import needs

_ACCESS = re.compile(r'"([A-Z]+) (\S+) HTTP/1\.[01]" (\d{3}) (\d+) ')
_MARK = "/v2/?mark="


@dataclass(frozen=True)
class Request:
    """One line of the registry's access log."""

    method: str
    path: str
    status: int
    body_bytes: int

    @property
    def what(self) -> str:
        """The request as the tests count it: `GET manifest by tag`; a failure adds its status."""
        said = f"{self.method} {_kind(self.path)}"
        return said if self.status < 400 else f"{said} -> {self.status}"


def _kind(path: str) -> str:
    match path.split("?")[0].strip("/").split("/"):
        case ["v2"]:
            return "ping"
        case ["v2", *_, "manifests", reference]:
            return "manifest by digest" if ":" in reference else "manifest by tag"
        case ["v2", *_, "blobs", _]:
            return "blob"
        case ["v2", *_, "tags", "list"]:
            return "tags"
        case ["v2", *_, "referrers", _]:
            return "referrers"
    return path


class Registry:
    """One running docker-registry over `storage`; many may share a storage folder, each has a log of its own."""

    def __init__(self, folder: Path, storage: Path, *, auth: str = "") -> None:
        folder.mkdir()
        self.port = free_port()
        self._folder = folder
        self._config = folder / "registry.yml"
        self._config.write_text(
            f"""
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {storage}}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}
http: {{addr: "127.0.0.1:{self.port}", secret: for-tests}}
{auth}
"""
        )
        self._process: Process | None = None
        self._marks = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def start(self) -> None:
        self._process = Process(
            "docker-registry",
            [needs("docker-registry"), "serve", self._config],
            env=environment(self._folder),
            log=self._folder / "log",
        )
        self._process.wait_until(self._answers, "docker-registry to answer")

    def stop(self) -> None:
        """Nothing listens on the port from here on: what clients get now, they get from the cache."""
        if self._process:
            self._process.stop()
            self._process = None

    def _answers(self) -> bool:
        try:
            with connection(self.port) as http_connection:
                http_connection.request("GET", f"{_MARK}0")
                return http_connection.getresponse().status in {200, 401}
        except OSError:
            return False

    def requests(self) -> list[Request]:
        """Every request answered so far, by anybody but this class."""
        self._marks += 1
        path = f"{_MARK}{self._marks}"
        with connection(self.port) as http_connection:
            http_connection.request("GET", path)
            http_connection.getresponse().read()
        log = self._folder / "log"
        wait_for(lambda: f" {path} " in log.read_text(), "the registry to log a request")
        found = [
            Request(method, path, int(status), int(size))
            for method, path, status, size in _ACCESS.findall(log.read_text())
        ]
        return [request for request in found if not request.path.startswith(_MARK)]

    def asked(self) -> Counter[str]:
        """How often each kind of request came: `{"GET manifest by tag": 1, "GET blob": 4}`."""
        return Counter(request.what for request in self.requests())

    def push(self, name: str, tag: str, content: Image | Index) -> None:
        """Store the blobs and manifests under `name`; the outermost manifest gets `tag`, or only its digest if empty."""
        for blob in content.everything:
            self.push_blob(name, blob.digest, blob.body)
        for manifest in content.manifests:
            outermost = manifest is content.manifest
            self.push_manifest(name, tag if outermost and tag else manifest.digest, manifest)

    def push_blob(self, name: str, digest: str, body: bytes) -> None:
        with connection(self.port) as http_connection:
            http_connection.request("POST", f"/v2/{name}/blobs/uploads/", headers={"Content-Length": "0"})
            answer = http_connection.getresponse()
            answer.read()
            assert answer.status == 202, answer.status
            place = urlsplit(answer.headers["Location"])
            http_connection.request(
                "PUT",
                f"{place.path}?{place.query}&digest={digest}",
                body=body,
                headers={"Content-Type": "application/octet-stream"},
            )
            answer = http_connection.getresponse()
            said = answer.read()
            assert answer.status == 201, said

    def push_manifest(self, name: str, reference: str, manifest: Content) -> None:
        with connection(self.port) as http_connection:
            http_connection.request(
                "PUT",
                f"/v2/{name}/manifests/{reference}",
                body=manifest.body,
                headers={"Content-Type": manifest.media_type},
            )
            answer = http_connection.getresponse()
            said = answer.read()
            assert answer.status == 201, said


def adopt_blob(storage: Path, name: str, digest: str, file: Path) -> None:
    """Move `file` to where docker-registry keeps blobs: for one that is too large to push in a test.

    https://distribution.github.io/distribution/about/architecture/
    """
    hexadecimal = digest.removeprefix("sha256:")
    root = storage / "docker" / "registry" / "v2"
    blob = root / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal
    link = root / "repositories" / name / "_layers" / "sha256" / hexadecimal
    blob.mkdir(parents=True)
    link.mkdir(parents=True)
    file.rename(blob / "data")
    (link / "link").write_text(digest)


@contextmanager
def connection(port: int, *, timeout: float = 30.0) -> Iterator[http.client.HTTPConnection]:
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        yield opened
    finally:
        opened.close()


@dataclass
class TokenServer:
    """Gives out registry tokens as `auth: token` of docker-registry wants them.

    https://distribution.github.io/distribution/spec/auth/jwt/. Each request is counted by who asked and the scope.
    """

    certificate: Certificate
    #: Name to password; a name that is not here, or a wrong password, gets 401.
    users: dict[str, str]
    #: Whether nobody in particular may pull.
    anonymous: bool
    port: int = 0
    asked: Counter[str] = field(default_factory=Counter)

    @property
    def registry_auth(self) -> str:
        return f"""
auth:
  token:
    realm: http://127.0.0.1:{self.port}/token
    service: registry.test
    issuer: tests
    rootcertbundle: {self.certificate.cert}
"""

    @contextmanager
    def serving(self) -> Iterator[None]:
        tokens = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, answer = tokens.answer(self.path, self.headers.get("Authorization", ""))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_port
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, object]]:
        query = parse_qs(urlsplit(path).query)
        scopes = query.get("scope", [])
        user = self._user(authorization)
        who = "refused" if user is None else user or "anonymous"
        self.asked[f"{who} {' '.join(scopes)}".strip()] += 1
        if user is None or (not user and not self.anonymous):
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": sorted({"pull"} & set(actions.split(",")))})
        now = int(time.time())
        claims = {
            "iss": "tests",
            "sub": user,
            "aud": query["service"][0],
            "exp": now + 300,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        return 200, {"token": self._sign(claims), "expires_in": 300}

    def _user(self, authorization: str) -> str | None:
        """The name that proved itself, the empty string for nobody, None for a failed attempt."""
        if not authorization:
            return ""
        kind, _, encoded = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
        return name if kind == "Basic" and self.users.get(name) == password else None

    def _sign(self, claims: dict[str, object]) -> str:
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.certificate.der_base64]}
        signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{_base64url(self.certificate.sign(signed.encode()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
