"""Platforms in text form, `os/architecture[/variant]`, and which image of an index is for one.

The rules are containerd's, https://github.com/containerd/platforms: names of kernels are taken for Go's (`x86_64` is
`amd64`), a missing variant is the usual one, and of several variants the newest that the machine still runs wins.
"""

from __future__ import annotations

import platform as machine
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pullthrough.errors import ConfigurationError
from pullthrough.oci.manifests import Descriptor

_PLATFORM = re.compile(r"([a-z0-9]+)/([a-z0-9_-]+)(?:/([a-z0-9.-]+))?", re.ASCII)
_NUMBERED = re.compile(r"v([0-9]{1,3})", re.ASCII)

#: What kernels, and people, call architectures: Go's name and variant.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
#: The variant that is meant where none is named.
_USUAL_VARIANT = {"amd64": 1, "arm64": 8, "arm": 7}


@dataclass(frozen=True, slots=True)
class Platform:
    """`variant` is empty where none was named."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Raises ConfigurationError for anything but `os/architecture[/variant]` in lower case."""
    match = _PLATFORM.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            f"{text[:80]!r} is not a platform",
            hint="write os/architecture or os/architecture/variant, such as linux/amd64 or linux/arm/v7",
        )
    architecture, usual_variant = _ARCHITECTURES.get(match[2], (match[2], ""))
    return Platform(match[1], architecture, match[3] or usual_variant)


def this_machine() -> Platform:
    """Containers are Linux's, also where the client runs elsewhere."""
    return parse_platform(f"linux/{machine.machine().lower()}")


def choose(children: Iterable[Descriptor], wanted: Platform) -> Descriptor | None:
    """The entry of an index for `wanted`, the first of several equally good ones; None where no entry suits."""
    best: tuple[int, Descriptor] | None = None
    for child in children:
        match = _PLATFORM.fullmatch(child.platform)
        if match is None or (match[1], match[2]) != (wanted.os, wanted.architecture):
            continue
        rank = _rank(wanted, match[3] or "")
        if rank is not None and (best is None or rank > best[0]):
            best = rank, child
    return best[1] if best else None


def _rank(wanted: Platform, variant: str) -> int | None:
    """How well an image of `variant` suits; None where it does not run."""
    if variant == wanted.variant:
        return 1000
    usual = _USUAL_VARIANT.get(wanted.architecture)
    if usual is None:
        return 0 if not variant else None
    offered, runs = _number(variant, usual), _number(wanted.variant, usual)
    return offered if offered is not None and runs is not None and offered <= runs else None


def _number(variant: str, usual: int) -> int | None:
    if not variant:
        return usual
    match = _NUMBERED.fullmatch(variant)
    return int(match[1]) if match else None
