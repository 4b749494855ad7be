"""Blocking work in threads, asked for on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Runner(Protocol):
    """Runs a blocking function in a thread of some pool."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


async def wait_out(work: Awaitable[T], cancel: Callable[[], object] = lambda: None) -> T:
    """Wait for work in a thread to its end, also when cancelled: it uses what is closed after that.

    `cancel` is called then, to hasten that end. What the work raises after it is nobody's.
    """
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        cancel()
        await asyncio.wait((future,))
        if not future.cancelled():
            future.exception()  # marks it as seen: asyncio would log it with its traceback
        raise
