"""The environment variables of settings, and what is wrong with others that begin like them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pullthrough.settings.fields import settings_of
from pullthrough.settings.keys import nearest
from pullthrough.settings.tables import TABLES
from pullthrough.settings.tables.module import AccessSettings

PREFIX = "PULLTHROUGH_"
#: Names the file.
CONFIG_VARIABLE = "PULLTHROUGH_CONFIG"

#: Kubernetes puts variables such as PULLTHROUGH_PORT=tcp://10.0.0.1:5000 into each pod beside a Service of that name.
#: https://kubernetes.io/docs/tutorials/services/connect-applications-service/#environment-variables
_KUBERNETES = re.compile(
    r"PULLTHROUGH_(?:[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)"
)
_KUBERNETES_PORT_VALUE = re.compile(r"(?:tcp|udp|sctp)://")
_WITH_VARIABLES = tuple(table for table in TABLES if table.has_variables)
#: How a variable begins, behind PULLTHROUGH_, that somebody takes for one of a table that has none. Not `access_`: that
#: may be an access token or the access log.
_FILE_ONLY = tuple(
    "_".join(table.path) + "_" for table in TABLES if not table.has_variables and table.path != ("access",)
)


def environment_name(table: tuple[str, ...], key: str) -> str | None:
    """The variable of a key; None for the tables that only a file can have."""
    if not any(table == known.path for known in _WITH_VARIABLES):
        return None
    return PREFIX + "_".join((*table, key)).upper()


def unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence about each variable that looks like a setting's and is none."""
    variables = [
        (key, environment_name(table.path, key) or "") for table in _WITH_VARIABLES for key in settings_of(table.model)
    ]
    known = {CONFIG_VARIABLE, *(variable for _, variable in variables)}
    # What people forget is the table, or a letter.
    by_name = {**dict(variables), **{name.removeprefix(PREFIX).lower(): name for name in known}}
    in_file = {f"access_{key}" for key in settings_of(AccessSettings)}
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in known or _is_of_kubernetes(name, value):
            continue
        rest = name.removeprefix(PREFIX).lower()
        near = by_name.get(nearest(rest, by_name) or "")
        if rest.startswith(_FILE_ONLY) or rest in in_file:
            yield (
                f"environment: {name} is unknown; rules, upstreams, templates, access, scanning and API keys are set "
                "in the file only"
            )
        elif near:
            yield f"environment: {name} is unknown; did you mean {near}?"
        else:
            yield f"environment: {name} is unknown; the configuration reference lists the variables"


def _is_of_kubernetes(name: str, value: str) -> bool:
    if _KUBERNETES.fullmatch(name):
        return True
    return name.endswith("_PORT") and _KUBERNETES_PORT_VALUE.match(value) is not None
