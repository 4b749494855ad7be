"""What the workers of one engine know together about upstreams: the seam for where that is kept.

Each kind of record has one owner, the class that decides with it. Records are frozen, and what becomes of them is computed
by functions that are told the time. Today every worker has a `MemoryState` of its own and learns by itself; what all workers
must agree on now is elsewhere: "not found" in the catalog, locks in `storage`.

| records | owner | what they are |
| --- | --- | --- |
| `breakers` | `Breaker` | failures in a row of an endpoint, and until when it is left alone |
| `budgets` | `Budget` | what is left of a rate limit, and until when an upstream is not asked |
| `tokens of …` | `Tokens` | bearer tokens: credentials, never to leave this process unsealed |
| `refusals of …` | `Identities` | credentials that were refused, not to be tried again for a while |
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)
V = TypeVar("V")
R = TypeVar("R")


class Records(Protocol[K_contra, V]):
    """Records of one kind, by key. Any thread."""

    def get(self, key: K_contra, /) -> V | None: ...

    def change(self, key: K_contra, change: Callable[[V | None], tuple[V | None, R]], /) -> R:
        """Put what `change` makes of the record in its place, None to take it away, and give what it answers: in one step
        for all who share it. The same again is no change.

        `change` may be run again where another one came between, so it does nothing but compute."""


class SharedState(Protocol):
    """Any thread."""

    def now(self) -> float:
        """Seconds by the one clock that records of all who share this are written and read by."""

    def records(self, name: str, *, most: int | None = None) -> Records[K, V]:
        """Those of this name, the same each time. Of more than `most`, the ones that were written longest ago go."""


class MemoryRecords(Generic[K, V]):
    def __init__(self, most: int | None) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._records: dict[K, V] = {}

    def get(self, key: K, /) -> V | None:
        return self._records.get(key)

    def change(self, key: K, change: Callable[[V | None], tuple[V | None, R]], /) -> R:
        with self._lock:
            before = self._records.get(key)
            record, answer = change(before)
            if record is before or record == before:
                return answer
            self._records.pop(key, None)
            if record is not None:
                self._records[key] = record
                if self._most is not None and len(self._records) > self._most:
                    del self._records[next(iter(self._records))]
        return answer


class MemoryState:
    """The state of one process, gone with it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.now = monotonic
        self._lock = threading.Lock()
        self._records: dict[str, MemoryRecords[Any, Any]] = {}

    def records(self, name: str, *, most: int | None = None) -> Records[K, V]:
        with self._lock:
            return self._records.setdefault(name, MemoryRecords(most))
