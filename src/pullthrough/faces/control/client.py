"""The command line's end of the control socket. Blocking."""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path

from pullthrough.errors import ConfigurationError, PullthroughError, UpstreamUnavailable
from pullthrough.operations.json_form import from_json
from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, RequestT

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

    def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        """Without a time limit: a check, which reads every stored body, takes as long as it takes.

        Raises EngineError, and UpstreamUnavailable where the engine does not answer as it should.
        """
        connection = _UnixConnection(self._path)
        body = None if operation.method == "GET" else json.dumps(operation.document(request)).encode()
        try:
            connection.request(
                operation.method, f"/{operation.name}", body, {"Content-Type": "application/json"} if body else {}
            )
            response = connection.getresponse()
            answer = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken("went away before it answered") from error
        finally:
            connection.close()
        try:
            document = json.loads(answer)
        except ValueError as error:
            raise self._broken(f"answered {response.status} with something other than JSON") from error
        if response.status == 200 and isinstance(document, dict):
            try:
                return from_json(operation.answer, document)
            except ValueError as error:
                raise self._broken(f"answered as another version of it would: {error}") from error
        error_body = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error_body, dict):
            raise self._broken(f"answered {response.status} without saying why")
        raise EngineError(
            str(error_body.get("reference", PullthroughError.reference)),
            str(error_body.get("message", "")),
            str(error_body.get("hint", "")),
        )

    def _broken(self, what: str) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"the engine at {self._path} {what}",
            upstream="the engine",
            hint="see the engine's log; the command may be repeated",
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
