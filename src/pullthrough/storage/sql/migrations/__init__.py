"""The catalog's schema, step by step (Alembic). Imported only where a step is to be taken."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def upgrade(connection: Connection) -> None:
    """Take all missing steps in the transaction that is open; the caller commits."""
    command.upgrade(migration_config(connection), "head")


def migration_config(connection: Connection) -> Config:
    config = Config()
    # The configuration format gives a percent sign a meaning.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
