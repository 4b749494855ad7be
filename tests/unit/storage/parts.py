"""What is set up for a registry, in one place for tests that set up several things."""

from __future__ import annotations

from pullthrough.storage.catalog.templates import CreationTemplates
from pullthrough.storage.registry.cache_rules import CacheRules
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.storage.sql.database import Database


class RegistryParts:
    def __init__(self, database: Database) -> None:
        self.cache_rules = CacheRules(database)
        self.templates = CreationTemplates(database)
        self.documents = DocumentRows(database)
        self.exclusions = PullTimeExclusions(database)
