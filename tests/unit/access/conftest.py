"""Access over a catalog of its own, with as many workers as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from pullthrough.access.api_keys.administration import KeyAdministration
from pullthrough.access.api_keys.keys import Keys
from pullthrough.access.authentication import Authenticator
from pullthrough.access.authorization import Authorizer
from pullthrough.access.logins.htpasswd import Htpasswd
from pullthrough.oci.names import RepositoryName
from pullthrough.settings import Settings
from pullthrough.storage.files.generation import Generation
from pullthrough.storage.secrets.access_keys import AccessKeys
from pullthrough.storage.secrets.master_keys import MasterKeys
from pullthrough.storage.secrets.sealing import Sealer
from pullthrough.storage.sql.database import Database
from tests.unit.settings.support import load

P = ParamSpec("P")
T = TypeVar("T")
URL_KEY = b"u" * 32
NOW = 1_800_000_000.0


async def call(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


@dataclass
class Texts:
    """Stands for the configuration's policies."""

    registry_policy: str | None = None
    repository_policies: dict[RepositoryName, str] = field(default_factory=dict)
    #: What the catalog has.
    tags: dict[RepositoryName, dict[str, str]] = field(default_factory=dict)
    repository_tags: dict[RepositoryName, dict[str, str]] | None = None
    reads_of_tags: int = 0
    scope: str = "V2"

    async def read_repository_tags(self) -> None:
        self.reads_of_tags += 1
        self.repository_tags = dict(self.tags)

    def account_setting(self, name: str) -> str:
        assert name == "REGISTRY_POLICY_SCOPE"
        return self.scope


@dataclass
class Worker:
    """One process's parts."""

    settings: Settings
    texts: Texts
    stored: AccessKeys
    keys: Keys
    authenticator: Authenticator
    authorizer: Authorizer
    administration: KeyAdministration


@dataclass
class House:
    """A data folder. `now` is everybody's clock."""

    folder: Path
    stack: ExitStack
    now: float = NOW
    texts: Texts = field(default_factory=Texts)
    slots: int = 0

    def worker(self, config: str = "", *, environ: Mapping[str, str] | None = None) -> Worker:
        settings = load(self.folder, config, {"PULLTHROUGH_SERVE_DATA": str(self.folder / "data")}).settings
        generation = Generation(self.folder / "configuration", self.slots, 8)
        self.stack.callback(generation.close)
        self.slots += 1
        database = Database.open(self.folder / "catalog.sqlite", configuration=generation)
        self.stack.callback(database.close)
        sealer = Sealer(MasterKeys(settings.encryption_key_path, environ or {}))
        stored = AccessKeys(database, sealer)
        keys = Keys(settings.ecr_keys, stored, generation=generation, call=call)
        file = settings.ecr.htpasswd_file
        authenticator = Authenticator(
            settings,
            keys,
            htpasswd=Htpasswd(file, call=call) if file else None,
            url_key=URL_KEY,
            clock=lambda: self.now,
        )
        authorizer = Authorizer(settings, self.texts, clock=lambda: self.now)
        administration = KeyAdministration(
            settings.ecr_keys, stored, sealer=sealer, database=database, clock=lambda: self.now
        )
        return Worker(settings, self.texts, stored, keys, authenticator, authorizer, administration)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(tmp_path, stack)
