"""The parts of access, put together for one worker."""

from __future__ import annotations

from collections.abc import Callable

from pullthrough.access.api_keys.administration import KeyAdministration
from pullthrough.access.api_keys.keys import Keys, read_configured
from pullthrough.access.authentication import Authenticator
from pullthrough.access.logins.htpasswd import Htpasswd, watch_users
from pullthrough.settings import Settings
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.secrets.access_keys import AccessKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.sql.database import Database
from pullthrough.threads import Runner


def make_authenticator(
    settings: Settings,
    *,
    database: Database,
    sealer: Sealer,
    generation: Generation,
    call: Runner,
    clock: Callable[[], float],
    url_key: bytes,
) -> Authenticator:
    """`generation`: the configuration's, which moves when keys change. `url_key`: 32 random bytes, the same in all workers.
    Who gets it closes it.

    Raises ConfigurationError where a file that the settings name cannot be used.
    """
    keys = Keys(settings.ecr_keys, AccessKeys(database, sealer), generation=generation, call=call)
    htpasswd = Htpasswd(settings.ecr.htpasswd_file) if settings.ecr.htpasswd_file else None
    return Authenticator(settings, keys, htpasswd=htpasswd, url_key=url_key, clock=clock)


def check_files(settings: Settings) -> None:
    """Read the files that `make_authenticator` reads. Raises ConfigurationError where one cannot be used."""
    read_configured(settings.ecr_keys)
    if settings.ecr.htpasswd_file:
        watch_users(settings.ecr.htpasswd_file)


def make_key_administration(
    settings: Settings, *, database: Database, sealer: Sealer, clock: Callable[[], float]
) -> KeyAdministration:
    return KeyAdministration(
        settings.ecr_keys, AccessKeys(database, sealer), sealer=sealer, database=database, clock=clock
    )
