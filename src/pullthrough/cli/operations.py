"""What can be done to a cache beside serving it: by the engine that holds the data folder, else by this process.

Requests and answers are the JSON objects of the control socket:

    refresh {"image"}        {"image", "digest", "changed", "checked_at"}
    pin, unpin {"image"}     {"image", "pinned"}
    evict {"dry_run"}        {"dry_run", "evicted": [{"image", "digest", "bytes", "last_pulled", "reason"}],
                              "freed_bytes", "stored_bytes", "limit_bytes"}
    lifecycle {"repository", "dry_run"}
                             {"dry_run", "repositories": [{"repository", "skipped", "error", "expired", "archived":
                              [{"digest", "tags", "rule"}]}]}
    events {"limit"}         {"events": [an event as EventBridge has it]}, the newest first
    keys {"action": "list"}  {"keys": [{"name", "access_key_id", "role", "created_at"}]}; created_at is null for those of
                              the settings
    keys {"action": "show" | "create" | "renew", "name", "role"}
                             {"name", "access_key_id", "role", "created_at", "secret_access_key"}
    keys {"action": "remove", "name"}
                             {"name", "removed"}
    keys {"action": "rotate"}
                             {"values", "key"}
    check {}                 {"blobs", "manifests", "bytes", "repaired",
                              "problems": [{"kind", "subject", "detail", "repaired"}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from pullthrough.cli.options import load, parts_of
from pullthrough.cli.output import warn
from pullthrough.oci.names import ImageReference, RepositoryName, parse_image_reference

if TYPE_CHECKING:
    from pullthrough.settings import Loaded


class Operations(Protocol):
    def refresh(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def pin(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def unpin(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def evict(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def lifecycle(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def events(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def keys(self, request: Mapping[str, Any]) -> dict[str, Any]: ...

    def check(self, request: Mapping[str, Any]) -> dict[str, Any]: ...


class Session:
    """One command's way to the cache it is about."""

    def __init__(self, operations: Operations, loaded: Loaded) -> None:
        self.operations = operations
        self._loaded = loaded

    def image(self, text: str) -> str:
        """An image argument as the cache names it: without the cache's host, with the tag or digest spelt out."""
        image = image_in_cache(text, [rule.prefix for rule in self._loaded.settings.rules])
        separator = "@" if image.digest else ":"
        return f"{image.repository}{separator}{image.reference}"


@contextmanager
def session(context: typer.Context, config: Path | None, data: Path | None) -> Iterator[Session]:
    """The engine's operations where one holds the folder, else this process's own under the folder's lock.

    Raises ConfigurationError, and FolderLocked where the folder is held by something that does not answer.
    """
    from pullthrough.cli.control_client import ControlClient

    # A running engine has the tokens; this command may be run by hand, without them.
    loaded = load(context, config, data=data, require_tokens=False)
    client = ControlClient(loaded.settings.serve.control_socket)
    if client.is_live():
        yield Session(client, loaded)
        return
    warn((*loaded.missing_tokens, *loaded.warnings))
    with parts_of(context).offline(loaded) as operations:
        yield Session(operations, loaded)


def image_in_cache(text: str, prefixes: list[str]) -> ImageReference:
    """Parse what people type for the cache. Raises NameInvalid, TagInvalid or DigestInvalid.

    What looks like a host is the cache's own, and dropped, unless a rule's prefix begins with it (`quay.io/...` where a
    rule is called so).
    """
    image = parse_image_reference(text)
    if image.host is None:
        return image
    named = any(prefix.partition("/")[0] == image.host for prefix in prefixes)
    repository = RepositoryName(f"{image.host}/{image.repository}") if named else image.repository
    return ImageReference(None, repository, image.tag, image.digest)
