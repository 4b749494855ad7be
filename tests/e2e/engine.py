"""The engine as a user runs it: `pullthrough serve` as a process, known by its log line and its HTTP answers."""

from __future__ import annotations

import http.client
import signal
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.e2e.clients import pullthrough
from tests.e2e.processes import Process, environment, run, run_warm, wait_for

_READY = r"listening\S* .*?(https?://[^\s\"',]+)"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def outcome(self) -> str:
        """The first word of `X-Cache`."""
        return self.headers.get("x-cache", "").partition(";")[0].strip()


class Engine:
    """One data folder and one configuration; may be started and stopped again and again.

    `within` stands before the command: a program that becomes it in the end, such as `sh -c` or a tracer. `cold`: it starts
    from nothing, as a user's does, and makes its imports first.
    """

    def __init__(
        self,
        folder: Path,
        config: str,
        *,
        environ: Mapping[str, str] | None = None,
        within: Sequence[str | Path] = (),
        cold: bool = False,
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self.url = ""
        self._environ = dict(environ or {})
        self._within = tuple(within)
        # Python reads its own variables before anything else.
        self._warm = not cold and not within and not any(name.startswith("PYTHON") for name in self._environ)
        self._config = folder / "pullthrough.toml"
        self._config.write_text(config)
        self._process: Process | None = None

    @property
    def address(self) -> str:
        """`HOST:PORT`, as an image reference begins."""
        return urlsplit(self.url).netloc

    @property
    def pid(self) -> int:
        """Of the process that was started: the only worker, or the parent of the workers."""
        assert self._process
        return self._process.pid

    def start(self) -> None:
        before = len(self.log.read_text()) if self.log.exists() else 0
        self._process = Process(
            "pullthrough serve",
            [
                *(*self._within, pullthrough(), "serve", "--config", self._config, "--data", self.data),
                # After a restart on the same port, so that references which name it stay true.
                *("--listen", self.address or "127.0.0.1:0"),
            ],
            env=environment(self.folder, **self._environ),
            log=self.log,
            warm=self._warm,
        )
        self.url = self._process.wait_for_line(_READY, after=before)[1].rstrip("/")
        assert self.get("/readyz").status == 200

    def stop(self) -> None:
        """SIGTERM, which must end it cleanly."""
        process, self._process = self._process, None
        if process and process.running:
            code = process.stop()
            assert code == 0, f"the engine ended with {code}:\n{process.tail()}"

    def restart(self) -> None:
        self.stop()
        self.start()

    def wait_ended(self) -> None:
        """Until it has ended, which it was told to; cleanly."""
        process, self._process = self._process, None
        assert process
        wait_for(lambda: not process.running, "the engine to end")
        code = process.stop()
        assert code == 0, f"the engine ended with {code}:\n{process.tail()}"

    def kill(self) -> None:
        """SIGKILL to the process that was started."""
        process, self._process = self._process, None
        assert process
        process.signal(signal.SIGKILL)
        process.stop()

    def signal(self, number: signal.Signals) -> None:
        assert self._process
        self._process.signal(number)

    def end(self) -> None:
        """What a test's end does: stop, and say what was logged last (pytest shows it for a failed test)."""
        if self._process:
            with self._process:
                pass
        elif self.log.exists():
            print(f"--- pullthrough serve, last lines\n{self.log.read_text()[-6000:]}")  # noqa: T201

    def command(self, *arguments: str) -> str:
        """What `pullthrough ARGUMENTS` prints for this engine's configuration and data folder."""
        command: list[str | Path] = [pullthrough(), *arguments, "--config", self._config, "--data", self.data]
        return (run_warm if self._warm else run)(command, env=environment(self.folder, **self._environ))

    def get(self, path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        url = urlsplit(self.url)
        assert url.hostname
        opened: http.client.HTTPConnection
        if url.scheme == "https":
            context = ssl._create_unverified_context()  # the clients under test check the certificate
            opened = http.client.HTTPSConnection(url.hostname, url.port, timeout=60, context=context)
        else:
            opened = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        try:
            opened.request(method, path, headers=dict(headers or {}))
            response = opened.getresponse()
            body = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        finally:
            opened.close()

    def metrics(self) -> str:
        return self.get("/metrics").body.decode()
