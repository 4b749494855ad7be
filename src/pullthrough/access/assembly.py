"""The parts of access, put together for one worker."""

from __future__ import annotations

from pullthrough.access.access import Access
from pullthrough.access.administration import KeyAdministration
from pullthrough.access.files import WatchedFile
from pullthrough.access.htpasswd import Htpasswd, parse_htpasswd
from pullthrough.access.keys import Keys, read_configured
from pullthrough.engine.engine import Engine
from pullthrough.settings import Settings
from pullthrough.storage.access_keys import AccessKeys


def make_access(engine: Engine, *, url_key: bytes) -> Access:
    """`url_key`: 32 random bytes, the same in all workers. Who gets it closes it.

    Raises ConfigurationError where a file that the settings name cannot be used.
    """
    ecr = engine.settings.ecr
    keys = Keys(
        engine.settings.ecr_keys,
        _stored_keys(engine),
        generation=engine.configuration_generation,
        call=engine.call,
    )
    htpasswd = Htpasswd(ecr.htpasswd_file) if ecr.htpasswd_file else None
    return Access(engine.settings, engine.configuration, keys, htpasswd=htpasswd, url_key=url_key, clock=engine.clock)


def check_files(settings: Settings) -> None:
    """Read what `make_access` reads. Raises ConfigurationError likewise."""
    read_configured(settings.ecr_keys)
    if settings.ecr.htpasswd_file:
        WatchedFile(settings.ecr.htpasswd_file, "ecr.htpasswd_file", parse_htpasswd)


def make_key_administration(engine: Engine) -> KeyAdministration:
    return KeyAdministration(
        engine.settings.ecr_keys,
        _stored_keys(engine),
        sealer=engine.sealer,
        database=engine.catalog.database,
        clock=engine.clock,
    )


def _stored_keys(engine: Engine) -> AccessKeys:
    return AccessKeys(engine.catalog.database, engine.sealer)
