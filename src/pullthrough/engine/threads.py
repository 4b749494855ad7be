"""The threads that the parts of one worker share."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_CATALOG_THREADS = 4
#: Reading cold windows, ranges, and verifying after a restart of the machine.
_BODY_THREADS = 16


class Threads:
    """Two pools, so that what is quick never waits for what is slow. Both methods are called on the event loop."""

    def __init__(self) -> None:
        self._catalog = ThreadPoolExecutor(_CATALOG_THREADS, thread_name_prefix="catalog")
        #: For those who need an executor.
        self.bodies = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="body")

    def catalog(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run a question to the catalog, or something else that is as short."""
        return asyncio.get_running_loop().run_in_executor(self._catalog, functools.partial(function, *args, **kwargs))

    def body(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run what reads or writes bodies, or may take long for another reason."""
        return asyncio.get_running_loop().run_in_executor(self.bodies, functools.partial(function, *args, **kwargs))

    def close(self) -> None:
        """Waits for what runs."""
        self._catalog.shutdown()
        self.bodies.shutdown()
