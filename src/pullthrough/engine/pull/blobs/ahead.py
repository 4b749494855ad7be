"""Ranges far ahead of what has come of a blob: fetched by themselves, held in memory while they are sent."""

from __future__ import annotations

import asyncio
import sys

from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import SizeMismatch, UpstreamUnavailable
from pullthrough.fairness.gate import Gate
from pullthrough.fairness.queue import FairQueue, one_each
from pullthrough.oci.digests import Digest
from pullthrough.oci.ranges import ByteRange
from pullthrough.threads import wait_out
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstreams

#: The longest range that is fetched ahead of a fill.
MAX_AHEAD_BYTES = 8 * 1024 * 1024
#: How many such ranges a worker holds at once, and one of each upstream beyond; more wait.
_AT_ONCE = 8


class RangesAhead:
    """Of one worker. A range that begins more than `ahead_bytes` behind what has come is not waited for."""

    def __init__(self, upstreams: Upstreams, tasks: Tasks, ahead_bytes: int) -> None:
        self._upstreams = upstreams
        self._tasks = tasks
        self._ahead_bytes = ahead_bytes
        self._gate = Gate(FairQueue(_AT_ONCE, one_each, places=sys.maxsize))

    def is_far_ahead(self, arrived_bytes: int, wanted: ByteRange) -> bool:
        """Whether a range is better fetched by itself than waited for."""
        return wanted.size_bytes <= MAX_AHEAD_BYTES and wanted.start > arrived_bytes + self._ahead_bytes

    async def fetch(self, target: Target, digest: Digest, wanted: ByteRange) -> bytes:
        """The bytes of a range, from the upstream, unverified: their digest is known only when the fill ends. One GET.

        The same range asked for by several clients at once is fetched once. Raises UpstreamError or SizeMismatch.
        """
        data, _ = await self._tasks.once(
            ("ahead", target.owner, target.secret, digest, wanted),
            lambda: self._fetch(target, digest, wanted),
            name=f"range of {target.repository}@{digest}",
        )
        return data

    async def _fetch(self, target: Target, digest: Digest, wanted: ByteRange) -> bytes:
        upstream = self._upstreams.get(target.upstream)
        abort = AbortHandle()

        def fetch() -> bytes:
            body = upstream.open_blob(
                target.upstream_repository,
                digest,
                target.rule.credential,
                start=wanted.start,
                stop=wanted.stop,
                abort=abort,
            )
            try:
                if body.start != wanted.start:
                    raise UpstreamUnavailable(f"{target.upstream} does not serve ranges", upstream=target.upstream)
                data = bytearray(wanted.size_bytes)
                view, filled = memoryview(data), 0
                while filled < len(data) and (count := body.readinto(view[filled:])):
                    filled += count
                if filled < len(data):
                    raise SizeMismatch(f"{target.upstream} sent {filled:,} of the {len(data):,} bytes of a range")
                return bytes(data)
            finally:
                body.close()

        # The upstream's own queue first: whoever waits there holds nobody else's place.
        async with upstream.admit(target.upstream_repository), self._gate.hold(target.upstream):
            return await wait_out(asyncio.get_running_loop().run_in_executor(upstream.threads, fetch), abort.abort)
