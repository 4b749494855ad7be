"""Long lists of values, cut for statements: databases limit how many one may name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

#: Values that one statement names.
PART = 500

_T = TypeVar("_T")


def in_parts(values: Iterable[_T]) -> Iterator[list[_T]]:
    """The values in lists of at most PART, taken as they are needed."""
    rest = iter(values)
    while part := list(islice(rest, PART)):
        yield part
