"""A pull-through cache for container images: AWS ECR's, from one declaration, or its own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pullthrough.version import __version__

if TYPE_CHECKING:
    from pullthrough.provision.api import PullThroughCache

__all__ = ["PullThroughCache", "__version__"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: every module imports this package, and the command line answers `--help` at once."""
    if name == "PullThroughCache":
        from pullthrough.provision.api import PullThroughCache

        return PullThroughCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
