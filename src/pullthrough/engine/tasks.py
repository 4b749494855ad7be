"""Work that outlives the request that began it: owned here, so that it is awaited, logged and ended with the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, TypeVar

from pullthrough.errors import PullthroughError
from pullthrough.fairness.asker import ASKER
from pullthrough.fairness.gate import LINE, Line

_log = logging.getLogger(__name__)
T = TypeVar("T")


class Tasks:
    """The engine's background tasks. An error in one is logged and hurts no other."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flights: dict[object, tuple[asyncio.Task[Any], Line]] = {}

    def spawn(self, work: Coroutine[Any, Any, T], *, name: str, context: Context | None = None) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # marks it as seen: whoever waits for the task gets it too
        if error is not None and not isinstance(error, PullthroughError):
            _log.error("%s failed", task.get_name(), exc_info=error)

    async def once(self, key: object, work: Callable[[], Coroutine[Any, Any, T]], *, name: str) -> tuple[T, bool]:
        """Run `work` for `key` unless it is running; everybody who asks meanwhile gets the one result or error.

        The second value is whether this call joined one that was running. A caller that goes away does not end the work.
        Where that waits for an upstream, it does so in the line of each client that asks.
        """
        flight: asyncio.Task[T]
        known = self._flights.get(key)
        if known is not None:
            flight, line = known
            line.join(ASKER.get())
        else:
            line, context = Line(), copy_context()
            context.run(LINE.set, line)
            flight = self.spawn(work(), name=name, context=context)
            self._flights[key] = flight, line
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight), known is not None

    def is_flying(self, key: object) -> bool:
        return key in self._flights

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        while self._tasks:
            tasks = list(self._tasks)
            await asyncio.sleep(0)  # one that is cancelled before its first step never comes to its `finally`
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
