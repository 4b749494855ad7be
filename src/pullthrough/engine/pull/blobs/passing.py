"""Blobs that no disk space is left for, passed from the upstream to one client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from pullthrough.engine.pull.fills.course import HOLD_BACK_BYTES
from pullthrough.engine.pull.fills.transfer import Answer
from pullthrough.engine.rules import Target
from pullthrough.errors import DigestMismatch, UpstreamUnavailable
from pullthrough.oci.digests import Digest, Hasher
from pullthrough.storage.bodies import Body
from pullthrough.threads import Runner, wait_out
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstreams

_CHUNK_BYTES = 256 * 1024


class Passing:
    """Of one worker. `run_slow` is the threads for bodies."""

    def __init__(self, upstreams: Upstreams, run_slow: Runner) -> None:
        self._upstreams = upstreams
        self._run_slow = run_slow

    async def __call__(
        self, target: Target, digest: Digest, sent: Body | None, *, start: int, stop: int | None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` on, straight from the upstream. One GET for each client.

        With `stop` None, to the end, and verified: what was sent before is in `sent`, and the last bytes are held back until
        the digest matches; DigestMismatch comes before them if it does not. With `stop`, a range, which cannot be verified.
        """
        upstream = self._upstreams.get(target.upstream)
        abort = AbortHandle()
        loop = asyncio.get_running_loop()
        hasher = digest.hasher()
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        hold_back = HOLD_BACK_BYTES if stop is None else 0

        def open_body() -> Answer:
            return upstream.open_blob(
                target.upstream_repository, digest, target.rule.credential, start=start, stop=stop, abort=abort
            )

        async with upstream.admit(target.upstream_repository):
            if stop is None:
                await self._rehash(hasher, sent, start, target, digest)
            body = await wait_out(loop.run_in_executor(upstream.threads, open_body), abort.abort)
            try:
                skip = start - body.start
                left = None if stop is None else stop - start
                held = b""
                while left != 0:
                    reading = loop.run_in_executor(upstream.threads, body.readinto, buffer)
                    count = await wait_out(reading, abort.abort)
                    if not count:
                        break
                    chunk = bytes(buffer[:count])
                    if skip:
                        skip, chunk = max(0, skip - len(chunk)), chunk[skip:]
                    if left is not None:
                        chunk = chunk[:left]
                        left -= len(chunk)
                    hasher.update(chunk)
                    held += chunk
                    if len(held) > hold_back:
                        cut = len(held) - hold_back
                        yield held[:cut]
                        held = held[cut:]
            finally:
                body.close()
            if stop is None and not digest.matches(hasher):
                raise DigestMismatch(
                    f"{target.upstream} sent something else when asked for {digest}",
                    expected=digest,
                    actual=f"{digest.algorithm}:{hasher.hexdigest()}",
                )
            if held:
                yield held

    async def _rehash(self, hasher: Hasher, sent: Body | None, size_bytes: int, target: Target, digest: Digest) -> None:
        offset = 0
        while offset < size_bytes:
            chunk = await sent.read(offset, min(_CHUNK_BYTES, size_bytes - offset)) if sent else b""
            if not chunk:
                raise UpstreamUnavailable(f"the bytes of {digest} that were sent are gone", upstream=target.upstream)
            await self._run_slow(hasher.update, chunk)
            offset += len(chunk)
