"""Whether the engine is well: for probes, load balancers and Prometheus. Nobody has to log in for this."""

from __future__ import annotations

from aiohttp import web

from pullthrough.engine.keep.degraded import Degradation
from pullthrough.engine.tasks import Tasks
from pullthrough.faces.distribution.errors import EndpointUnknown, MethodNotAllowed
from pullthrough.faces.distribution.exchange import READS, RegistryExchange
from pullthrough.faces.http.bodies import paced
from pullthrough.metrics import Metrics
from pullthrough.operations.json_form import to_json
from pullthrough.operations.status import upstream_entries
from pullthrough.threads import Runner
from pullthrough.upstream.interfaces import Upstreams


class HealthFace:
    """Answers what is not under `/v2`."""

    def __init__(
        self, *, degradation: Degradation, upstreams: Upstreams, metrics: Metrics, tasks: Tasks, call: Runner
    ) -> None:
        self._degradation = degradation
        self._upstreams = upstreams
        self._metrics = metrics
        self._tasks = tasks
        self._call = call

    async def handle(self, exchange: RegistryExchange, path: str) -> web.StreamResponse:
        exchange.kind = "health"
        if exchange.request.method not in READS:
            raise MethodNotAllowed(f"{exchange.request.method} is not possible here", allowed="GET, HEAD")
        match path:
            case "/healthz":
                return web.json_response({"status": "ok"})
            case "/readyz":
                return self._readiness()
            case "/metrics":
                # One thread, however many ask at once.
                body, _ = await self._tasks.once("metrics", self._exposition, name="metrics")
                headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
                return web.Response(body=paced(body), headers=headers)
        raise EndpointUnknown("there is no such path; the registry is under /v2/")

    def _readiness(self) -> web.Response:
        reasons = self._degradation.reasons
        return web.json_response(
            {
                "status": "degraded" if reasons else "ok",
                "degraded": reasons,
                "upstreams": {
                    host: to_json(entry) for host, entry in upstream_entries(self._upstreams.health()).items()
                },
            }
        )

    async def _exposition(self) -> bytes:
        return await self._call(self._metrics.exposition)
