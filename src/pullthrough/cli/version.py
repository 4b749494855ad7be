"""`pullthrough version`."""

from __future__ import annotations

import platform

from pullthrough.cli.options import JsonOption
from pullthrough.cli.output import write, write_json
from pullthrough.version import __version__


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        write_json({"pullthrough": __version__, "python": platform.python_version(), "system": platform.system()})
    else:
        write(f"pullthrough {__version__}")
