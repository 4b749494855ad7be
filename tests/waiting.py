"""Waiting without a sleep, for tests of parts that work in other threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Long enough for a busy machine; reaching it is a failure, never a result.
PATIENCE_SECONDS = 60.0


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds, which other threads and tasks bring about."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            time.sleep(0)  # noqa: ASYNC251 - gives the other threads the interpreter
            await asyncio.sleep(0)


def no_sleep(seconds: float) -> None:
    """In place of `time.sleep`: time flies."""
