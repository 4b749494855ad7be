"""What unit and contract tests do without: a network, and time that passes.

A socket other than AF_UNIX (which event loops are made of) fails the test, and so does a sleep: `time.sleep` in a test or
the code under test (the standard library sleeps between looks at a child), `asyncio.sleep` in a test. Code under test may
have tasks that sleep on a loop; no test waits for them. A sleep of 0, which only gives others their turn, is none.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, SupportsIndex

from pytest_socket import disable_socket, enable_socket

_sleep, _sleep_on_the_loop = time.sleep, asyncio.sleep
_refusing = False


class Slept(Exception):
    """A test that must not sleep did."""


def _caller() -> str:
    """The package that called the function that asks."""
    name: str = sys._getframe(2).f_globals.get("__name__", "")
    return name.partition(".")[0]


def _checked_sleep(seconds: SupportsIndex | float) -> None:
    if _refusing and float(seconds) > 0 and _caller() in ("pullthrough", "tests"):
        raise Slept(f"time.sleep({seconds}) in a unit test")
    _sleep(seconds)


def _checked_sleep_on_the_loop(delay: float, result: Any = None) -> Coroutine[Any, Any, Any]:
    if _refusing and delay > 0 and _caller() == "tests":
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
