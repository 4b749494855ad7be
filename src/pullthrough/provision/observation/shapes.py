"""Shapes that several of AWS's answers have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from pullthrough.provision.model.resources import Json


def tags_of(tags: Iterable[Mapping[str, str]] | None) -> dict[str, Json]:
    return {tag["Key"]: tag["Value"] for tag in tags or ()}


def seconds_of(when: object) -> float | None:
    return when.timestamp() if isinstance(when, datetime) else None
