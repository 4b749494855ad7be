"""What is set for the registry as a whole, as the JSON that an operation was given."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pullthrough.engine.configuration import Configuration
from pullthrough.faces.ecr.calls import Call, Output
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.threads import Runner


@dataclass(frozen=True, slots=True)
class RegistryDocuments:
    run: Runner
    rows: DocumentRows
    configuration: Configuration

    def read(self, name: str) -> Output | None:
        """As the configuration has it, at no cost; None where none was put."""
        return _parsed(self.configuration.document(name))

    async def put(self, call: Call, name: str, document: Output) -> None:
        await self.run(self.rows.put, name, json.dumps(document), call.now)

    async def take(self, name: str) -> Output | None:
        """Delete it; None where there was none."""
        return _parsed(await self.run(self.rows.delete, name))


def _parsed(text: str | None) -> Output | None:
    document: Output | None = None if text is None else json.loads(text)
    return document
