"""Those who read along with a body on its way in."""

from __future__ import annotations

import asyncio

from pullthrough.engine.pull.fills.course import Course


class Readers:
    """The readers of one fill in one worker. On its event loop only, but for `wrote`."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._wake_scheduled = False
        #: Who has the body open, and will read more of it.
        self.count = 0
        #: Set when one comes or goes: a fill's place in the queue depends on whether there is any.
        self.changed = asyncio.Event()

    def attach(self) -> None:
        self.count += 1
        self.changed.set()

    def detach(self) -> None:
        self.count -= 1
        self.changed.set()

    async def wait(self, offset: int) -> int:
        """Wait for bytes behind `offset`; returns where they end for now. Equal to `offset` only at the body's end.

        Raises what ended the fill, once all bytes that may be sent have been given out.
        """
        course = self._course
        while True:
            end = course.visible_end(offset)
            if end > offset or course.is_verified:
                return end
            if course.error is not None:
                raise course.error
            future: asyncio.Future[None] = self._loop.create_future()
            entry = (offset, future)
            self._waiting.append(entry)
            try:
                await future
            finally:
                if entry in self._waiting:
                    self._waiting.remove(entry)

    def wrote(self, start: int, stop: int) -> None:
        """In the thread that writes."""
        self._course.wrote(start, stop)
        if not self._wake_scheduled:
            self._wake_scheduled = True
            self._loop.call_soon_threadsafe(self.wake)

    def wake(self) -> None:
        """Let those go on for whom there is something."""
        self._wake_scheduled = False
        if not self._waiting:
            return
        course = self._course
        waiting: list[tuple[int, asyncio.Future[None]]] = []
        for offset, future in self._waiting:
            if course.is_over or course.visible_end(offset) > offset:
                if not future.done():
                    future.set_result(None)
            else:
                waiting.append((offset, future))
        self._waiting = waiting
