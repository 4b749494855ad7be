"""The parts of one worker, each made with the parts that it uses.

the data folder, upstreams, the rules in force -> what is told -> pulls and pushes -> what is kept
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pullthrough.engine.bodies import Bodies
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.keep.degraded import Degradation, Degraded
from pullthrough.engine.keep.eviction import Evictor
from pullthrough.engine.keep.lifecycle_runs import LifecycleRuns
from pullthrough.engine.keep.limits import LimitKeeper
from pullthrough.engine.keep.room import DiskRoom
from pullthrough.engine.keep.secrets import SecretKeeper
from pullthrough.engine.own_repositories import OwnRepositories
from pullthrough.engine.owners import credential_accounts
from pullthrough.engine.pull.blobs.ahead import RangesAhead
from pullthrough.engine.pull.blobs.blobs import Blobs, Patience
from pullthrough.engine.pull.blobs.passing import Passing
from pullthrough.engine.pull.blobs.prefetch import Prefetches
from pullthrough.engine.pull.blobs.presence import Presence
from pullthrough.engine.pull.blobs.records import BlobRecords
from pullthrough.engine.pull.fills.fill import Fill
from pullthrough.engine.pull.fills.fills import Fills
from pullthrough.engine.pull.fills.landing import Landing
from pullthrough.engine.pull.listings import ListingRecords, Listings
from pullthrough.engine.pull.manifests.by_digest import ManifestsByDigest
from pullthrough.engine.pull.manifests.by_tag import ManifestsByTag, UpstreamTag
from pullthrough.engine.pull.manifests.fetching import ManifestFetching
from pullthrough.engine.pull.manifests.manifests import Manifests
from pullthrough.engine.pull.manifests.records import ManifestRecords
from pullthrough.engine.pull.memory import Memory
from pullthrough.engine.pull.negatives import Negatives
from pullthrough.engine.pull.pull_times import PullTimes
from pullthrough.engine.pull.pulls import Pulls
from pullthrough.engine.pull.revalidation import Revalidation
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.push.manifests import ManifestPushes
from pullthrough.engine.push.tidying import Tidying
from pullthrough.engine.tasks import Tasks
from pullthrough.engine.tell.events import Events
from pullthrough.engine.tell.webhook import Webhook
from pullthrough.errors import PullthroughError
from pullthrough.metrics import Metrics, UpstreamMetrics
from pullthrough.oci.digests import Digest
from pullthrough.server.storage import Storage, open_storage
from pullthrough.settings import Settings
from pullthrough.storage.files.folder import DataFolder
from pullthrough.storage.files.reserve import Reserve
from pullthrough.storage.registry.events import EventLog
from pullthrough.threads import Threads
from pullthrough.upstream.interfaces import Upstreams
from pullthrough.upstream.upstreams import HttpUpstreams

#: Eviction gives way to requests for this long after each step.
_EVICTION_PAUSE_SECONDS = 0.02


@dataclass(frozen=True)
class Basis:
    """What nearly every part of a worker uses."""

    settings: Settings
    clock: Callable[[], float]
    metrics: Metrics
    threads: Threads
    tasks: Tasks
    storage: Storage
    upstreams: Upstreams
    configuration: Configuration
    pull_times: PullTimes
    events: Events
    missing: OwnRepositories


@dataclass(frozen=True)
class Pulling:
    bodies: Bodies
    fills: Fills
    manifests: Manifests
    blobs: Blobs
    listings: Listings
    pulls: Pulls

    def in_use(self) -> set[Digest]:
        """Blobs that this worker sends or fills."""
        return self.bodies.being_read() | self.fills.digests()


@dataclass(frozen=True)
class Pushing:
    admission: PushAdmission
    blobs: BlobPushes
    manifests: ManifestPushes
    tidying: Tidying


@dataclass(frozen=True)
class Keeping:
    degraded: Degraded
    degradation: Degradation
    room: DiskRoom
    limits: LimitKeeper
    secrets: SecretKeeper
    lifecycle_runs: LifecycleRuns


@dataclass(frozen=True)
class Worker:
    """All parts of a worker. Only the composition reads this, and tests: a part is handed to who uses it."""

    basis: Basis
    pulling: Pulling
    pushing: Pushing
    keeping: Keeping

    def start(self) -> None:
        """Begin what runs beside the requests."""
        basis, keeping = self.basis, self.keeping
        spawn, call = basis.tasks.spawn, basis.threads.catalog
        flush_seconds = basis.settings.serve.pull_time_flush_seconds
        spawn(_awaited(call(basis.storage.catalog.prepare)), name="preparing the catalog")
        spawn(basis.pull_times.keep(call, flush_seconds), name="writing pull times")
        spawn(keeping.limits.keep(), name="eviction")
        spawn(self.pushing.tidying.keep(), name="tidying up after pushes")
        spawn(keeping.secrets.keep(), name="keeping secrets")
        spawn(keeping.lifecycle_runs.keep(), name="lifecycle policies")
        basis.events.start()

    async def close(self) -> None:
        """Leave fills resumable, write what is only in memory, and give everything back."""
        basis = self.basis
        await basis.tasks.close()
        await basis.upstreams.close()
        self.pulling.fills.close()
        await basis.threads.catalog(basis.pull_times.flush)
        await basis.events.close()
        basis.threads.close()
        basis.storage.close()
        self.keeping.degraded.close()


async def _awaited(work: Awaitable[None]) -> None:
    await work


def compose(
    settings: Settings,
    folder: DataFolder,
    *,
    slot: int,
    slots: int,
    metrics: Metrics,
    clock: Callable[[], float] = time.time,
    patience: Patience | None = None,
) -> Worker:
    """On the worker's event loop. Whoever gets it closes it. Raises StorageError."""
    basis = _make_basis(settings, folder, slot=slot, slots=slots, metrics=metrics, clock=clock)

    # Filling needs room, and making room takes what is filled: these two are known last.
    async def make_room(needed_bytes: int) -> None:
        await keeping.room.make(needed_bytes)

    def fill_ended(fill: Fill, error: PullthroughError | None) -> None:
        keeping.limits.fill_ended(fill, error)

    pulling = _make_pulling(basis, make_room, fill_ended, patience or Patience())
    pushing = _make_pushing(basis, pulling, make_room)
    keeping = _make_keeping(basis, pulling, folder)
    return Worker(basis, pulling, pushing, keeping)


def _make_basis(
    settings: Settings, folder: DataFolder, *, slot: int, slots: int, metrics: Metrics, clock: Callable[[], float]
) -> Basis:
    threads, tasks = Threads(), Tasks()
    storage = open_storage(settings, folder, slot=slot, slots=slots, threads=threads, clock=clock)
    configuration = Configuration(
        settings,
        cache_rules=storage.cache_rules,
        documents=storage.documents,
        exclusions=storage.exclusions,
        repositories=storage.repositories,
        account_of=credential_accounts(storage.catalog.database, storage.secrets).account_of,
        generation=storage.configuration_generation,
        call=threads.catalog,
    )
    ecr = settings.ecr
    return Basis(
        settings=settings,
        clock=clock,
        metrics=metrics,
        threads=threads,
        tasks=tasks,
        storage=storage,
        upstreams=HttpUpstreams(
            settings.upstreams,
            observe=UpstreamMetrics(metrics),
            is_named=functools.partial(_is_named, settings),
            read_secret=lambda arn: storage.secrets.read(arn).value.content,
            clock=clock,
        ),
        configuration=configuration,
        pull_times=PullTimes(storage.catalog.inventory, clock),
        events=Events(
            log=EventLog(storage.catalog.database),
            call=threads.catalog,
            call_slow=threads.body,
            tasks=tasks,
            locks=storage.locks,
            clock=clock,
            account=ecr.account,
            region=ecr.region,
            keep=ecr.keep_events,
            webhook=Webhook(ecr.webhook_url, ecr.webhook_secret_file) if ecr.webhook_url else None,
        ),
        missing=OwnRepositories(
            repositories=storage.repositories,
            call=threads.catalog,
            rules=lambda: configuration.rules,
            account=ecr.account,
        ),
    )


def _is_named(settings: Settings, host: str) -> bool:
    """Whether the settings name an upstream; others are the choice of who may make rules."""
    return host in settings.upstreams or any(rule.upstream == host for rule in settings.rules)


def _make_pulling(
    basis: Basis,
    make_room: Callable[[int], Awaitable[None]],
    fill_ended: Callable[[Fill, PullthroughError | None], None],
    patience: Patience,
) -> Pulling:
    serve, storage, upstreams, tasks, clock = (
        basis.settings.serve,
        basis.storage,
        basis.upstreams,
        basis.tasks,
        basis.clock,
    )
    call, call_slow = basis.threads.catalog, basis.threads.body
    memory = Memory(storage.generation)
    catalog = storage.catalog
    bodies = Bodies(storage.store, catalog.blobs, storage.locks, run=call, run_slow=call_slow, make_room=make_room)
    fills = Fills(
        store=storage.growing,
        landing=Landing(bodies, catalog.blobs, call, clock),
        upstreams=upstreams,
        tasks=tasks,
        watcher=basis.metrics,
        make_room=make_room,
        max_fills=max(1, serve.max_fills // serve.workers),
        is_shared=serve.workers > 1,
        ended=fill_ended,
    )
    negatives = Negatives(catalog.answers, call, clock)
    revalidation = Revalidation(
        negatives=negatives,
        locks=storage.locks,
        upstreams=upstreams,
        tasks=tasks,
        clock=clock,
        stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
    )
    manifest_records = ManifestRecords(catalog.manifests, call, memory)
    manifest_fetching = ManifestFetching(
        manifest_rows=catalog.manifests,
        call=call,
        upstreams=upstreams,
        clock=clock,
        room=make_room,
        fetched=basis.events.pulled_through,
    )
    manifests = Manifests(
        records=manifest_records,
        by_digest=ManifestsByDigest(
            records=manifest_records,
            fetching=manifest_fetching,
            negatives=negatives,
            locks=storage.locks,
            upstreams=upstreams,
            tasks=tasks,
        ),
        by_tag=ManifestsByTag(
            revalidation,
            functools.partial(
                UpstreamTag,
                records=manifest_records,
                fetching=manifest_fetching,
                manifest_rows=catalog.manifests,
                call=call,
                upstreams=upstreams,
                clock=clock,
            ),
        ),
        own=basis.missing,
        clock=clock,
    )
    blobs = Blobs(
        records=BlobRecords(catalog.blobs, catalog.answers, storage.pushed, call, memory, bodies),
        bodies=bodies,
        fills=fills,
        presence=Presence(upstreams, catalog.answers, call, tasks, clock),
        ahead=RangesAhead(upstreams, tasks, serve.range_ahead_bytes),
        passing=Passing(upstreams, call_slow),
        prefetches=_make_prefetches(basis, fills) if serve.prefetch else None,
        pull_times=basis.pull_times,
        own=basis.missing,
        tasks=tasks,
        patience=patience,
    )
    listings = Listings(
        revalidation=revalidation,
        records=ListingRecords(catalog.answers, call, tasks),
        manifest_rows=catalog.manifests,
        call=call,
        upstreams=upstreams,
        clock=clock,
        own=basis.missing,
        referrers=storage.referrers,
    )
    pulls = Pulls(
        manifests=manifests,
        blobs=blobs,
        listings=listings,
        answers=catalog.answers,
        repositories=storage.repositories,
        call=call,
        clock=clock,
        stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
    )
    return Pulling(bodies, fills, manifests, blobs, listings, pulls)


def _make_prefetches(basis: Basis, fills: Fills) -> Prefetches:
    return Prefetches(
        fills=fills,
        blob_rows=basis.storage.catalog.blobs,
        call=basis.threads.catalog,
        upstreams=basis.upstreams,
        tasks=basis.tasks,
        locks=basis.storage.locks,
        per_upstream=basis.settings.serve.prefetch_per_upstream,
    )


def _make_pushing(basis: Basis, pulling: Pulling, make_room: Callable[[int], Awaitable[None]]) -> Pushing:
    storage, call, call_slow = basis.storage, basis.threads.catalog, basis.threads.body
    admission = PushAdmission(
        own=basis.missing,
        pushed=storage.pushed,
        call=call,
        make_room=make_room,
        strict=basis.settings.ecr.strict,
    )
    return Pushing(
        admission=admission,
        blobs=BlobPushes(
            admission=admission,
            uploads=storage.uploads,
            bodies=pulling.bodies,
            pushed=storage.pushed,
            call=call,
            clock=basis.clock,
        ),
        manifests=ManifestPushes(
            admission=admission,
            pushed=storage.pushed,
            call=call,
            call_slow=call_slow,
            happened=basis.events.image,
            clock=basis.clock,
        ),
        tidying=Tidying(
            uploads=storage.uploads,
            pushed=storage.pushed,
            bodies=pulling.bodies,
            in_use=pulling.in_use,
            locks=storage.locks,
            call_slow=call_slow,
            clock=basis.clock,
        ),
    )


def _make_keeping(basis: Basis, pulling: Pulling, folder: DataFolder) -> Keeping:
    serve, storage, metrics = basis.settings.serve, basis.storage, basis.metrics
    call = basis.threads.catalog
    degraded = Degraded(folder.degraded_path)
    degradation = Degradation(degraded, metrics.degraded)
    room = DiskRoom(
        evictor=Evictor(
            storage.catalog.usage,
            storage.catalog.inventory,
            storage.store,
            storage.growing,
            pulling.bodies,
            storage.limits,
            run=call,
            run_slow=basis.threads.body,
            in_use=pulling.in_use,
            locks=storage.locks,
            clock=basis.clock,
            pause=lambda: asyncio.sleep(_EVICTION_PAUSE_SECONDS),
        ),
        reserve=Reserve(folder.reserve_path, storage.total_bytes),
        store=storage.store,
        locks=storage.locks,
        pull_times=basis.pull_times,
        threads=basis.threads,
        metrics=metrics,
    )
    return Keeping(
        degraded=degraded,
        degradation=degradation,
        room=room,
        limits=LimitKeeper(
            room=room,
            usage=storage.catalog.usage,
            store=storage.store,
            threads=basis.threads,
            degradation=degradation,
            metrics=metrics,
            interval_seconds=serve.evict_interval_seconds,
        ),
        secrets=SecretKeeper(
            secrets=storage.secrets, sealer=storage.sealer, database=storage.catalog.database, call=call
        ),
        lifecycle_runs=LifecycleRuns(
            images=storage.images,
            lifecycles=storage.lifecycles,
            inventory=storage.catalog.inventory,
            locks=storage.locks,
            tasks=basis.tasks,
            call=call,
            call_slow=basis.threads.body,
            flush=basis.pull_times.flush,
            happened=basis.events.image,
            clock=basis.clock,
            interval_seconds=basis.settings.ecr.lifecycle_interval_seconds,
        ),
    )
