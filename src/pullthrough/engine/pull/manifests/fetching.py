"""Manifests from upstreams: fetched, verified and kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from pullthrough.engine.rules import Target
from pullthrough.errors import DiskFull, PullthroughError
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import parse_manifest
from pullthrough.oci.names import Reference, Tag
from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ManifestRecord
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Turn, Upstreams

_log = logging.getLogger(__name__)

#: Bodies above this are parsed in a thread: 4 MiB of JSON would hold up the loop.
_PARSE_IN_THREAD_BYTES = 64 * 1024


class Fetched(Protocol):
    """Told of every manifest that was fetched from its upstream, or was not: then `error` says why."""

    def __call__(
        self, target: Target, reference: Reference, *, digest: Digest | None, error: PullthroughError | None = None
    ) -> None: ...


class ManifestFetching:
    """`room` makes room on a full disk before a write is tried again."""

    def __init__(
        self,
        *,
        manifest_rows: ManifestRows,
        call: Runner,
        upstreams: Upstreams,
        clock: Callable[[], float],
        room: Callable[[int], Awaitable[None]],
        fetched: Fetched,
    ) -> None:
        self._manifest_rows = manifest_rows
        self._call = call
        self._upstreams = upstreams
        self._clock = clock
        self._room = room
        self._fetched = fetched

    async def fetch(
        self, target: Target, reference: Reference, turn: Turn, *, tag: Tag | None = None, timeout: float | None = None
    ) -> ManifestRecord:
        """Fetch, verify and keep one manifest; `tag` is set to it where given. One GET."""
        try:
            fetched = await self._upstreams.get(target.upstream).fetch_manifest(
                target.upstream_repository, reference, target.rule.credential, timeout=timeout, turn=turn
            )
            record = ManifestRecord(fetched.digest, fetched.media_type, fetched.body)
            saved = await self.save(target, record, tag)
        except PullthroughError as error:
            self._fetched(target, tag or reference, digest=None, error=error)
            raise
        self._fetched(target, tag or reference, digest=saved.digest)
        return saved

    async def save(self, target: Target, record: ManifestRecord, tag: Tag | None) -> ManifestRecord:
        """One that cannot be kept is served all the same."""
        if len(record.body) > _PARSE_IN_THREAD_BYTES:
            manifest = await asyncio.to_thread(parse_manifest, record.body, record.media_type)
        else:
            manifest = parse_manifest(record.body, record.media_type)
        record = ManifestRecord(record.digest, manifest.media_type, record.body)

        async def save() -> None:
            await self._call(
                self._manifest_rows.save_manifest,
                target.repository,
                target.upstream_owner,
                record.digest,
                record.body,
                manifest,
                tag=tag,
                now=self._clock(),
            )

        try:
            await save()
        except DiskFull:
            await self._room(len(record.body))
            try:
                await save()
            except DiskFull as error:
                _log.error("%s: %s is served but could not be kept: %s", target.repository, record.digest, error)
        except NotKept as error:
            _log.info("%s: %s is served but not kept: %s", target.repository, record.digest, error)
        return record
