"""Handlers of repositories, made with the parts that they use and no engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest

from pullthrough.access import principals
from pullthrough.access.authorization import Authorizer
from pullthrough.errors import AccessDenied
from pullthrough.faces.ecr.calls import Call, RegistryIdentity
from pullthrough.faces.ecr.registry.repository_handlers import RepositoryHandlers
from pullthrough.faces.ecr.rights import Rights
from pullthrough.faces.ecr.wire.errors import ApiError
from pullthrough.storage.registry.repositories import Repositories
from pullthrough.storage.sql.database import Database
from tests.unit.access.conftest import Texts
from tests.unit.settings.support import load

P = ParamSpec("P")
T = TypeVar("T")
REGISTRY = RegistryIdentity("123456789012", "eu-west-1", "127.0.0.1:5000", "http")
NOW = 1_800_000_000.0
CALL = Call(REGISTRY, principals.root(REGISTRY.account), NOW)
TAGS = [{"Key": "team", "Value": "a"}]


async def run(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


@pytest.fixture
def handlers(tmp_path: Path) -> Iterator[RepositoryHandlers]:
    database = Database.open(tmp_path / "catalog.sqlite")
    settings = load(tmp_path, "", {}).settings
    rights = Rights(Authorizer(settings, Texts(), clock=lambda: NOW))
    yield RepositoryHandlers(run, Repositories(database), rights)
    database.close()


async def test_a_repository_has_the_time_of_the_call_that_made_it(handlers: RepositoryHandlers) -> None:
    made = (await handlers.create_repository(CALL, {"repositoryName": "team/app"}))["repository"]
    assert (made["createdAt"], made["repositoryUri"]) == (NOW, "127.0.0.1:5000/team/app")
    assert (await handlers.describe_repositories(CALL, {}))["repositories"] == [made]
    with pytest.raises(ApiError) as raised:
        await handlers.create_repository(CALL, {"repositoryName": "team/app"})
    assert raised.value.code == "RepositoryAlreadyExistsException"


async def test_who_may_not_tag_makes_no_repository_with_tags(handlers: RepositoryHandlers) -> None:
    stranger = Call(REGISTRY, principals.registry_user("eve", REGISTRY.account), NOW)
    with pytest.raises(AccessDenied, match="ecr:TagResource"):
        await handlers.create_repository(stranger, {"repositoryName": "app", "tags": TAGS})
    assert (await handlers.describe_repositories(CALL, {}))["repositories"] == []
