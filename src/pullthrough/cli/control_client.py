"""The client of a running engine's control socket: HTTP/1.1 over a unix socket, JSON both ways.

    POST /refresh {"image"}   POST /pin {"image"}   POST /unpin {"image"}   POST /evict {"dry_run"}   POST /check {}
    POST /lifecycle {"repository", "dry_run"}
    POST /events {"limit"}   POST /keys {"action", "name", "role"}   GET /status

An answer is 200 with a JSON object, or 4xx/5xx with {"error": {"reference", "message", "hint"}}. Who may open the
socket (mode 0600) may do all of this; there is no other authentication.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullthrough.errors import ConfigurationError, PullthroughError, UpstreamUnavailable

#: A local socket connects at once or not at all; the engine's accept queue may be full for a moment.
CONNECT_TIMEOUT_SECONDS = 5.0
#: An answer's limit; the longest is a check's or an eviction's list, some 200 bytes an entry.
MAX_ANSWER_BYTES = 256 * 1024 * 1024
#: sun_path holds 108 bytes with its end: unix(7).
_MAX_SOCKET_PATH_BYTES = 107


class EngineError(PullthroughError):
    """What the engine answered: its own error, under its reference."""

    def __init__(self, reference: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.reference = reference


class ControlClient:
    """Operations of the engine that holds a data folder. Each call is one connection."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_live(self) -> bool:
        """Whether an engine answers at the socket. Raises ConfigurationError where it is another user's."""
        try:
            _connect(self._path).close()
        except PermissionError as error:
            raise ConfigurationError(
                f"{self._path} belongs to another user",
                hint="run the command as the user that runs the engine",
            ) from error
        except OSError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        return self._call("GET", "/status", None)

    def refresh(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/refresh", request)

    def pin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/pin", request)

    def unpin(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/unpin", request)

    def evict(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/evict", request)

    def lifecycle(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/lifecycle", request)

    def events(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/events", request)

    def keys(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/keys", request)

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """No time limit: reading every stored body takes as long as it takes."""
        return self._call("POST", "/check", request)

    def _call(self, method: str, path: str, request: Mapping[str, Any] | None) -> dict[str, Any]:
        connection = _UnixConnection(self._path)
        body = None if request is None else json.dumps(request).encode()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(f"the engine at {self._path} went away before it answered") from error
        finally:
            connection.close()
        try:
            document = json.loads(answer)
        except ValueError as error:
            raise self._broken(
                f"the engine at {self._path} answered {response.status} with something other than JSON"
            ) from error
        if response.status == 200 and isinstance(document, dict):
            return document
        error_body = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error_body, dict):
            raise self._broken(f"the engine at {self._path} answered {response.status} without saying why")
        raise EngineError(
            str(error_body.get("reference", PullthroughError.reference)),
            str(error_body.get("message", "")),
            str(error_body.get("hint", "")),
        )

    def _broken(self, message: str) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            message, upstream="the engine", hint="see the engine's log; the command may be repeated"
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = _connect(self._path)
        self.sock.settimeout(None)


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(CONNECT_TIMEOUT_SECONDS)
        if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
            connection.connect(str(path))
        else:
            # A path too long for the system call is reached through its folder.
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
    except BaseException:
        connection.close()
        raise
    return connection
