"""A registry client that pushes, request by request, as the distribution specification has them."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from pullthrough.demo.images import Blob, Image, StoredManifest
from tests.e2e.engine import Answer, Engine

#: A socket to one worker, or the engine's address, for a connection of its own.
Way = socket.socket | None


@dataclass(frozen=True)
class Pusher:
    """Pushes to one repository. `headers` go with every request."""

    engine: Engine
    repository: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        way: Way = None,
    ) -> Answer:
        """`path` is below the repository's, or begins with a slash. A body in parts is sent in chunks."""
        url = urlsplit(self.engine.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        if way is not None:
            connection.sock = way
        try:
            path = path if path.startswith("/") else f"/v2/{self.repository}/{path}"
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)
        finally:
            if way is None:
                connection.close()

    # Uploads

    def begin(self, way: Way = None) -> str:
        """The location of a new upload."""
        answer = self.ask("POST", "blobs/uploads/", b"", way=way)
        assert answer.status == 202, answer
        return location_of(answer)

    def patch(self, location: str, body: bytes | Iterable[bytes], start: int | None = None, way: Way = None) -> Answer:
        headers = {}
        if start is not None:
            assert isinstance(body, bytes)
            headers["Content-Range"] = f"{start}-{start + len(body) - 1}"
        return self.ask("PATCH", location, body, headers, way)

    def put(
        self, location: str, digest: str, body: bytes = b"", headers: Mapping[str, str] | None = None, way: Way = None
    ) -> Answer:
        return self.ask("PUT", f"{location}?digest={quote(digest)}", body, headers, way)

    def arrived(self, location: str, way: Way = None) -> int:
        """How many bytes have, as the engine says; 1 may be none."""
        answer = self.ask("GET", location, way=way)
        assert answer.status == 204, answer
        match = re.fullmatch(r"0-(\d+)", answer.headers["range"])
        assert match
        return int(match[1]) + 1

    # Whole things

    def blob(self, blob: Blob) -> Answer:
        return self.put(self.begin(), blob.digest, blob.read())

    def manifest(self, manifest: StoredManifest, reference: str = "") -> Answer:
        headers = {"Content-Type": manifest.media_type}
        return self.ask("PUT", f"manifests/{reference or manifest.digest}", manifest.body, headers)

    def push(self, image: Image, tag: str = "") -> None:
        """Blobs, then the manifests of its children, then its own."""
        for blob in image.blobs:
            assert self.blob(blob).status == 201
        for child in image.children:
            self.push(child)
        answer = self.manifest(image.manifest, tag)
        assert answer.status == 201, answer
        assert answer.headers["docker-content-digest"] == image.digest

    def pull(self, reference: str, way: Way = None) -> Answer:
        return self.ask("GET", f"manifests/{reference}", way=way)

    def read(self, digest: str, way: Way = None) -> Answer:
        return self.ask("GET", f"blobs/{digest}", way=way)


def location_of(answer: Answer) -> str:
    """Where the client is to go on: it may take it as it is."""
    location = answer.headers["location"]
    assert re.fullmatch(r"/v2/[a-z0-9/-]+/blobs/uploads/[0-9a-f-]{36}", location), location
    assert answer.headers["docker-upload-uuid"] == location.rpartition("/")[2]
    return location
