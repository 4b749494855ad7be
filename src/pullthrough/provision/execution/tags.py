"""Tags as AWS takes them, and what makes those that are there as they are to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast


def tag_list(tags: object) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(cast("Mapping[str, str]", tags).items())]


def tag_changes(before: object, after: object) -> tuple[dict[str, str], list[str]]:
    """Tags to set, and keys of tags to take away."""
    was, wanted = cast("Mapping[str, str]", before or {}), cast("Mapping[str, str]", after)
    return {key: value for key, value in wanted.items() if was.get(key) != value}, sorted(set(was) - set(wanted))
