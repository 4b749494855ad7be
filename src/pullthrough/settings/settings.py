"""What is in force: everything that an engine, and `plan` and `apply`, need to know; and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pullthrough.declaration import CredentialSource, Declaration, Rule
from pullthrough.settings.tables.ecr import EcrSettings, KeySettings
from pullthrough.settings.tables.rules import UpstreamSettings
from pullthrough.settings.tables.serve import ServeSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    serve: ServeSettings
    #: In the order of the file, then the built-in ones.
    rules: tuple[Rule, ...]
    #: By canonical host.
    upstreams: Mapping[str, UpstreamSettings] = field(default_factory=dict)
    #: What `plan` and `apply` make of the same file.
    declaration: Declaration = field(default_factory=Declaration)
    #: Where `apply` writes down what it did; None for the usual place.
    journal: Path | None = None
    #: The top level's accounts by canonical host, for rules that are made later.
    accounts: Mapping[str, CredentialSource] = field(default_factory=dict)
    ecr: EcrSettings = field(default_factory=EcrSettings)
    #: API keys by name.
    ecr_keys: Mapping[str, KeySettings] = field(default_factory=dict)

    @property
    def encryption_key_path(self) -> Path:
        """Where the encryption key's file is, or would be made."""
        data = self.serve.data
        return self.ecr.encryption_key_file or data.parent / f"{data.name}.key"


@dataclass(frozen=True)
class Loaded:
    """What is in force, and where it came from."""

    settings: Settings
    #: For each dotted key that was set: `flag --listen`, `environment PULLTHROUGH_X`, or the file's name. What is not
    #: here has its default.
    sources: Mapping[str, str]
    #: Sentences for people about what is allowed but perhaps not meant.
    warnings: tuple[str, ...]
    #: Every table by its path, such as `("rules", "quay")`; the top level is `()`. Built-in rules are there too.
    tables: Mapping[tuple[str, ...], object] = field(repr=False)
    #: The file that was read; None for none.
    file: Path | None = None
    #: Which tokens are not to be found here, and what would name them; empty unless that is allowed.
    missing_tokens: tuple[str, ...] = ()
