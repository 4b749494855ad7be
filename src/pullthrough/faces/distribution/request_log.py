"""Where a registry request is told of when it has been answered."""

from __future__ import annotations

from pullthrough.faces.access_log import AccessLogger, Entry
from pullthrough.metrics import Metrics


class RequestLog:
    """The metrics of one worker, and the access log but for who asks how it is."""

    def __init__(self, metrics: Metrics, access_log: AccessLogger) -> None:
        self._metrics = metrics
        self._access_log = access_log

    def add(self, entry: Entry) -> None:
        self._metrics.request(entry.kind, entry.outcome, entry.rule, entry.sent_bytes)
        if entry.kind != "health":
            self._access_log.add(entry)
