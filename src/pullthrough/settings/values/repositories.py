"""Names of repositories and images, and patterns of such."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pullthrough.declaration import ROOT
from pullthrough.errors import RequestError
from pullthrough.oci.names import parse_image_reference, parse_repository_name
from pullthrough.settings.values.base import PathBase, ValueType, is_not, text_of, texts_of
from pullthrough.settings.values.quantities import Duration


@dataclass(frozen=True, slots=True)
class RepositoryPrefix(ValueType[str]):
    accepted = "leading segments of a repository name, such as `team/images`; empty or `ROOT` for none"

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value).removesuffix("/")
        if text in ("", ROOT):
            return ""
        try:
            return parse_repository_name(text)
        except RequestError:
            raise ValueError(
                "is not leading segments of a repository name: lower-case letters and digits, separated by '.', '_', "
                "'__' or '-', in segments separated by '/'"
            ) from None


@dataclass(frozen=True, slots=True)
class Patterns(ValueType[tuple[str, ...]]):
    accepted = "a list of names in which `*` stands for any characters, `/` too, and `?` for one"

    def parse(self, value: object, place: PathBase) -> tuple[str, ...]:
        return tuple(_pattern(text, r"[a-z0-9._/*?-]+", "names") for text in texts_of(value))


@dataclass(frozen=True, slots=True)
class DurationByTag(ValueType[tuple[tuple[str, float], ...]]):
    duration: Duration
    accepted = "a table from a tag, in which `*` and `?` are wild, to what `freshness` accepts"

    def parse(self, value: object, place: PathBase) -> tuple[tuple[str, float], ...]:
        if not isinstance(value, dict):
            raise ValueError("is not a table such as { latest = '10m' }")
        pairs = []
        for tag, text in value.items():
            pattern = _pattern(tag, r"[A-Za-z0-9._*?-]+", "tags")
            try:
                pairs.append((pattern, self.duration.parse(text, place)))
            except ValueError as error:
                raise ValueError(f"has a value for {tag!r} that {error}") from None
        return tuple(pairs)

    def show(self, value: tuple[tuple[str, float], ...]) -> dict[str, object]:
        return {tag: self.duration.show(seconds) for tag, seconds in value}


@dataclass(frozen=True, slots=True)
class ImageName(ValueType[str]):
    """An image of one rule's upstream. Empty stands for none."""

    accepted = "an image without its registry, such as `team/app:1.0`"

    def parse(self, value: object, place: PathBase) -> str:
        text = text_of(value)
        if not text:
            return ""
        try:
            image = parse_image_reference(text)
        except RequestError:
            raise is_not(self.accepted) from None
        if image.host is not None:
            raise is_not(self.accepted)
        return text


def _pattern(text: str, characters: str, what: str) -> str:
    if re.fullmatch(characters, text, re.ASCII) is None:
        raise ValueError(
            f"has the pattern {text[:80]!r}, which matches nothing: {what} hold none of its other characters; "
            "only '*' and '?' are wild"
        )
    return text
