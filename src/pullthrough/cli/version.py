"""`pullthrough version`."""

from __future__ import annotations

import platform

from pullthrough import __version__
from pullthrough.cli.options import JsonOption
from pullthrough.cli.output import write, write_json


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    if as_json:
        write_json({"pullthrough": __version__, "python": platform.python_version(), "system": platform.system()})
    else:
        write(f"pullthrough {__version__}")
