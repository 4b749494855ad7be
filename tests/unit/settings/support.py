"""Loading settings from a text in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pullthrough.errors import ConfigurationError
from pullthrough.settings import Loaded, load_settings

HOME = {"HOME": "/home/somebody"}


def load(
    folder: Path,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    require_tokens: bool = True,
) -> Loaded:
    """Settings of `pullthrough.toml` with this text; None is no file."""
    if text is not None:
        (folder / "pullthrough.toml").write_text(text)
    return load_settings(None, {**HOME, **(environ or {})}, flags or {}, folder=folder, require_tokens=require_tokens)


def problem(
    folder: Path,
    text: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> str:
    """The message of the error that loading raises."""
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, environ, flags)
    assert caught.value.hint
    return caught.value.message
