"""What a listener answers: a list of faces, of which the first one that takes a request handles it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
#: From the bytes of a request and the client's address to the whole answer, or None for the ordinary path.
FastAnswer = Callable[[bytes, str], bytes | None]


class Face(Protocol):
    """One kind of request and its answers, such as those of a registry."""

    @property
    def at_once(self) -> FastAnswer | None:
        """Answers plain requests from their bytes; None where the face has no such path."""
        ...

    def takes(self, request: web.BaseRequest) -> bool:
        """Whether the request is this face's. The last face of a listener takes every one."""
        ...

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Raises ConnectionError where the client has gone; every other failure is answered."""
        ...


class Faces:
    """The faces of one listener, in the order in which they are asked."""

    def __init__(self, *faces: Face) -> None:
        self._faces = faces
        self._fast = tuple(face.at_once for face in faces if face.at_once is not None)

    @property
    def at_once(self) -> FastAnswer | None:
        return self._answer_at_once if self._fast else None

    def _answer_at_once(self, data: bytes, client: str) -> bytes | None:
        for answer in self._fast:
            if (found := answer(data, client)) is not None:
                return found
        return None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        for face in self._faces:
            if face.takes(request):
                return await face.handle(request)
        raise AssertionError("the last face takes every request")
