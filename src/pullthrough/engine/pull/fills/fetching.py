"""The threads in which fills receive their bodies."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import ParamSpec, TypeVar

from pullthrough.engine.pull.fills.course import Course
from pullthrough.engine.pull.fills.readers import Readers
from pullthrough.engine.pull.fills.transfer import Answer, Transfer
from pullthrough.engine.rules import Target
from pullthrough.errors import DiskFull
from pullthrough.oci.digests import Digest
from pullthrough.storage.bodies import Sink, State, Told
from pullthrough.threads import wait_out
from pullthrough.upstream.errands import Errand
from pullthrough.upstream.http.abort import AbortHandle
from pullthrough.upstream.interfaces import Upstream

P = ParamSpec("P")
T = TypeVar("T")

#: What a fill's thread is nicer than the event loop: where they share a core, it has a sixth of it while the loop wants all
#: of it, and what is left otherwise (sched(7): a step is a factor of 1.25 in their shares).
_NICER = 7
#: More than there are transfers: `max_fills`, and one for each upstream beyond.
MAX_THREADS = 4096
#: What a leader tells takes at most.
TOLD_BYTES = 4096


class Fetcher:
    """Of one worker. `make_room` frees so many bytes of a full disk."""

    def __init__(self, make_room: Callable[[int], Awaitable[None]]) -> None:
        self._make_room = make_room
        #: Threads are made as they are needed: one a transfer, also of upstreams beyond the limit.
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="fill", initializer=_step_back)

    def close(self) -> None:
        self._threads.shutdown()

    async def tell(self, sink: Sink, told: Told) -> None:
        """Tell the followers. Raises DiskFull where there is no room even for that, and none could be made."""
        await wait_out(self._run(self._tell, asyncio.get_running_loop(), sink, told))

    async def receive(
        self, fetch: Fetch, sink: Sink, course: Course, readers: Readers, expected_bytes: int | None
    ) -> int:
        """Receive and verify the whole body, from what is here on; its size. Followers are told of the size as soon as the
        upstream has named it, and of the end. Raises as `Transfer.run` does."""
        loop = asyncio.get_running_loop()

        def size_known(size_bytes: int) -> None:
            if size_bytes != course.size_bytes:
                course.size_bytes = size_bytes
                self._tell(loop, sink, course.tell(State.FILLING))

        transfer = Transfer(
            digest=fetch.digest,
            sink=sink,
            upstream=fetch.target.upstream,
            open_body=fetch.open,
            expected_bytes=expected_bytes,
            stop=fetch.stop,
            progress=readers.wrote,
            size_known=size_known,
            make_room=lambda needed_bytes: self._wait_for_room(loop, needed_bytes),
            wait=fetch.stop.wait,
        )

        def receive() -> int:
            course.size_bytes = size_bytes = transfer.run()
            self._tell(loop, sink, course.tell(State.VERIFIED))
            return size_bytes

        return await wait_out(self._run(receive), fetch.interrupt)

    def _run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))

    # In a thread

    def _tell(self, loop: asyncio.AbstractEventLoop, sink: Sink, told: Told) -> None:
        try:
            sink.tell(told)
        except DiskFull:
            self._wait_for_room(loop, TOLD_BYTES)
            sink.tell(told)

    def _wait_for_room(self, loop: asyncio.AbstractEventLoop, needed_bytes: int) -> None:
        async def wait() -> None:
            await self._make_room(needed_bytes)

        asyncio.run_coroutine_threadsafe(wait(), loop).result()


class Fetch:
    """What one fill asks its upstream, and how that is ended."""

    def __init__(self, upstream: Upstream, target: Target, digest: Digest, errand: Errand) -> None:
        self.target = target
        self.digest = digest
        self.stop = threading.Event()
        self._upstream = upstream
        self._errand = errand
        self._abort = AbortHandle()

    def open(self, start: int, if_range: str) -> Answer:
        """Blocking. One request, or as many as the upstream's endpoints and retries allow."""
        return self._upstream.open_blob(
            self.target.upstream_repository,
            self.digest,
            self.target.rule.credential,
            start=start,
            if_range=if_range,
            errand=self._errand,
            abort=self._abort,
        )

    def interrupt(self) -> None:
        """End the transfer; what has arrived stays and can be continued."""
        self.stop.set()
        self._abort.abort()


def _step_back() -> None:
    """First in each of the fills' threads: it gets what the event loop leaves. On Linux a thread has a niceness of its own
    (setpriority(2)). Small answers wait for the loop; a fill that shares its core would otherwise have most of it.
    """
    with suppress(OSError):  # a container that forbids the call: fills work as well without
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + _NICER)
