"""How many examples a property is tried on."""

from __future__ import annotations

from hypothesis import settings

WHOLE = 100


def register_profiles() -> None:
    """A slow machine takes its time over an example. `make test-quick` looks at a fifth of them."""
    settings.register_profile("whole", deadline=None, max_examples=WHOLE)
    settings.register_profile("quick", deadline=None, max_examples=WHOLE // 5)
    settings.load_profile("whole")


def examples(count: int) -> int:
    """`count` for the whole of the tests, less for the quick ones."""
    profile = settings.default
    assert profile is not None
    return max(1, count * profile.max_examples // WHOLE)
