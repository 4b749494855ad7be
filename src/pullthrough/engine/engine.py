"""The engine of one worker: its parts, put together, and what runs beside the requests."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from pullthrough.engine.blobs import Blobs, Patience
from pullthrough.engine.bodies import Bodies
from pullthrough.engine.configuration import Configuration
from pullthrough.engine.degraded import Degradation, Degraded
from pullthrough.engine.events import Events
from pullthrough.engine.eviction import Evictor
from pullthrough.engine.fills import Fills
from pullthrough.engine.keep.limits import LimitKeeper
from pullthrough.engine.keep.planning import Limits
from pullthrough.engine.keep.room import DiskRoom
from pullthrough.engine.keep.secrets import SecretKeeper
from pullthrough.engine.lifecycle_runs import LifecycleRuns
from pullthrough.engine.listings import Listings
from pullthrough.engine.manifests import Manifests
from pullthrough.engine.memory import Memory
from pullthrough.engine.own import Own
from pullthrough.engine.owners import credential_accounts
from pullthrough.engine.prefetch import Prefetches
from pullthrough.engine.pull.ahead import RangesAhead
from pullthrough.engine.pull.fill import Fill
from pullthrough.engine.pull.landing import Landing
from pullthrough.engine.pull.passing import Passing
from pullthrough.engine.pull.presence import Presence
from pullthrough.engine.pull.pulls import Pulls
from pullthrough.engine.pull.records import BlobRecords
from pullthrough.engine.pull_times import PullTimes
from pullthrough.engine.push.admission import PushAdmission
from pullthrough.engine.push.blobs import BlobPushes
from pullthrough.engine.push.manifests import ManifestPushes
from pullthrough.engine.push.tidying import Tidying
from pullthrough.engine.reserve import Reserve
from pullthrough.engine.rules import RuleBook
from pullthrough.engine.tasks import Tasks
from pullthrough.engine.threads import Threads
from pullthrough.engine.webhook import Webhook
from pullthrough.errors import (
    ContentUnknown,
    PullthroughError,
    RepositoryUnknown,
    UpstreamDenied,
    UpstreamNotFound,
)
from pullthrough.metrics import Metrics, UpstreamMetrics
from pullthrough.oci.digests import Digest
from pullthrough.settings import Settings
from pullthrough.storage.blobs import BlobFiles
from pullthrough.storage.catalog.catalog import Catalog
from pullthrough.storage.catalog.referrers import Referrers
from pullthrough.storage.events import EventLog
from pullthrough.storage.files.bodies import FileBodies
from pullthrough.storage.files.growing import GrowingFiles
from pullthrough.storage.files.pushing import FileUploads
from pullthrough.storage.folder import DataFolder
from pullthrough.storage.generation import Generation
from pullthrough.storage.images import Images
from pullthrough.storage.lifecycles import Lifecycles
from pullthrough.storage.locks import FileLocks
from pullthrough.storage.master_keys import MasterKeys
from pullthrough.storage.pushed import Pushed
from pullthrough.storage.registry.cache_rules import CacheRules
from pullthrough.storage.registry.documents import DocumentRows
from pullthrough.storage.registry.exclusions import PullTimeExclusions
from pullthrough.storage.repositories import Repositories
from pullthrough.storage.sealing import Sealer
from pullthrough.storage.secrets import Secrets
from pullthrough.storage.uploads import Uploads
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
        self.threads = Threads()
        self.call = self.threads.catalog
        self.generation = Generation(folder.generation_path, slot, slots)
        self.configuration_generation = Generation(folder.configuration_path, slot, slots)
        files = BlobFiles(folder)
        total_bytes = files.disk().total_bytes
        limits = Limits(serve.max_size, serve.min_free)
        self.catalog = Catalog.open(
            folder.catalog_path,
            generation=self.generation,
            clock=clock,
            configuration=self.configuration_generation,
            max_content_bytes=limits.most_catalog_bytes(total_bytes),
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
        self.cache_rules = CacheRules(self.catalog.database)
        self.document_rows = DocumentRows(self.catalog.database)
        self.exclusions = PullTimeExclusions(self.catalog.database)
        self.repositories = Repositories(self.catalog.database)
        #: Rules, policies and account settings; the faces refresh it before a request where it is not current.
        self.configuration = Configuration(
            settings,
            cache_rules=self.cache_rules,
            documents=self.document_rows,
            exclusions=self.exclusions,
            repositories=self.repositories,
            account_of=credential_accounts(self.catalog.database, self.secrets).account_of,
            generation=self.configuration_generation,
            call=self.call,
        )
        self.store = FileBodies(files, self.threads.body)
        self.growing = GrowingFiles(files, self.call)
        self.uploads = FileUploads(Uploads(folder.uploads_path), files, self.call, self.threads.body)
        self.locks = FileLocks(folder.locks_path)
        self.upstreams: Upstreams = HttpUpstreams(
            settings.upstreams,
            observe=UpstreamMetrics(metrics),
            is_named=self._is_named,
            read_secret=lambda arn: self.secrets.read(arn).value.content,
            clock=clock,
        )
        self.pull_times = PullTimes(self.catalog.inventory, clock)
        self._degraded = Degraded(folder.degraded_path)
        self.degradation = Degradation(self._degraded, metrics.degraded)
        memory = Memory(self.generation)
        self.bodies = Bodies(
            self.store,
            self.catalog.blobs,
            self.locks,
            run=self.call,
            run_slow=self.threads.body,
            make_room=self._make_room,
        )
        self.fills = Fills(
            store=self.growing,
            landing=Landing(self.bodies, self.catalog.blobs, self.call, clock),
            upstreams=self.upstreams,
            tasks=self.tasks,
            watcher=metrics,
            make_room=self._make_room,
            max_fills=max(1, serve.max_fills // serve.workers),
            is_shared=serve.workers > 1,
            ended=self._fill_ended,
        )
        prefetches = Prefetches(
            fills=self.fills,
            blob_rows=self.catalog.blobs,
            call=self.call,
            upstreams=self.upstreams,
            tasks=self.tasks,
            locks=self.locks,
            per_upstream=serve.prefetch_per_upstream,
        )
        self.events = Events(
            log=EventLog(self.catalog.database),
            call=self.call,
            call_slow=self.threads.body,
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
        self.referrers = Referrers(self.catalog.database)
        self._own = Own(
            repositories=self.repositories, call=self.call, rules=lambda: self.rules, account=settings.ecr.account
        )
        self.manifests = Manifests(
            manifest_rows=self.catalog.manifests,
            answers=self.catalog.answers,
            call=self.call,
            memory=memory,
            locks=self.locks,
            upstreams=self.upstreams,
            tasks=self.tasks,
            clock=clock,
            stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
            room=self._make_room,
            fetched=self.events.pulled_through,
            own=self._own,
        )
        self.blobs = Blobs(
            records=BlobRecords(self.catalog.blobs, self.catalog.answers, self.pushed, self.call, memory, self.bodies),
            bodies=self.bodies,
            fills=self.fills,
            presence=Presence(self.upstreams, self.catalog.answers, self.call, self.tasks, clock),
            ahead=RangesAhead(self.upstreams, self.tasks, serve.range_ahead_bytes),
            passing=Passing(self.upstreams, self.threads.body),
            prefetches=prefetches if serve.prefetch else None,
            pull_times=self.pull_times,
            own=self._own,
            tasks=self.tasks,
            patience=patience or Patience(),
        )
        self.listings = Listings(
            manifest_rows=self.catalog.manifests,
            answers=self.catalog.answers,
            call=self.call,
            locks=self.locks,
            upstreams=self.upstreams,
            tasks=self.tasks,
            clock=clock,
            stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
            own=self._own,
            referrers=self.referrers,
        )
        self.push_admission = PushAdmission(
            own=self._own,
            pushed=self.pushed,
            call=self.call,
            make_room=self._make_room,
            strict=settings.ecr.strict,
        )
        self.blob_pushes = BlobPushes(
            admission=self.push_admission,
            uploads=self.uploads,
            bodies=self.bodies,
            pushed=self.pushed,
            call=self.call,
            clock=clock,
        )
        self.manifest_pushes = ManifestPushes(
            admission=self.push_admission,
            pushed=self.pushed,
            call=self.call,
            call_slow=self.threads.body,
            happened=self.events.image,
            clock=clock,
        )
        self._tidying = Tidying(
            uploads=self.uploads,
            pushed=self.pushed,
            bodies=self.bodies,
            in_use=self._in_use,
            locks=self.locks,
            call_slow=self.threads.body,
            clock=clock,
        )
        self.room = DiskRoom(
            evictor=Evictor(
                self.catalog.usage,
                self.catalog.inventory,
                self.store,
                self.growing,
                self.bodies,
                limits,
                run=self.call,
                run_slow=self.threads.body,
                in_use=self._in_use,
                locks=self.locks,
                clock=clock,
                pause=lambda: asyncio.sleep(_EVICTION_PAUSE_SECONDS),
            ),
            reserve=Reserve(folder.reserve_path, total_bytes),
            store=self.store,
            locks=self.locks,
            pull_times=self.pull_times,
            threads=self.threads,
            metrics=metrics,
        )
        self._limits = LimitKeeper(
            room=self.room,
            usage=self.catalog.usage,
            store=self.store,
            threads=self.threads,
            degradation=self.degradation,
            metrics=metrics,
            interval_seconds=serve.evict_interval_seconds,
        )
        self._secret_keeper = SecretKeeper(
            secrets=self.secrets, sealer=self.sealer, database=self.catalog.database, call=self.call
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
            call_slow=self.threads.body,
            flush=self.pull_times.flush,
            happened=self.events.image,
            clock=clock,
            interval_seconds=settings.ecr.lifecycle_interval_seconds,
        )
        self.pulls = Pulls(
            manifests=self.manifests,
            blobs=self.blobs,
            listings=self.listings,
            answers=self.catalog.answers,
            repositories=self.repositories,
            call=self.call,
            clock=clock,
            stale_check_timeout_seconds=serve.stale_check_timeout_seconds,
        )

    @property
    def rules(self) -> RuleBook:
        return self.configuration.rules

    def _is_named(self, host: str) -> bool:
        """Whether the settings name an upstream; others are the choice of who may make rules."""
        return host in self.settings.upstreams or any(rule.upstream == host for rule in self.settings.rules)

    def start(self) -> None:
        """Begin what runs beside the requests."""
        self.tasks.spawn(self._prepare(), name="preparing the catalog")
        flush_seconds = self.settings.serve.pull_time_flush_seconds
        self.tasks.spawn(self.pull_times.keep(self.call, flush_seconds), name="writing pull times")
        self.tasks.spawn(self._limits.keep(), name="eviction")
        self.tasks.spawn(self._tidying.keep(), name="tidying up after pushes")
        self.tasks.spawn(self._secret_keeper.keep(), name="keeping secrets")
        self.tasks.spawn(self.lifecycle_runs.keep(), name="lifecycle policies")
        self.events.start()

    async def _prepare(self) -> None:
        await self.call(self.catalog.prepare)

    def _in_use(self) -> set[Digest]:
        """Blobs that this worker sends or fills."""
        return self.bodies.being_read() | self.fills.digests()

    def _fill_ended(self, fill: Fill, error: PullthroughError | None) -> None:
        self._limits.fill_ended(fill, error)

    async def _make_room(self, needed_bytes: int) -> None:
        await self.room.make(needed_bytes)

    async def close(self) -> None:
        """Leave fills resumable, write what is only in memory, and give everything back."""
        await self.tasks.close()
        await self.upstreams.close()
        self.fills.close()
        await self.call(self.pull_times.flush)
        await self.events.close()
        self.threads.close()
        self.catalog.close()
        self.generation.close()
        self.configuration_generation.close()
        self._degraded.close()

    @property
    def degraded(self) -> dict[str, str]:
        """Why the engine, in any worker, serves less than it should: reason -> sentence."""
        return self.degradation.reasons
