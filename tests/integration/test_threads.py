"""What strangers can ask for does not hold the catalog's threads, nor wait for them."""

from __future__ import annotations

import asyncio
import base64
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import bcrypt
from prometheus_client import Metric
from prometheus_client.registry import Collector

from pullthrough.server import running
from pullthrough.settings import load_settings

_JSON = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetRandomPassword"}


def _ask(url: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


async def _status(folder: Path, config: str, *requests: tuple[str, str, bytes, dict[str, str]]) -> int:
    """The status of the last request, for which no thread of the catalog is free, and no answer known."""
    file = folder / "pullthrough.toml"
    file.write_text(config)
    flags = {"serve.listen": "127.0.0.1:0", "serve.data": str(folder / "data")}
    go = threading.Event()
    *first, last = requests
    async with running(load_settings(file, {}, flags, folder=folder).settings) as engine:
        for request in first:
            await asyncio.to_thread(_ask, engine.url, *request)
        busy = [asyncio.ensure_future(engine.worker.basis.threads.catalog(go.wait)) for _ in range(8)]
        try:
            return await asyncio.to_thread(_ask, engine.url, *last)
        finally:
            go.set()
            await asyncio.gather(*busy)


async def test_large_api_requests_are_parsed_beside_the_catalogs_threads(tmp_path: Path) -> None:
    # The first one loads the service's model.
    small, large = (("POST", "/", b'{"x": "' + b"a" * size + b'"}', _JSON) for size in (1, 500_000))
    assert await _status(tmp_path, '[ecr]\nauth = "none"\n', small, large) == 200


async def test_passwords_are_checked_beside_the_catalogs_threads(tmp_path: Path) -> None:
    hashed = bcrypt.hashpw(b"hunter2", bcrypt.gensalt(4)).decode()
    (tmp_path / "htpasswd").write_text(f"bob:{hashed}\n")
    config = f'[serve]\npull_auth = true\n[ecr]\nhtpasswd_file = "{tmp_path / "htpasswd"}"\n'
    login = {"Authorization": "Basic " + base64.b64encode(b"bob:hunter2").decode()}
    assert await _status(tmp_path, config, ("GET", "/v2/", b"", login)) == 200


class _Slow(Collector):
    """Metrics that are not there before `go`."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def collect(self) -> Iterator[Metric]:
        self.asked.release()
        self.go.wait()
        return iter(())


async def test_however_many_ask_for_the_metrics_take_one_of_the_catalogs_threads(tmp_path: Path) -> None:
    file = tmp_path / "pullthrough.toml"
    file.write_text("")
    flags = {"serve.listen": "127.0.0.1:0", "serve.data": str(tmp_path / "data")}
    settings = load_settings(file, {}, flags, folder=tmp_path).settings
    async with running(settings) as engine:
        engine.worker.basis.metrics.registry.register(slow := _Slow())

        with ThreadPoolExecutor(10) as threads:

            def ask(path: str) -> asyncio.Future[int]:
                return asyncio.wrap_future(threads.submit(_ask, engine.url, "GET", path, b"", {}))

            asked = [ask("/metrics") for _ in range(8)]
            try:
                await asyncio.to_thread(slow.asked.acquire)
                assert await ask("/v2/_catalog") == 200
            finally:
                slow.go.set()
                assert set(await asyncio.gather(*asked)) == {200}
