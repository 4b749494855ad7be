"""The file of settings: which one it is, and reading it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pullthrough.errors import ConfigurationError
from pullthrough.settings.environment import CONFIG_VARIABLE

DEFAULT_FILE = "pullthrough.toml"
#: A configuration is a page or ten; more is a mistake such as a log file named by --config.
MAX_FILE_BYTES = 4 * 1024 * 1024


def read_file(config: Path | None, environ: Mapping[str, str], folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """What --config names, else PULLTHROUGH_CONFIG, else ./pullthrough.toml if it is there: its name, and what it holds.
    None where there is none. Raises ConfigurationError."""
    if config is not None:
        named_by = " (named by --config)"
    elif named := environ.get(CONFIG_VARIABLE):
        config, named_by = Path(named), f" (named by {CONFIG_VARIABLE})"
    else:
        config, named_by = Path(DEFAULT_FILE), ""
    path = folder / config
    try:
        if not path.exists():
            if not named_by:
                return None, {}
            raise OSError("there is no such file")
        if not path.is_file():
            raise OSError("it is not a file")
        if path.stat().st_size > MAX_FILE_BYTES:
            raise OSError("it is larger than any configuration")
        return config, tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise ConfigurationError(f"cannot read {config}{named_by}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{config}{named_by} is not UTF-8 text (byte {error.start})") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(
            f"{config}{named_by} is not valid TOML: {error}", hint="texts stand in quotes; see https://toml.io"
        ) from error
