"""What may be asked of a registry: a call, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from pullthrough.upstream.exchanges import Call
from pullthrough.upstream.transport import Response

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """`read` runs in the thread that asks, and belongs to the try. It raises UpstreamError, also for what is no answer."""

    call: Call
    read: Callable[[Response], T]
