"""Where a command's operations are done: by the engine that holds the data folder, else by this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pullthrough.cli.options import dependencies_of, load
from pullthrough.cli.output import warn
from pullthrough.oci.names import ImageReference, RepositoryName, parse_image_reference

if TYPE_CHECKING:
    from pullthrough.operations.operation import AnswerT, CacheOperation, GroupT, Performer, RequestT
    from pullthrough.settings import Loaded


class Session:
    """One command's way to the cache it is about."""

    def __init__(self, performer: Performer, loaded: Loaded) -> None:
        self._performer = performer
        self._loaded = loaded

    def perform(self, operation: CacheOperation[GroupT, RequestT, AnswerT], request: RequestT) -> AnswerT:
        return self._performer.perform(operation, request)

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
    from pullthrough.faces.control.client import ControlClient

    # A running engine has the tokens; this command may be run by hand, without them.
    loaded = load(context, config, data=data, require_tokens=False)
    client = ControlClient(loaded.settings.serve.control_socket)
    if client.is_live():
        yield Session(client, loaded)
        return
    warn((*loaded.missing_tokens, *loaded.warnings))
    with dependencies_of(context).offline(loaded) as performer:
        yield Session(performer, loaded)


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
