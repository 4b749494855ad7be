"""How an engine runs and what it caches: every setting by topic, and loading them from flags, environment and file.

Imported only when a command needs it: pydantic takes a while, and `pullthrough --help` should not.
"""

from pullthrough.settings.addresses import ListenAddress, parse_listen
from pullthrough.settings.kinds import SizeLimit
from pullthrough.settings.load import Loaded, is_key_name, load_settings
from pullthrough.settings.models import (
    AccessLog,
    EcrAuth,
    EcrSettings,
    KeySettings,
    Loop,
    Role,
    ServeSettings,
    Settings,
    UpstreamSettings,
)

__all__ = [
    "AccessLog",
    "EcrAuth",
    "EcrSettings",
    "KeySettings",
    "ListenAddress",
    "Loaded",
    "Loop",
    "Role",
    "ServeSettings",
    "Settings",
    "SizeLimit",
    "UpstreamSettings",
    "is_key_name",
    "load_settings",
    "parse_listen",
]
