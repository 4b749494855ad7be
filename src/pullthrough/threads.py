"""Blocking work in threads, asked for on the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CATALOG_THREADS = 4
#: Reading cold windows, ranges, and verifying after a restart of the machine.
_BODY_THREADS = 16


class Runner(Protocol):
    """Runs a blocking function in a thread of some pool."""

    def __call__(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]: ...


class Threads:
    """Of one worker: two pools, so that what is quick never waits for what is slow. Both methods are called on the event loop."""

    def __init__(self) -> None:
        self._catalog = ThreadPoolExecutor(_CATALOG_THREADS, thread_name_prefix="catalog")
        self._bodies = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="body")

    def catalog(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run a question to the catalog, or something else that is as short."""
        return asyncio.get_running_loop().run_in_executor(self._catalog, functools.partial(function, *args, **kwargs))

    def body(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run what reads or writes bodies, or may take long for another reason."""
        return asyncio.get_running_loop().run_in_executor(self._bodies, functools.partial(function, *args, **kwargs))

    def close(self) -> None:
        """Waits for what runs."""
        self._catalog.shutdown()
        self._bodies.shutdown()


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
