"""How an engine runs and what it caches: every setting by topic, and loading them from flags, environment and file.

fields            how a setting is declared
values.*          the types of values: parsing, what is accepted, showing
tables.*          the tables of the file, each a class whose fields are its settings
environment, file where values come from
sources           each key of a table from the highest place, parsed; every problem collected
loading.*         from tables to `Settings`, and the checks of what several tables say together
settings          the outcome: `Settings`, and `Loaded`, which says where each value came from
"""

from pullthrough.settings.loading.ecr import is_key_name
from pullthrough.settings.loading.load import load_settings
from pullthrough.settings.settings import Loaded, Settings
from pullthrough.settings.tables.ecr import EcrAuth, EcrSettings, KeySettings, Role
from pullthrough.settings.tables.rules import UpstreamSettings
from pullthrough.settings.tables.serve import AccessLog, Loop, ServeSettings
from pullthrough.settings.values.network import ListenAddress, is_upstream_host, parse_listen
from pullthrough.settings.values.quantities import SizeLimit

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
    "is_upstream_host",
    "load_settings",
    "parse_listen",
]
