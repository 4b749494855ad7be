"""The engine's own secrets, looked after while it runs."""

from __future__ import annotations

import asyncio
import logging

from pullthrough.errors import StorageError
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.secrets.secrets import Secrets
from pullthrough.storage.sql.database import Database
from pullthrough.threads import Runner

_log = logging.getLogger(__name__)
#: Between two looks for secrets whose recovery window, of days, is over.
_PURGE_SECONDS = 600.0


class SecretKeeper:
    """Says at once where the key of secrets is missing, and removes those whose recovery window is over."""

    def __init__(self, *, secrets: Secrets, sealer: Sealer, database: Database, call: Runner) -> None:
        self._secrets = secrets
        self._sealer = sealer
        self._database = database
        self._call = call

    async def keep(self) -> None:
        try:
            await self._call(self._sealer.check, self._database)
        except StorageError as error:
            _log.warning("secrets and API keys that were made here cannot be used: %s; %s", error, error.hint)
        while True:
            try:
                await self._call(self._secrets.purge)
            except StorageError as error:
                _log.error("deleted secrets could not be removed: %s", error)
            await asyncio.sleep(_PURGE_SECONDS)
