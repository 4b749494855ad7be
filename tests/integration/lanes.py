"""One engine for many tests, each on a lane of its own: a rule, an upstream's name and a repository that no other uses.

All lanes lead to one scripted upstream, but the engine keeps a breaker, a budget and a catalog entry for each, so that
what one test breaks does not reach the next. A lane's kind says which state its tags are in once they are cached.
"""

from __future__ import annotations

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pullthrough.demo.images import Image
from tests.e2e.engine import Answer, Engine
from tests.fakes.upstream import Action, Gate, Script, ScriptedUpstream

#: What the rules of each kind say.
KINDS = {
    # Fresh for ever.
    "fresh": 'freshness = "never"',
    # Stale at once: answered, and checked behind.
    "behind": 'freshness = "always"\nstale_while_revalidate = "always"',
    # Past all freshness at once: checked before the answer.
    "first": 'freshness = "always"\nstale_while_revalidate = "never"',
    "remove": 'freshness = "always"\nstale_while_revalidate = "never"\ngone_upstream = "remove"',
    "before": 'freshness = "always"\nstale_while_revalidate = "always"\nrevalidate = "before"',
    "forget": 'freshness = "never"\nnegative = "never"',
}
_LANES_A_KIND = 64


@dataclass(frozen=True)
class Lane:
    """`docker-hub/acme/app` of one test: all requests are for one repository."""

    engine: Engine
    upstream: ScriptedUpstream
    prefix: str
    #: As the upstream knows it.
    repository: str

    @property
    def name(self) -> str:
        """As clients ask for it."""
        return f"{self.prefix}/{self.repository}"

    def add(self, image: Image, *tags: str) -> None:
        self.upstream.add(self.repository, image, *tags)

    def script(
        self,
        *actions: Action,
        kind: str = "manifest",
        method: str | None = None,
        reference: str | None = None,
        nth: int | None = None,
    ) -> Script:
        return self.upstream.script(
            *actions, kind=kind, repository=self.repository, method=method, reference=reference, nth=nth
        )

    def get(self, reference: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
        return self.engine.get(f"/v2/{self.name}/manifests/{reference}", method=method, headers=headers)

    def force(self, reference: str) -> Answer:
        """As a client that will have no cached answer."""
        return self.get(reference, headers={"Cache-Control": "no-cache"})

    def list(self, query: str = "", *, headers: Mapping[str, str] | None = None) -> Answer:
        return self.engine.get(f"/v2/{self.name}/tags/list{query}", headers=headers)

    def referrers(self, digest: str, query: str = "", *, headers: Mapping[str, str] | None = None) -> Answer:
        return self.engine.get(f"/v2/{self.name}/referrers/{digest}{query}", headers=headers)

    def cost(self, kind: str = "manifest") -> dict[str, int]:
        """What the upstream was asked so far: method -> requests."""
        return dict(
            Counter(record.method for record in self.upstream.requests.select(repository=self.repository, kind=kind))
        )

    def wait_for_cost(self, cost: Mapping[str, int], kind: str = "manifest") -> None:
        """Until so many requests have been answered; then they are all there were."""
        self.upstream.requests.wait_for(
            lambda log: (
                Counter(
                    record.method for record in log.select(repository=self.repository, kind=kind) if record.finished
                )
                >= Counter(cost)
            )
        )
        assert self.cost(kind) == cost


@dataclass
class Lanes:
    """`lanes("first")` is a lane of that kind that nobody has used yet."""

    engine: Engine
    upstream: ScriptedUpstream
    workers: int
    _used: Counter[str] = field(default_factory=Counter)

    def __call__(self, kind: str) -> Lane:
        number = self._used[kind]
        assert number < _LANES_A_KIND, "more lanes are needed"
        self._used[kind] += 1
        return Lane(self.engine, self.upstream, f"{kind}-{number}", f"acme/{kind}-{number}")


def configuration(upstream: ScriptedUpstream, workers: int, serve: str = "") -> str:
    lines = ["standard_rules = false", "[serve]", f"workers = {workers}", serve]
    for kind, rule in KINDS.items():
        for number in range(_LANES_A_KIND):
            host = f"{kind}-{number}.example"
            lines += [f"[rules.{kind}-{number}]", f'upstream = "{host}"', rule]
            lines += [f'[upstreams."{host}"]', f'endpoint = "{upstream.url}"', "retries = 0"]
    return "\n".join(lines)


@contextmanager
def open_lanes(
    folder: Path, workers: int, serve: str = "", upstream: ScriptedUpstream | None = None
) -> Iterator[Lanes]:
    with upstream or ScriptedUpstream() as registry:
        engine = Engine(folder / "engine", configuration(registry, workers, serve))
        try:
            engine.start()
            yield Lanes(engine, registry, workers)
        finally:
            engine.end()


def at_once(count: int, work: Callable[[], Answer]) -> list[Answer]:
    """The answers to `count` requests made together."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(work())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == count
    return answers


@contextmanager
def opening(gate: Gate) -> Iterator[None]:
    """Opens the gate as soon as one request has come to it."""

    def work() -> None:
        gate.wait_reached()
        gate.open()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def exchange(engine: Engine, data: bytes) -> bytes:
    """Send these very bytes, and read until the engine closes the connection."""
    url = urlsplit(engine.url)
    assert url.hostname
    with socket.create_connection((url.hostname, url.port or 80), timeout=60) as connection:
        connection.sendall(data)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
        except ConnectionResetError:
            pass  # what was not read of a bomb resets the connection; the answer came before
        return received


def error_of(answer: Answer) -> tuple[int, str, str]:
    """Status, code and message; the body must be the specification's."""
    assert answer.headers["content-type"] == "application/json"
    errors = json.loads(answer.body)["errors"]
    assert len(errors) == 1
    return answer.status, errors[0]["code"], errors[0]["message"]


def access_lines(engine: Engine) -> list[dict[str, object]]:
    """The lines of the access log that are written so far."""
    return [json.loads(line) for line in engine.log.read_text().splitlines() if line.startswith("{")]


def samples(text: str, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """Labels, sorted, -> value, of one metric of an exposition."""
    found = {}
    for line in text.splitlines():
        if match := re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line):
            labels = tuple(sorted(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[1] or "")))
            found[labels] = float(match[2])
    return found


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of the samples that have at least these labels."""
    wanted = set(labels.items())
    return sum(value for found, value in samples(text, name).items() if wanted <= set(found))
