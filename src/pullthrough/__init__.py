"""A pull-through cache for container images: AWS ECR's, from one declaration, or its own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pullthrough.provision.api import PullThroughCache

__version__ = "0.1.0"

__all__ = ["PullThroughCache", "__version__"]


def __getattr__(name: str) -> Any:
    """Imported when it is asked for: the command line has its version from here, and answers `--help` at once."""
    if name == "PullThroughCache":
        from pullthrough.provision.api import PullThroughCache

        return PullThroughCache
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
