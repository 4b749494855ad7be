"""Every operation that can be called, and the function that does it: one table.

The handlers' modules are imported when it is first asked for, in a thread: a start of the engine should not wait for
what only the APIs need.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module

from pullthrough.ecr.calls import Handler

#: By service; each module ends with its HANDLERS.
_MODULES: Mapping[str, tuple[str, ...]] = {
    "ecr": (
        "account",
        "backfills",
        "exclusions",
        "image_manifests",
        "images",
        "layers",
        "lifecycle",
        "login",
        "policies",
        "replication",
        "repositories",
        "rules",
        "scanning",
        "signing",
        "tags",
        "templates",
    ),
    "secretsmanager": (
        "secret_lists",
        "secret_policies",
        "secret_values",
        "secretsmanager",
    ),
    "sts": ("identity",),
}


@cache
def operations() -> Mapping[str, Mapping[str, Handler]]:
    """By service and name. Imports modules at the first call: not for the event loop."""
    table: dict[str, dict[str, Handler]] = {}
    for service, modules in _MODULES.items():
        handlers = table[service] = {}
        for module in modules:
            for name, handler in import_module(f"pullthrough.ecr.{module}").HANDLERS.items():
                if name in handlers:
                    raise AssertionError(f"{service}:{name} has two handlers")
                handlers[name] = handler
    return table
