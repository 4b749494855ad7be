"""Which tables the file has, in the order of the reference page."""

from __future__ import annotations

from dataclasses import dataclass

from pullthrough.settings.tables.ecr import EcrSettings, KeySettings
from pullthrough.settings.tables.module import AccessSettings, ScanningSettings, TemplateSettings
from pullthrough.settings.tables.rules import RuleSettings, UpstreamSettings
from pullthrough.settings.tables.serve import ServeSettings
from pullthrough.settings.tables.top import TopSettings


@dataclass(frozen=True, slots=True)
class FileTable:
    """A table of the file, or tables of one model that the user names."""

    #: Its name in the file, without the part that the user chooses; empty for the keys before the first table.
    path: tuple[str, ...]
    model: type
    #: How people write it.
    header: str
    #: Whether its keys can come from environment variables.
    has_variables: bool = False


__all__ = [
    "TABLES",
    "TABLE_NAMES",
    "AccessSettings",
    "EcrSettings",
    "FileTable",
    "KeySettings",
    "RuleSettings",
    "ScanningSettings",
    "ServeSettings",
    "TemplateSettings",
    "TopSettings",
    "UpstreamSettings",
]

TABLES: tuple[FileTable, ...] = (
    FileTable((), TopSettings, "", has_variables=True),
    FileTable(("serve",), ServeSettings, "[serve]", has_variables=True),
    FileTable(("rules",), RuleSettings, "[rules.<prefix>]"),
    FileTable(("upstreams",), UpstreamSettings, '[upstreams."<host>"]'),
    FileTable(("ecr",), EcrSettings, "[ecr]", has_variables=True),
    FileTable(("ecr", "keys"), KeySettings, "[ecr.keys.<name>]"),
    FileTable(("template",), TemplateSettings, "[template]"),
    FileTable(("templates",), TemplateSettings, "[templates.<prefix>]"),
    FileTable(("access",), AccessSettings, "[access]"),
    FileTable(("scanning",), ScanningSettings, "[scanning]"),
)
#: The names of the file's tables.
TABLE_NAMES = tuple(dict.fromkeys(table.path[0] for table in TABLES if table.path))
