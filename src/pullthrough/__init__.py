"""A pull-through cache for container images: AWS ECR's, from one declaration, or its own engine."""

__version__ = "0.1.0"

__all__ = ["__version__"]
