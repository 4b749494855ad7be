"""Manifests by tag and by digest: from memory, from the catalog, or from the upstream.

What an answer costs upstream (tests count exactly):

    hit, negative, joined, stale        nothing (a stale answer is checked behind it: one HEAD, and a GET if it changed)
    miss                                one GET
    revalidated                         one HEAD, and one GET if the digest changed to one that is not cached
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pullthrough.declaration import GoneUpstream
from pullthrough.engine.outcomes import CacheResult, Outcome
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.pull.freshness import FORCED_INTERVAL_SECONDS, Verdict, judge, may_force
from pullthrough.engine.pull.memory import Memory
from pullthrough.engine.pull.pauses import Pauses
from pullthrough.engine.rules import Target
from pullthrough.engine.tasks import Tasks
from pullthrough.errors import (
    DiskFull,
    ImageArchived,
    ManifestUnknown,
    PullthroughError,
    UpstreamError,
    UpstreamInvalid,
    UpstreamNotFound,
    UpstreamUnavailable,
)
from pullthrough.oci.digests import Digest
from pullthrough.oci.manifests import parse_manifest
from pullthrough.oci.names import Reference, Tag
from pullthrough.storage.catalog.claims import NotKept
from pullthrough.storage.catalog.manifest_rows import ManifestRows
from pullthrough.storage.catalog.records import ManifestRecord, TagRecord
from pullthrough.storage.catalog.upstream_answers import UpstreamAnswers
from pullthrough.storage.interfaces import Locks
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Turn, Upstreams

_log = logging.getLogger(__name__)

#: A check that no client waits for any longer goes on for so long, so that a slow upstream is heard all the same.
_CHECK_SECONDS = 30.0
#: How registries say that they do not know HEAD.
_NO_HEAD = frozenset({405, 501})
#: Bodies above this are parsed in a thread: 4 MiB of JSON would hold up the loop.
_PARSE_IN_THREAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ManifestAnswer:
    target: Target
    manifest: ManifestRecord
    outcome: Outcome


class Fetched(Protocol):
    """Told of every manifest that was fetched from its upstream, or was not: then `error` says why."""

    def __call__(
        self, target: Target, reference: Reference, *, digest: Digest | None, error: PullthroughError | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Checked:
    """What a check with the upstream led to."""

    entry: TagRecord
    #: False where another worker had just made the check that this one waited for.
    asked: bool
    note: str = ""


class Manifests:
    """The manifests of all repositories. `room` makes room on a full disk (in a thread) before a write is tried again."""

    def __init__(
        self,
        *,
        manifest_rows: ManifestRows,
        answers: UpstreamAnswers,
        call: Runner,
        memory: Memory,
        locks: Locks,
        upstreams: Upstreams,
        tasks: Tasks,
        clock: Callable[[], float],
        stale_check_timeout_seconds: float,
        room: Callable[[int], Awaitable[None]],
        fetched: Fetched,
        own: OwnRepositories,
    ) -> None:
        self._manifest_rows = manifest_rows
        self._answers = answers
        self._call = call
        self._memory = memory
        self._locks = locks
        self._upstreams = upstreams
        self._tasks = tasks
        self._clock = clock
        self._stale_check_timeout_seconds = stale_check_timeout_seconds
        self._room = room
        self._fetched = fetched
        self._own = own
        self._pauses = Pauses(clock)

    def from_memory(self, target: Target, reference: Reference) -> ManifestAnswer | None:
        """A fresh hit that needs no waiting at all; None says nothing about what `get` will find."""
        found = self._memory.get((target.repository, target.owner, reference))
        if found is None:
            return None
        if isinstance(found, ManifestRecord):
            return ManifestAnswer(target, found, _hit(target, found))
        if isinstance(found, TagRecord):
            if target.is_own:
                return ManifestAnswer(target, found.manifest, _hit(target, found.manifest))
            age = self._clock() - found.validated_at
            if judge(target.rule, found.tag, age) is Verdict.FRESH:
                return ManifestAnswer(
                    target, found.manifest, Outcome(CacheResult.HIT, target.rule.prefix, age, _gone(found))
                )
        return None

    async def get(
        self, target: Target, reference: Reference, *, force: bool = False, strict: bool = False
    ) -> ManifestAnswer:
        """`force` asks for a check with the upstream, fresh or not; `strict` wants no stale answer if that fails.

        Raises ManifestUnknown, RepositoryUnknown, or an UpstreamError where nothing is cached that could be served
        instead.
        """
        if target.is_own:
            return await self._get_own(target, reference)
        if isinstance(reference, Digest):
            return await self._get_digest(target, reference)
        return await self._get_tag(target, reference, force, strict)

    async def _get_own(self, target: Target, reference: Reference) -> ManifestAnswer:
        if isinstance(reference, Digest):
            record = await self._find_manifest(target, reference)
        else:
            entry = await self._find_tag(target, reference)
            record = entry.manifest if entry else None
        if record is None:
            raise await self._own.no_manifest(target.repository, reference)
        return ManifestAnswer(target, record, _hit(target, record))

    # --- by digest -------------------------------------------------------------------------------------------------

    async def _get_digest(self, target: Target, digest: Digest) -> ManifestAnswer:
        if record := await self._find_manifest(target, digest):
            return ManifestAnswer(target, record, _hit(target, record))
        await self._raise_if_negative(target, digest)
        (record, fetched), joined = await self._tasks.once(
            ("manifest", target.repository, target.owner, digest),
            lambda: self._fill_digest(target, digest),
            name=f"fetch {target.repository}@{digest}",
        )
        kind = CacheResult.JOINED if joined or not fetched else CacheResult.MISS
        return ManifestAnswer(target, record, Outcome(kind, target.rule.prefix))

    async def _fill_digest(self, target: Target, digest: Digest) -> tuple[ManifestRecord, bool]:
        async with self._turn(target) as turn, self._locks.hold(_lock_key(target, digest)):
            if record := await self._find_manifest(target, digest):
                return record, False
            await self._raise_if_negative(target, digest)
            return await self._fill(target, digest, turn), True

    async def _find_manifest(self, target: Target, digest: Digest) -> ManifestRecord | None:
        stamp = self._memory.stamp()
        record: ManifestRecord | None = await self._call(
            self._manifest_rows.find_manifest, target.repository, target.owner, digest
        )
        if record:
            self._memory.put((target.repository, target.owner, digest), record, stamp, len(record.body))
        return record

    # --- by tag ----------------------------------------------------------------------------------------------------

    async def _get_tag(self, target: Target, tag: Tag, force: bool, strict: bool) -> ManifestAnswer:
        entry = await self._find_tag(target, tag)
        if entry is None:
            trusted = 0.0 if strict else FORCED_INTERVAL_SECONDS if force else math.inf
            return await self._miss(target, tag, trusted)
        now = self._clock()
        age = now - entry.validated_at
        verdict = judge(target.rule, tag, age)
        if force and may_force(entry.forced_at, now):
            return await self._check_first(target, entry, forced=True, strict=strict)
        paused = self._pauses.reason(_pause_key(target, tag))
        if strict and entry.forced_at > entry.validated_at:  # the last check on demand failed
            raise UpstreamUnavailable(
                f"{target.upstream} was asked for {_named(target, tag)} a moment ago, in vain, and is not asked again "
                f"so soon{': ' if paused else ''}{paused}",
                upstream=target.upstream,
            )
        if verdict is Verdict.FRESH:
            return ManifestAnswer(
                target, entry.manifest, Outcome(CacheResult.HIT, target.rule.prefix, age, _gone(entry))
            )
        if paused:
            return self._stale(target, entry, paused)
        if verdict is Verdict.STALE:
            self._check_behind(target, entry)
            return self._stale(target, entry, _gone(entry) or "checked behind this answer")
        return await self._check_first(target, entry, forced=False, strict=False)

    async def _miss(self, target: Target, tag: Tag, trusted_seconds: float) -> ManifestAnswer:
        """For `trusted_seconds` a 404 is taken for granted, if the rule remembers it for so long."""
        await self._raise_if_negative(target, tag, trusted_seconds)
        (record, fetched), joined = await self._tasks.once(
            ("manifest", target.repository, target.owner, tag),
            lambda: self._fill_tag(target, tag, trusted_seconds),
            name=f"fetch {target.repository}:{tag}",
        )
        kind = CacheResult.JOINED if joined or not fetched else CacheResult.MISS
        return ManifestAnswer(target, record, Outcome(kind, target.rule.prefix, 0))

    async def _fill_tag(self, target: Target, tag: Tag, trusted_seconds: float) -> tuple[ManifestRecord, bool]:
        async with self._turn(target) as turn, self._locks.hold(_lock_key(target, tag)):
            if entry := await self._find_tag(target, tag):
                return entry.manifest, False
            await self._raise_if_negative(target, tag, trusted_seconds)
            return await self._fill(target, tag, turn, tag=tag), True

    def _stale(self, target: Target, entry: TagRecord, reason: str) -> ManifestAnswer:
        age = self._clock() - entry.validated_at
        return ManifestAnswer(target, entry.manifest, Outcome(CacheResult.STALE, target.rule.prefix, age, reason))

    async def _check_first(self, target: Target, entry: TagRecord, *, forced: bool, strict: bool) -> ManifestAnswer:
        """A client waits for the check for a short while only, then it goes on behind the stale answer."""
        limit = None if strict else self._stale_check_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                checked, joined = await self._check_once(target, entry, forced=forced, patient=strict)
        except TimeoutError:
            reason = f"{target.upstream} did not answer within {limit:g} s"
            self._pauses.begin(_pause_key(target, entry.tag), reason)
            return self._stale(target, entry, reason)
        except ManifestUnknown:
            raise
        except PullthroughError as error:
            if strict:
                raise
            return self._stale(target, entry, error.message)
        kind = CacheResult.JOINED if joined or not checked.asked else CacheResult.REVALIDATED
        age = self._clock() - checked.entry.validated_at
        return ManifestAnswer(
            target, checked.entry.manifest, Outcome(kind, target.rule.prefix, age, checked.note or _gone(checked.entry))
        )

    def _check_behind(self, target: Target, entry: TagRecord) -> None:
        key = ("check", target.repository, target.owner, entry.tag)
        if not self._tasks.is_flying(key):
            self._tasks.spawn(
                self._check_once(target, entry, forced=False, patient=False),
                name=f"check {target.repository}:{entry.tag}",
            )

    async def _check_once(
        self, target: Target, entry: TagRecord, *, forced: bool, patient: bool
    ) -> tuple[_Checked, bool]:
        return await self._tasks.once(
            ("check", target.repository, target.owner, entry.tag),
            lambda: self._check(target, entry, forced=forced, limit=None if patient else _CHECK_SECONDS),
            name=f"check {target.repository}:{entry.tag}",
        )

    async def _check(self, target: Target, seen: TagRecord, *, forced: bool, limit: float | None) -> _Checked:
        """Ask the upstream what the tag is now, and keep what it says. One check at a time over all workers."""
        tag = Tag(seen.tag)
        try:
            async with self._turn(target, patient=limit is None) as turn, self._locks.hold(_lock_key(target, tag)):
                entry = await self._find_tag(target, tag)
                if entry is None:
                    record = await self._fill(target, tag, turn, tag=tag)
                    return _Checked(TagRecord(tag, record, self._clock(), seen.forced_at, None), asked=True)
                if entry.validated_at > seen.validated_at or entry.forced_at > seen.forced_at:
                    return _Checked(entry, asked=False)
                try:
                    checked = await self._ask(target, entry, turn, forced=forced, limit=limit)
                except UpstreamError:
                    if forced:  # it counts all the same, or clients could make us ask an ailing upstream at will
                        await self._call(
                            self._manifest_rows.note_forced,
                            target.repository,
                            target.upstream_owner,
                            tag,
                            now=self._clock(),
                        )
                    raise
        except UpstreamError as error:
            self._pauses.begin_after(_pause_key(target, tag), error)
            _log.warning("%s:%s could not be checked, the cached one is served: %s", target.repository, tag, error)
            raise
        self._pauses.end(_pause_key(target, tag))
        return checked

    async def _ask(
        self, target: Target, entry: TagRecord, turn: Turn, *, forced: bool, limit: float | None
    ) -> _Checked:
        tag = Tag(entry.tag)
        name = (target.repository, target.upstream_owner, tag)
        try:
            digest = await self._head(target, tag, turn, limit)
            now = self._clock()
            kept = digest == entry.manifest.digest
            if kept or entry.immutable:
                await self._call(self._manifest_rows.validate_tag, *name, now=now, forced=forced)
                forced_at = now if forced else entry.forced_at
                validated = TagRecord(tag, entry.manifest, now, forced_at, None, entry.immutable)
                note = "unchanged upstream"
                if not kept:
                    note = "changed upstream, immutable here" if digest else "immutable here"
                return _Checked(validated, asked=True, note=note)
            try:
                known = await self._find_manifest(target, digest) if digest else None
            except ImageArchived:
                # As with an immutable tag, the image that is served goes on being served.
                await self._call(self._manifest_rows.validate_tag, *name, now=now, forced=forced)
                validated = TagRecord(tag, entry.manifest, now, now if forced else entry.forced_at, None)
                return _Checked(validated, asked=True, note="changed upstream, archived here")
            if known is None:
                known = await self._fetch_changed(target, tag, digest, turn, limit)
            else:
                await self._save(target, known, tag)
            if forced:
                await self._call(self._manifest_rows.validate_tag, *name, now=now, forced=True)
            note = "unchanged upstream" if known.digest == entry.manifest.digest else "changed upstream"
            return _Checked(TagRecord(tag, known, now, now if forced else entry.forced_at, None), asked=True, note=note)
        except UpstreamNotFound as error:
            if target.rule.gone_upstream is GoneUpstream.REMOVE:
                await self._call(self._manifest_rows.remove_tag, *name)
                raise ManifestUnknown(
                    f"{target.upstream} no longer has {target.upstream_repository}:{tag}, and the rule "
                    f"{target.rule.prefix!r} removes what is gone upstream"
                ) from error
            now = self._clock()
            await self._call(self._manifest_rows.mark_tag_gone, *name, now=now, forced=forced)
            gone = TagRecord(tag, entry.manifest, now, now if forced else entry.forced_at, entry.gone_at or now)
            return _Checked(gone, asked=True)

    async def _head(self, target: Target, tag: Tag, turn: Turn, limit: float | None) -> Digest | None:
        """The digest that the tag has now; None where a HEAD does not tell, and only a GET will."""
        upstream = self._upstreams.get(target.upstream)
        try:
            head = await upstream.head_manifest(
                target.upstream_repository, tag, target.rule.credential, timeout=limit, turn=turn
            )
        except UpstreamInvalid as error:
            if error.status in _NO_HEAD:
                return None
            raise
        return head.digest

    async def _fetch_changed(
        self, target: Target, tag: Tag, digest: Digest | None, turn: Turn, limit: float | None
    ) -> ManifestRecord:
        """By the digest just named, so that what is kept is what was announced."""
        try:
            return await self._fetch(target, digest or tag, turn, tag=tag, timeout=limit)
        except UpstreamNotFound as error:
            if digest is None:
                raise
            # The tag is not gone: it names something. An upstream in the middle of a change answers like this.
            raise UpstreamInvalid(
                f"{target.upstream} says that {_named(target, tag)} is {digest}, but does not have that",
                upstream=target.upstream,
                status=error.status,
            ) from error

    async def _find_tag(self, target: Target, tag: Tag) -> TagRecord | None:
        stamp = self._memory.stamp()
        entry: TagRecord | None = await self._call(self._manifest_rows.find_tag, target.repository, target.owner, tag)
        if entry:
            self._memory.put((target.repository, target.owner, tag), entry, stamp, len(entry.manifest.body))
        return entry

    # --- common ----------------------------------------------------------------------------------------------------

    async def _raise_if_negative(self, target: Target, reference: Reference, trusted_seconds: float = math.inf) -> None:
        until: float | None = await self._call(
            self._answers.find_negative, target.repository, target.upstream_owner, reference
        )
        now = self._clock()
        if until is not None and now < until and now - (until - target.rule.negative_seconds) < trusted_seconds:
            raise ManifestUnknown(
                f"{target.upstream} does not have {_named(target, reference)} "
                f"(it said so less than {target.rule.negative_seconds:.0f} s ago)",
                remembered=True,
            )

    async def _fill(
        self, target: Target, reference: Reference, turn: Turn, *, tag: Tag | None = None
    ) -> ManifestRecord:
        """Fetch what is not cached. A 404 is remembered, and raised as ManifestUnknown."""
        try:
            return await self._fetch(target, reference, turn, tag=tag)
        except UpstreamNotFound as error:
            if target.rule.negative_seconds > 0:
                until = self._clock() + target.rule.negative_seconds
                await self._call(
                    self._answers.save_negative, target.repository, target.upstream_owner, reference, until
                )
            raise ManifestUnknown(f"{target.upstream} does not have {_named(target, reference)}") from error

    async def _fetch(
        self, target: Target, reference: Reference, turn: Turn, *, tag: Tag | None, timeout: float | None = None
    ) -> ManifestRecord:
        """Fetch, verify and keep one manifest; `tag` is set to it where given. One GET."""
        try:
            fetched = await self._upstreams.get(target.upstream).fetch_manifest(
                target.upstream_repository, reference, target.rule.credential, timeout=timeout, turn=turn
            )
            record = ManifestRecord(fetched.digest, fetched.media_type, fetched.body)
            saved = await self._save(target, record, tag)
        except PullthroughError as error:
            self._fetched(target, tag or reference, digest=None, error=error)
            raise
        self._fetched(target, tag or reference, digest=saved.digest)
        return saved

    async def _save(self, target: Target, record: ManifestRecord, tag: Tag | None) -> ManifestRecord:
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

    def _turn(self, target: Target, *, patient: bool = True) -> AbstractAsyncContextManager[Turn]:
        return self._upstreams.get(target.upstream).turn(patient=patient)


def _hit(target: Target, record: ManifestRecord) -> Outcome:
    return Outcome(CacheResult.OWN if record.is_own else CacheResult.HIT, target.rule.prefix)


def _gone(entry: TagRecord) -> str:
    return "gone upstream" if entry.gone_at is not None else ""


def _named(target: Target, reference: Reference) -> str:
    return f"{target.upstream_repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"


def _pause_key(target: Target, tag: str) -> Hashable:
    return target.repository, target.owner, tag


def _lock_key(target: Target, reference: Reference) -> str:
    return f"manifest:{target.repository}:{target.owner}:{reference}"
