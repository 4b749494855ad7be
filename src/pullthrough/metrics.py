"""What Prometheus is told at `/metrics`. No label takes a value that a client can choose.

With several workers prometheus_client keeps the counters of each process in mapped files (its multiprocess mode, switched
by PROMETHEUS_MULTIPROC_DIR before the first import), so that any worker answers with the sums of all.
"""

from __future__ import annotations

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

#: Seconds a fill takes: a config of 1 KB up to a layer of tens of GB on a slow line.
_FILL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """The counters of one process. Methods are cheap enough for every request."""

    def __init__(self) -> None:
        # The time each series began doubles their number and answers no question here.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
        self.registry = CollectorRegistry()
        registry = self.registry
        self._counters: dict[tuple[str, str, str], Counter] = {}
        self._sent: dict[str, Counter] = {}
        self._requests = Counter(
            "pullthrough_requests",
            "Requests of clients, by what they asked for and how they were answered",
            ("kind", "outcome", "rule"),
            registry=registry,
        )
        self._client_bytes = Counter(
            "pullthrough_client_bytes", "Bytes of bodies sent to clients", ("rule",), registry=registry
        )
        self._upstream_requests = Counter(
            "pullthrough_upstream_requests",
            "Requests to upstreams and their token services; status is the HTTP status, or 'error' without one",
            ("upstream", "method", "status"),
            registry=registry,
        )
        self._upstream_bytes = Counter(
            "pullthrough_upstream_bytes", "Bytes of bodies received from upstreams", ("upstream",), registry=registry
        )
        self._fill_seconds = Histogram(
            "pullthrough_fill_seconds",
            "How long published fills took",
            ("upstream",),
            buckets=_FILL_BUCKETS,
            registry=registry,
        )
        self._fill_failures = Counter(
            "pullthrough_fill_failures", "Fills that ended without a published blob", ("upstream",), registry=registry
        )
        self._mismatches = Counter(
            "pullthrough_digest_mismatches",
            "Bodies from upstreams that were not what their digest says",
            ("upstream",),
            registry=registry,
        )
        self._rate_limit_remaining = Gauge(
            "pullthrough_rate_limit_remaining",
            "Pulls left at the upstream, as its RateLimit-Remaining header last said",
            ("upstream",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._upstream_healthy = Gauge(
            "pullthrough_upstream_healthy",
            "1 while the upstream answers, 0 while its circuit is open",
            ("upstream",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._credential_ok = Gauge(
            "pullthrough_upstream_credential_ok",
            "1 while the upstream accepts the configured credential, 0 since it was rejected",
            ("upstream",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._fills_active = Gauge(
            "pullthrough_fills_active",
            "Fills in transfer",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._fills_queued = Gauge(
            "pullthrough_fills_queued",
            "Fills waiting for their turn",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._disk = Gauge(
            "pullthrough_disk_bytes",
            "stored: bytes of published blobs; free and total: of the file system they are on",
            ("what",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self._evicted = Counter("pullthrough_evicted_bytes", "Bytes removed to make room", registry=registry)
        self._degraded = Gauge(
            "pullthrough_degraded",
            "1 while the reason holds: disk_full, over_limit",
            ("reason",),
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def request(self, kind: str, outcome: str, rule: str, sent_bytes: int) -> None:
        # `labels` looks its values up under a lock; a request should pay for that once only.
        key = (kind, outcome, rule)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(*key)
        counter.inc()
        if sent_bytes:
            sent = self._sent.get(rule)
            if sent is None:
                sent = self._sent[rule] = self._client_bytes.labels(rule)
            sent.inc(sent_bytes)

    def upstream_request(self, upstream: str, method: str, status: int | None) -> None:
        self._upstream_requests.labels(upstream, method, "error" if status is None else str(status)).inc()

    def upstream_bytes(self, upstream: str, count: int) -> None:
        self._upstream_bytes.labels(upstream).inc(count)

    def fill_published(self, upstream: str, seconds: float) -> None:
        self._fill_seconds.labels(upstream).observe(seconds)

    def fill_failed(self, upstream: str) -> None:
        self._fill_failures.labels(upstream).inc()

    def digest_mismatch(self, upstream: str) -> None:
        self._mismatches.labels(upstream).inc()

    def rate_limit_remaining(self, upstream: str, remaining: int) -> None:
        self._rate_limit_remaining.labels(upstream).set(remaining)

    def upstream_healthy(self, upstream: str, healthy: bool) -> None:
        self._upstream_healthy.labels(upstream).set(1 if healthy else 0)

    def credential_ok(self, upstream: str, ok: bool) -> None:
        self._credential_ok.labels(upstream).set(1 if ok else 0)

    def fills(self, *, active: int, queued: int) -> None:
        self._fills_active.set(active)
        self._fills_queued.set(queued)

    def disk(self, *, stored_bytes: int, free_bytes: int, total_bytes: int) -> None:
        for what, value in (("stored", stored_bytes), ("free", free_bytes), ("total", total_bytes)):
            self._disk.labels(what).set(value)

    def evicted(self, count: int) -> None:
        self._evicted.inc(count)

    def degraded(self, reason: str, holds: bool) -> None:
        self._degraded.labels(reason).set(1 if holds else 0)

    def exposition(self) -> bytes:
        """The text format, version 0.0.4; of all workers where there are several."""
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if folder is None:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, path=folder)  # type: ignore[no-untyped-call]  # it has no annotations
        return generate_latest(everyone)


class UpstreamMetrics:
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
