"""The engine of one worker: its parts, put together, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from pullthrough.engine.blobs import BlobAnswer, BlobFacts, Blobs, Patience
from pullthrough.engine.check import check
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.degraded import Degraded
from pullthrough.engine.events import Events
from pullthrough.engine.eviction import EvictionReport, Evictor, Limits
from pullthrough.engine.fills import Fill, Fills
from pullthrough.engine.lifecycle_runs import LifecycleRuns
from pullthrough.engine.listings import Listing, Listings
from pullthrough.engine.manifests import ManifestAnswer, Manifests
from pullthrough.engine.memory import Memory
from pullthrough.engine.own import Own
from pullthrough.engine.owners import credential_accounts
from pullthrough.engine.prefetch import Prefetches
from pullthrough.engine.pull_times import PullTimes
from pullthrough.engine.pushes import Pushes
from pullthrough.engine.reserve import Reserve
from pullthrough.engine.rules import RuleBook, Target, Targets
from pullthrough.engine.tasks import Tasks
from pullthrough.engine.webhook import Webhook
from pullthrough.errors import (
    ContentUnknown,
    DiskFull,
    PullthroughError,
    RepositoryUnknown,
    StorageError,
    UpstreamDenied,
    UpstreamError,
    UpstreamNotFound,
)
from pullthrough.metrics import Metrics
from pullthrough.oci.digests import Digest
from pullthrough.oci.names import (
    ImageReference,
    Reference,
    parse_image_reference,
    parse_repository_name,
)
from pullthrough.oci.owners import OWN
from pullthrough.settings import Settings
from pullthrough.storage.blobs import BlobStore
from pullthrough.storage.catalog import Catalog
from pullthrough.storage.events import EventLog
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.generation import Generation
from pullthrough.storage.images import Images
from pullthrough.storage.lifecycles import Lifecycles
from pullthrough.storage.locks import FileLocks
from pullthrough.storage.master_keys import MasterKeys
from pullthrough.storage.pushed import Pushed
from pullthrough.storage.registry import Registry
from pullthrough.storage.repositories import Repositories
from pullthrough.storage.sealing import Sealer
from pullthrough.storage.secrets import Secrets
from pullthrough.storage.uploads import Uploads
from pullthrough.units import format_bytes, format_time
from pullthrough.upstream.interfaces import Upstreams
from pullthrough.upstream.upstreams import HttpUpstreams

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_CATALOG_THREADS = 4
#: Reading cold windows, ranges, and verifying after a restart of the machine.
_BODY_THREADS = 16
#: Eviction gives way to requests for this long after each step.
_EVICTION_PAUSE_SECONDS = 0.02
#: Held by whoever makes room with the reserve: taken back in the middle, it would leave the catalog none to write with.
_RESERVE_LOCK = "reserve"
_RESERVE_PATIENCE_SECONDS = 10.0
#: Between two looks for secrets whose recovery window, of days, is over.
_PURGE_SECONDS = 600.0
#: This part of the disk being free, it is not full any more, though nothing has been written since.
_ROOM_AGAIN = 0.05
#: Answers that say the upstream does not have, or does not show, a name; all else leaves that open.
_ABSENT = (ContentUnknown, RepositoryUnknown, UpstreamNotFound, UpstreamDenied)


class Engine:
    """Everything a worker serves from. Made on its event loop; `close` ends all of it."""

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        *,
        slot: int,
        slots: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        patience: Patience | None = None,
    ) -> None:
        serve = settings.serve
        self.settings = settings
        self.metrics = metrics
        self.clock = clock
        self.tasks = Tasks()
        self.threads = ThreadPoolExecutor(_BODY_THREADS, thread_name_prefix="body")
        self._catalog_threads = ThreadPoolExecutor(_CATALOG_THREADS, thread_name_prefix="catalog")
        self.generation = Generation(folder.generation_path, slot, slots)
        self.configuration_generation = Generation(folder.configuration_path, slot, slots)
        self.catalog = Catalog.open(
            folder.catalog_path,
            generation=self.generation,
            clock=clock,
            configuration=self.configuration_generation,
        )
        #: Encrypts secrets and API keys at rest. Without its key it raises SealingKeyMissing, and all else goes on.
        self.sealer = Sealer(MasterKeys(settings.encryption_key_path, os.environ))
        self.secrets = Secrets(
            self.catalog.database,
            self.sealer,
            account=settings.ecr.account,
            region=settings.ecr.region,
            clock=clock,
        )
        self.registry = Registry(self.catalog.database)
        self.repositories = Repositories(self.catalog.database)
        #: Rules, policies and account settings; the faces refresh it before a request where it is not current.
        self.configuration = Configuration(
            settings,
            registry=self.registry,
            repositories=self.repositories,
            account_of=credential_accounts(self.catalog.database, self.secrets).account_of,
            generation=self.configuration_generation,
            call=self.call,
        )
        self.store = BlobStore(folder)
        self.locks = FileLocks(folder.locks_path)
        self.upstreams: Upstreams = HttpUpstreams(
            settings.upstreams,
            observe=_Observer(metrics),
            is_named=self._is_named,
            read_secret=lambda arn: self.secrets.read(arn).value.content,
            clock=clock,
        )
        self.pull_times = PullTimes(self.catalog, clock)
        self._degraded = Degraded(folder.degraded_path)
        self._reserve = Reserve(folder.reserve_path, self.store.disk().total_bytes)
        memory = Memory(self.generation)
        self.fills = Fills(
            store=self.store,
            catalog=self.catalog,
            call=self.call,
            upstreams=self.upstreams,
            tasks=self.tasks,
            metrics=metrics,
            clock=clock,
            boot_id=folder.boot_id,
            make_room=self._make_room,
            max_fills=max(1, serve.max_fills // serve.workers),
            is_shared=serve.workers > 1,
            ended=self._fill_ended,
        )
        prefetches = Prefetches(
            fills=self.fills,
            catalog=self.catalog,
            call=self.call,
            upstreams=self.upstreams,
            tasks=self.tasks,
            locks=self.locks,
            per_upstream=serve.prefetch_per_upstream,
        )
        self.events = Events(
            log=EventLog(self.catalog.database),
            call=self.call,
            call_slow=self._in_body_thread,
            tasks=self.tasks,
            locks=self.locks,
            clock=clock,
            account=settings.ecr.account,
            region=settings.ecr.region,
            keep=settings.ecr.keep_events,
            webhook=Webhook(settings.ecr.webhook_url, settings.ecr.webhook_secret_file)
            if settings.ecr.webhook_url
            else None,
        )
        self.pushed = Pushed(self.catalog.database)
        self._own = Own(catalog=self.catalog, call=self.call, rules=lambda: self.rules, account=settings.ecr.account)
        self.manifests = Manifests(
            catalog=self.catalog,
            call=self.call,
            memory=memory,
            locks=self.locks,
            upstreams=self.upstreams,
            tasks=self.tasks,
            clock=clock,
            stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
            room=self._room,
            fetched=self.events.pulled_through,
            own=self._own,
        )
        self.blobs = Blobs(
            catalog=self.catalog,
            call=self.call,
            store=self.store,
            locks=self.locks,
            memory=memory,
            fills=self.fills,
            upstreams=self.upstreams,
            tasks=self.tasks,
            pull_times=self.pull_times,
            clock=clock,
            boot_id=folder.boot_id,
            prefetches=prefetches if serve.prefetch else None,
            range_ahead_bytes=serve.range_ahead_bytes,
            threads=self.threads,
            own=self._own,
            pushed=self.pushed,
            patience=patience or Patience(),
        )
        self.listings = Listings(
            catalog=self.catalog,
            call=self.call,
            locks=self.locks,
            upstreams=self.upstreams,
            tasks=self.tasks,
            clock=clock,
            stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
            own=self._own,
            pushed=self.pushed,
        )
        self._uploads = Uploads(folder.uploads_path)
        self.pushes = Pushes(
            catalog=self.catalog,
            pushed=self.pushed,
            store=self.store,
            uploads=self._uploads,
            locks=self.locks,
            own=self._own,
            call=self.call,
            call_slow=self._in_body_thread,
            in_use=self.blobs.in_use,
            room=self._room,
            happened=self.events.image,
            clock=clock,
            boot_id=folder.boot_id,
            strict=settings.ecr.strict,
        )
        limits = Limits(serve.max_size, serve.min_free)
        self.catalog.max_content_bytes = limits.most_catalog_bytes(self.store.disk().total_bytes)
        self._evictor = Evictor(
            self.catalog,
            self.store,
            limits,
            in_use=self.blobs.in_use,
            locks=self.locks,
            clock=clock,
            pause=lambda: time.sleep(_EVICTION_PAUSE_SECONDS),
        )
        self.images = Images(self.catalog.database)
        self.lifecycles = Lifecycles(self.catalog.database)
        self.lifecycle_runs = LifecycleRuns(
            images=self.images,
            lifecycles=self.lifecycles,
            inventory=self.catalog.inventory,
            locks=self.locks,
            tasks=self.tasks,
            call=self.call,
            call_slow=self._in_body_thread,
            flush=self.pull_times.flush,
            happened=self.events.image,
            clock=clock,
            interval_seconds=settings.ecr.lifecycle_interval_seconds,
        )
        self._evict_now = asyncio.Event()
        self._looks_over_limit = 0

    @property
    def rules(self) -> RuleBook:
        return self.configuration.rules

    def _is_named(self, host: str) -> bool:
        """Whether the settings name an upstream; others are the choice of who may make rules."""
        return host in self.settings.upstreams or any(rule.upstream == host for rule in self.settings.rules)

    def start(self) -> None:
        """Begin what runs beside the requests."""
        self.tasks.spawn(self._prepare(), name="preparing the catalog")
        self.tasks.spawn(self._flush_pull_times(), name="writing pull times")
        self.tasks.spawn(self._keep_limits(), name="eviction")
        self.tasks.spawn(self.pushes.keep_tidy(), name="tidying up after pushes")
        self.tasks.spawn(self._keep_secrets(), name="keeping secrets")
        self.tasks.spawn(self.lifecycle_runs.keep(), name="lifecycle policies")
        self.events.start()

    async def close(self) -> None:
        """Leave fills resumable, write what is only in memory, and give everything back."""
        await self.tasks.close()
        await self.upstreams.close()
        self.fills.close()
        await self.call(self.pull_times.flush)
        await self.events.close()
        self._catalog_threads.shutdown()
        self.threads.shutdown()
        self.catalog.close()
        self.generation.close()
        self.configuration_generation.close()
        self._degraded.close()

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run a blocking function in the catalog's threads."""
        return asyncio.get_running_loop().run_in_executor(
            self._catalog_threads, functools.partial(function, *args, **kwargs)
        )

    # --- pulls -------------------------------------------------------------------------------------------------------

    async def manifest(self, targets: Targets, reference: Reference, *, force: bool = False) -> ManifestAnswer:
        """A manifest by the first of the targets that has it; see `Manifests.get`."""
        return await self._first(targets, lambda target: self.manifests.get(target, reference, force=force))

    async def blob(self, targets: Targets, digest: Digest, *, whole: bool) -> BlobAnswer:
        return await self._first(targets, lambda target: self.blobs.get(target, digest, whole=whole))

    async def blob_facts(self, targets: Targets, digest: Digest) -> BlobFacts:
        return await self._first(targets, lambda target: self.blobs.head(target, digest))

    async def tags(self, targets: Targets, *, after: str = "", most: int | None = None, force: bool = False) -> Listing:
        return await self._first(
            targets, lambda target: self.listings.tags(target, after=after, most=most, force=force)
        )

    async def referrers(
        self, targets: Targets, digest: Digest, *, artifact_type: str = "", after: str = "", force: bool = False
    ) -> Listing:
        return await self._first(
            targets,
            lambda target: self.listings.referrers(
                target, digest, artifact_type=artifact_type, after=after, force=force
            ),
        )

    async def _first(self, targets: Targets, get: Callable[[Target], Awaitable[T]]) -> T:
        """The literal name's answer, or the stripped one's where the upstream does not have the literal name.

        That it does not is remembered for the rule's freshness, so that nodes with ECR-style mirrors cost one look-up.
        Where the upstream cannot be asked, or not soon enough, what is cached under the stripped name is served.
        """
        literal, stripped = targets.literal, targets.stripped
        if stripped is None:
            return await get(literal)
        name = literal.upstream_repository
        limit: float | None = None
        if not await self.call(self.catalog.has_repository, literal.repository, literal.owner):
            seen = await self.call(self.catalog.find_absent_name, literal.source, name)
            if seen is not None and self.clock() - seen < literal.rule.freshness_seconds:
                return await get(stripped)
            if await self.call(self.catalog.has_repository, stripped.repository, stripped.owner):
                limit = self.settings.serve.stale_check_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await get(literal)
        except _ABSENT as error:
            try:
                answer = await get(stripped)
            except _ABSENT:
                raise error from None
            await self.call(self.catalog.save_absent_name, literal.source, name, self.clock())
            return answer
        except TimeoutError:
            return await get(stripped)
        except UpstreamError:
            if await self.call(self.catalog.has_repository, stripped.repository, stripped.owner):
                return await get(stripped)
            raise

    # --- operations --------------------------------------------------------------------------------------------------

    def _target(self, image: str) -> tuple[Target, ImageReference]:
        parsed = parse_image_reference(image)
        target = self.rules.resolve(parsed.repository).literal
        if target.owner == OWN:
            raise RepositoryUnknown(
                f"{target.repository} is the registry's own, since it was pushed: it has no upstream, and eviction leaves it "
                "alone"
            )
        if target.is_own:
            prefixes = ", ".join(self.rules.prefixes) or "none"
            raise RepositoryUnknown(
                f"no rule covers the repository {str(parsed.repository)!r}, so that it has no upstream and eviction leaves "
                f"it alone; the prefixes are: {prefixes}"
            )
        return target, parsed

    async def refresh(self, image: str) -> dict[str, Any]:
        """Check a tag with its upstream now. Raises the reason where that is not possible."""
        target, parsed = self._target(image)
        reference = parsed.reference
        before = await self.call(self._known_digest, target, reference)
        answer = await self.manifests.get(target, reference, force=True, strict=True)
        return {
            "image": image,
            "digest": str(answer.manifest.digest),
            "changed": before != answer.manifest.digest,
            "checked_at": format_time(self.clock() - (answer.outcome.age_seconds or 0)),
        }

    def _known_digest(self, target: Target, reference: Reference) -> Digest | None:
        if isinstance(reference, Digest):
            record = self.catalog.find_manifest(target.repository, target.owner, reference)
            return record.digest if record else None
        entry = self.catalog.find_tag(target.repository, target.owner, reference)
        return entry.manifest.digest if entry else None

    async def pin(self, image: str) -> dict[str, Any]:
        """Keep an image from eviction, whether or not it is cached yet."""
        target, parsed = self._target(image)
        await self.call(self.catalog.pin, target.repository, str(parsed.reference), self.clock())
        return {"image": _stored_name(target, parsed), "pinned": True}

    async def unpin(self, image: str) -> dict[str, Any]:
        # Also under no rule: there may have been one when it was pinned.
        parsed = parse_image_reference(image)
        target = self.rules.resolve(parsed.repository).literal
        if not await self.call(self.catalog.unpin, target.repository, str(parsed.reference)):
            raise ContentUnknown(f"{image} is not pinned")
        return {"image": _stored_name(target, parsed), "pinned": False}

    async def evict(self, *, dry_run: bool) -> dict[str, Any]:
        await self.call(self.pull_times.flush)
        report = await self._in_body_thread(self._run_evictor, dry_run, 0)
        return report.to_dict()

    async def lifecycle(self, repository: str | None, *, dry_run: bool) -> dict[str, Any]:
        """Evaluate one repository's lifecycle policy, or all of them; or only say what they would do."""
        name = None if repository is None else self.rules.resolve(parse_repository_name(repository)).literal.repository
        outcomes = await self.lifecycle_runs.run(name, dry_run=dry_run)
        return {"dry_run": dry_run, "repositories": [outcome.to_dict() for outcome in outcomes]}

    async def newest_events(self, limit: int) -> dict[str, Any]:
        return {"events": await self.events.newest(limit)}

    async def check(self) -> dict[str, Any]:
        """Report only: an engine is running."""
        report = await self._in_body_thread(
            functools.partial(
                check, self.catalog, self.store, self._uploads, repair=False, pause=lambda: time.sleep(0.001)
            )
        )
        return report.to_dict()

    async def status(self) -> dict[str, Any]:
        totals = await self.call(self.catalog.totals)
        disk = await self.call(self.store.disk)
        return {
            "degraded": self.degraded,
            "repositories": totals.repositories,
            "manifests": totals.manifests,
            "tags": totals.tags,
            "blobs": totals.blobs,
            "stored_bytes": totals.stored_bytes,
            "disk_free_bytes": disk.free_bytes,
            "disk_total_bytes": disk.total_bytes,
            "upstreams": self.upstreams_status(),
        }

    def upstreams_status(self) -> dict[str, Any]:
        return {health.upstream: dataclasses.asdict(health) for health in self.upstreams.health()}

    def _in_body_thread(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Run what may take long in the threads of bodies."""
        return asyncio.get_running_loop().run_in_executor(self.threads, functools.partial(function, *args, **kwargs))

    # --- room on the disk --------------------------------------------------------------------------------------------

    def _run_evictor(self, dry_run: bool, needed_bytes: int) -> EvictionReport:
        report = self._evictor.run(dry_run=dry_run, needed_bytes=needed_bytes)
        if not dry_run and report.freed_bytes:
            self.metrics.evicted(report.freed_bytes)
            _log.info("evicted %d images, %d bytes", len(report.evicted), report.freed_bytes)
        return report

    def _make_room(self, needed_bytes: int) -> None:
        """Called in any thread that met a full disk. Evicting takes some room itself: the reserve's.

        Who waits for another too long goes on beside it: a full disk is worse than a reserve that is taken back early.
        """
        with self.locks.held_within(_RESERVE_LOCK, _RESERVE_PATIENCE_SECONDS):
            try:
                self._reserve.release()
                self.pull_times.flush()
                self._run_evictor(False, needed_bytes + self._reserve.size_bytes)
                if self.store.disk().free_bytes >= needed_bytes + self._reserve.size_bytes:
                    self._reserve.restore()
            except (StorageError, OSError) as error:
                _log.error("no room could be made: %s", error)

    def _restore_reserve(self) -> None:
        """Unless somebody is making room with it at this moment."""
        with self.locks.held_within(_RESERVE_LOCK, 0.0) as held:
            if held:
                self._reserve.restore()

    async def _room(self, needed_bytes: int) -> None:
        await self._in_body_thread(self._make_room, needed_bytes)

    def _fill_ended(self, fill: Fill, error: PullthroughError | None) -> None:
        if isinstance(error, DiskFull):
            self._degrade("disk_full", error.message)
        elif error is None:
            self._recover("disk_full")
            self._evict_now.set()

    @property
    def degraded(self) -> dict[str, str]:
        """Why the engine, in any worker, serves less than it should: reason -> sentence."""
        return self._degraded.read()

    def _degrade(self, reason: str, sentence: str) -> None:
        if self._degraded.add(reason, sentence):
            _log.error("degraded: %s: %s", reason, sentence)
        self.metrics.degraded(reason, True)

    def _recover(self, reason: str) -> None:
        if self._degraded.remove(reason):
            _log.info("no longer degraded: %s", reason)
            self.metrics.degraded(reason, False)

    async def _prepare(self) -> None:
        await self.call(self.catalog.prepare)

    async def _keep_limits(self) -> None:
        """Evict where the limits ask for it: now and then, and soon after something was published."""
        interval = self.settings.serve.evict_interval_seconds
        while True:
            try:
                disk = await self.call(self.store.disk)
                stored_bytes = await self.call(self.catalog.stored_bytes)
                self.metrics.disk(stored_bytes=stored_bytes, free_bytes=disk.free_bytes, total_bytes=disk.total_bytes)
                self._judge_limits(await self._in_body_thread(self._run_evictor, False, 0))
                await self.call(self._restore_reserve)
                if disk.free_bytes > _ROOM_AGAIN * disk.total_bytes:
                    self._recover("disk_full")
            except (StorageError, OSError) as error:
                _log.error("eviction failed: %s", error)
            self._evict_now.clear()
            await asyncio.sleep(min(1.0, interval))  # at most one look a second, however many fills end
            try:
                async with asyncio.timeout(max(0.0, interval - 1.0)):
                    await self._evict_now.wait()
            except TimeoutError:
                pass

    def _judge_limits(self, report: EvictionReport) -> None:
        """Say so where the limits cannot be kept: then whatever is cached will not stay for long."""
        if report.limit_bytes is None or report.stored_bytes <= report.limit_bytes:
            self._looks_over_limit = 0
            self._recover("over_limit")
            return
        self._looks_over_limit += 1
        if self._looks_over_limit < 2:
            return  # another worker may be evicting at this moment
        self._degrade(
            "over_limit",
            f"{format_bytes(report.stored_bytes)} are stored, max_size and min_free leave room for "
            f"{format_bytes(report.limit_bytes)}, and nothing more may be evicted now: all of it was pulled within the "
            "last minute, is in use, is pinned or was pushed",
        )

    async def _keep_secrets(self) -> None:
        """Say at once where their key is missing. Those whose recovery window is over cannot be seen any more; now and
        then they are removed as well."""
        try:
            await self.call(self.sealer.check, self.catalog.database)
        except StorageError as error:
            _log.warning("secrets and API keys that were made here cannot be used: %s; %s", error, error.hint)
        while True:
            try:
                await self.call(self.secrets.purge)
            except StorageError as error:
                _log.error("deleted secrets could not be removed: %s", error)
            await asyncio.sleep(_PURGE_SECONDS)

    async def _flush_pull_times(self) -> None:
        while True:
            await asyncio.sleep(self.settings.serve.pull_time_flush_seconds)
            try:
                await self.call(self.pull_times.flush)
            except StorageError as error:
                _log.warning("pull times could not be written: %s", error)


def _stored_name(target: Target, image: ImageReference) -> str:
    """The image as it is kept: `docker-hub/nginx` is `docker-hub/library/nginx`."""
    separator = "@" if image.digest else ":"
    return f"{target.repository}{separator}{image.reference}"


class _Observer:
    """Tells the metrics what the upstream layer does."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def on_request(self, upstream: str, method: str, status: int | None) -> None:
        self._metrics.upstream_request(upstream, method, status)

    def on_bytes(self, upstream: str, size_bytes: int) -> None:
        self._metrics.upstream_bytes(upstream, size_bytes)

    def on_budget(self, upstream: str, remaining: int | None, paused_until: float) -> None:
        if remaining is not None:
            self._metrics.rate_limit_remaining(upstream, remaining)

    def on_health(self, upstream: str, healthy: bool) -> None:
        self._metrics.upstream_healthy(upstream, healthy)

    def on_credential(self, upstream: str, ok: bool) -> None:
        self._metrics.credential_ok(upstream, ok)
