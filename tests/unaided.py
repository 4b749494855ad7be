"""What unit and contract tests do without: a network, and time that passes.

A socket other than AF_UNIX (which event loops are made of) fails the test, and so does a sleep: `time.sleep` wherever it
is called from, and `asyncio.sleep` by the test itself. Code under test may have tasks that sleep on a loop; no test waits
for them. A sleep of 0, which only lets others have their turn, is none.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, SupportsIndex

from pytest_socket import disable_socket, enable_socket

_HERE = str(Path(__file__).parent)
_sleep, _sleep_on_the_loop = time.sleep, asyncio.sleep
_refusing = False


class Slept(Exception):
    """A test that must not sleep did."""


def _checked_sleep(seconds: SupportsIndex | float) -> None:
    if _refusing and float(seconds) > 0:
        raise Slept(f"time.sleep({seconds}) in a unit test")
    _sleep(seconds)


def _checked_sleep_on_the_loop(delay: float, result: Any = None) -> Coroutine[Any, Any, Any]:
    if _refusing and delay > 0 and sys._getframe(1).f_code.co_filename.startswith(_HERE):
        raise Slept(f"asyncio.sleep({delay}) in a unit test")
    return _sleep_on_the_loop(delay, result)


def watch_sleep() -> None:
    """Before anything imports the two functions by name."""
    time.sleep = _checked_sleep
    asyncio.sleep = _checked_sleep_on_the_loop


@contextmanager
def unaided() -> Iterator[None]:
    global _refusing
    _refusing = True
    disable_socket(allow_unix_socket=True)
    try:
        yield
    finally:
        enable_socket()
        _refusing = False
