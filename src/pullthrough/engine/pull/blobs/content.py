"""What a client gets of a blob: something that can be sent, wherever the bytes come from.

    stored          a body that is here
    following       a body on its way in, read along
    no room         a body that no disk space is left for: passed through

`BlobAnswer.body` decides how a part of it is had, and gives pieces in their order: parts of open bodies, which a face may
send by whatever means it has, or bytes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from pullthrough.engine.bodies import OpenBody
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.pull.fills.fill import Fill
from pullthrough.engine.rules import Target
from pullthrough.errors import ContentError, DiskFull, UpstreamError
from pullthrough.oci.digests import Digest
from pullthrough.oci.ranges import ByteRange
from pullthrough.storage.bodies import Body

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes `start` up to, not including, `stop` of a body that stays open until the next piece is asked for."""

    body: Body
    start: int
    stop: int


Pieces = AsyncGenerator[Part | bytes, None]


class Content(Protocol):
    """A blob that is here, or on its way."""

    @property
    def size_bytes(self) -> int | None:
        """None while nobody has named it."""
        ...

    @property
    def is_verified(self) -> bool:
        """Whether the digest of the whole is known to match."""
        ...

    @property
    def body(self) -> Body | None:
        """What can be read; None where nothing of it is kept, or before `wait` has returned."""
        ...

    async def wait(self, offset: int) -> int:
        """Where the bytes that may be sent end, once there are some behind `offset`; `offset` itself at the end."""
        ...

    def close(self) -> None: ...


class Stored:
    """A published blob."""

    is_verified = True

    def __init__(self, opened: OpenBody) -> None:
        self._opened = opened
        self.body: Body | None = opened.body
        self.size_bytes: int | None = opened.size_bytes
        self._end = opened.size_bytes

    async def wait(self, offset: int) -> int:
        return self._end

    def close(self) -> None:
        self._opened.close()


class Following:
    """A fill, read along."""

    def __init__(self, fill: Fill) -> None:
        self._fill = fill
        self._is_open = True
        fill.attach()

    @property
    def size_bytes(self) -> int | None:
        return self._fill.course.size_bytes

    @property
    def is_verified(self) -> bool:
        return self._fill.course.is_verified

    @property
    def body(self) -> Body | None:
        return self._fill.body

    @property
    def arrived_bytes(self) -> int:
        """Up to where it has come, the part that is held back included."""
        return self._fill.course.arrived.end

    async def wait(self, offset: int) -> int:
        return await self._fill.wait(offset)

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._fill.detach()


class NoRoom:
    """A blob that no disk space is left for."""

    body = None
    is_verified = False

    def __init__(self, size_bytes: int | None, error: DiskFull) -> None:
        self.size_bytes = size_bytes
        self._error = error

    async def wait(self, offset: int) -> int:
        raise self._error

    def close(self) -> None:
        """Nothing is open."""


class Ahead(Protocol):
    """Fetches a range by itself; see `RangesAhead`."""

    def is_far_ahead(self, arrived_bytes: int, wanted: ByteRange) -> bool: ...
    def fetch(self, target: Target, digest: Digest, wanted: ByteRange) -> Awaitable[bytes]: ...


class PassThrough(Protocol):
    """Passes bytes through that are not kept; see `pull.passing.Passing`."""

    def __call__(
        self, target: Target, digest: Digest, sent: Body | None, *, start: int, stop: int | None
    ) -> AsyncGenerator[bytes, None]: ...


@dataclass(frozen=True, slots=True)
class BlobPieces:
    """A blob's bytes, or a part of them, to be sent once. Whoever stops in the middle closes `pieces`."""

    outcome: Outcome
    pieces: Pieces


class BlobAnswer:
    """A blob that is had, or comes. Whoever gets it closes it.

    `is_late`: nothing has come yet, and the client shall not wait for its headers any longer: the body is sent so that its
    failure can be told, without a length.
    """

    def __init__(
        self,
        target: Target,
        digest: Digest,
        content: Content,
        outcome: Outcome,
        *,
        ahead: Ahead,
        pass_through: PassThrough,
        is_late: bool = False,
    ) -> None:
        self.target = target
        self.digest = digest
        self.outcome = outcome
        self.is_late = is_late
        self._content = content
        self._ahead = ahead
        self._pass_through = pass_through

    @property
    def size_bytes(self) -> int | None:
        """None while nobody has named it."""
        return self._content.size_bytes

    async def wait_until_whole(self) -> int:
        """Wait for all of it; its size."""
        offset = 0
        while (end := await self._content.wait(offset)) > offset:
            offset = end
        return offset

    async def body(self, wanted: ByteRange | None) -> BlobPieces:
        """All of it, or a range: what is here or comes, or, far ahead of what comes, fetched by itself.

        Unless it is late, waits for the first byte: an error that comes before any is still answered as an error. Raises
        what a fill ends with.
        """
        if wanted is not None and self._is_far_ahead(wanted):
            try:
                data = await self._ahead.fetch(self.target, self.digest, wanted)
            except (UpstreamError, ContentError) as error:
                _log.info("%s@%s: the range is waited for: %s", self.target.repository, self.digest, error.message)
            else:
                reason = "fetched ahead of the fill"
                outcome = Outcome(CacheResult.MISS, self.target.rule.prefix, None, reason, verified=False)
                return BlobPieces(outcome, _one(data))
        # The client may have all of a range before the digest of the whole is known.
        is_sure = wanted is None or self._content.is_verified
        outcome = self.outcome if is_sure else replace(self.outcome, verified=False)
        start = wanted.start if wanted else 0
        if not self.is_late:
            try:
                await self._content.wait(start)
            except DiskFull:
                pass  # passed through then
        return BlobPieces(outcome, self._pieces(start, wanted.stop if wanted else None))

    def _is_far_ahead(self, wanted: ByteRange) -> bool:
        content = self._content
        # One that is late would have to wait in the same queue.
        return (
            isinstance(content, Following)
            and not self.is_late
            and self._ahead.is_far_ahead(content.arrived_bytes, wanted)
        )

    async def _pieces(self, start: int, stop: int | None) -> Pieces:
        """Where the disk is full before the end, the rest comes straight from the upstream."""
        content, offset = self._content, start
        try:
            while stop is None or offset < stop:
                end = await content.wait(offset)
                if end <= offset:
                    return
                end = end if stop is None else min(end, stop)
                assert content.body is not None  # there are bytes
                yield Part(content.body, offset, end)
                offset = end
        except DiskFull:
            rest = self._pass_through(self.target, self.digest, content.body, start=offset, stop=stop)
            async with aclosing(rest):
                async for chunk in rest:
                    yield chunk

    def close(self) -> None:
        """May be called twice."""
        self._content.close()


async def _one(data: bytes) -> Pieces:
    yield data
