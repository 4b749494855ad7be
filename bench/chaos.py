"""Kills and faults under load: the reusable part of `bench.soak` and of the tests that do less of the same.

Both runs put clients on an engine with two workers, in front of a scripted upstream, and hold every answer against what
the upstream really has: a body that ends as it should must have the digest that was asked for; one that is short must
have ended abnormally (a reset, a connection closed before Content-Length, a chunked body without its end). Anything else
raises `Wrong`, with the seed that repeats the run.

`run_kills` kills -9 the worker that leads a fill, one that follows, or the parent, at random instants, and then runs
`pullthrough check`. `run_faults` makes the upstream fail in every way it knows, a few times for each image, and wants
each image to come through in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tests.fakes.upstream import (
    Action,
    ChangedETag,
    ClaimLength,
    Close,
    Corrupt,
    Gate,
    Gzip,
    Hang,
    Html,
    HugeHeaders,
    IgnoreRange,
    NoLength,
    RedirectLoop,
    Reset,
    Script,
    ScriptedUpstream,
    Status,
    Throttle,
    Valve,
)

from bench.builds import HERE
from bench.machine import descendants, free_port, resident_bytes
from bench.processes import Failed
from bench.servers import Server, start_engine
from pullthrough.demo.images import Blob, Image, make_image
from pullthrough.oci.media_types import ACCEPT

#: A client that hears nothing for so long has found a hang.
CLIENT_SECONDS = 40.0
#: Within this time after the parent's death its workers are gone (the kernel sees to that at once).
ORPHAN_SECONDS = 5.0


class Wrong(AssertionError):
    """A promise was broken."""


class Kill(StrEnum):
    """Whom to kill."""

    LEADER = "leader"
    FOLLOWER = "follower"
    PARENT = "parent"


@dataclass
class Tally:
    """What happened, by kind. Safe to count in from several threads."""

    counts: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def raise_to(self, what: str, number: int) -> None:
        """For a figure of which only the highest matters."""
        with self._lock:
            self.counts[what] = max(self.counts[what], number)

    def __getitem__(self, what: str) -> int:
        return self.counts[what]

    def text(self) -> str:
        return ", ".join(f"{name}: {count:,}" for name, count in sorted(self.counts.items()))


# -- one request


@dataclass(frozen=True)
class Fetched:
    """`status` 0: there was no answer. `complete`: the body ended as HTTP says a body ends.

    `retry_after_seconds` is 0 where nothing was said; `note` is X-Cache, or what broke the connection.
    """

    status: int
    complete: bool = False
    body: bytes = b""
    retry_after_seconds: float = 0
    note: str = ""

    @property
    def whole(self) -> bool:
        return self.complete and self.status in (200, 206)


def fetch(port: int, path: str, *, headers: Mapping[str, str] | None = None, leave_after: int | None = None) -> Fetched:
    """One GET on a connection of its own; `leave_after`: hang up after so many body bytes.

    Raises Wrong where nothing is heard for CLIENT_SECONDS.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CLIENT_SECONDS)
    status = 0
    note = ""
    try:
        connection.request("GET", path, headers={"Accept": ACCEPT, **(headers or {})})
        response = connection.getresponse()
        status, note = response.status, response.getheader("X-Cache", "")
        if leave_after is not None:
            return Fetched(status, body=response.read(leave_after), note=note)
        # read() raises IncompleteRead where Content-Length or the chunks promise more than came.
        body = response.read()
        retry_after = response.getheader("Retry-After", "")
        return Fetched(status, True, body, float(retry_after) if retry_after.isdigit() else 0, note)
    except TimeoutError as error:
        raise Wrong(
            f"GET {path}: nothing for {CLIENT_SECONDS:.0f} s (status {status or 'none yet'}, {note})"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        return Fetched(status, note=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def digest_matches(body: bytes, digest: str) -> bool:
    return f"sha256:{hashlib.sha256(body).hexdigest()}" == digest


# -- the engine


class Engine:
    """`pullthrough serve` with two workers, killed and started again on one data folder and one port."""

    def __init__(self, folder: Path, config: str) -> None:
        """`config`: all of the configuration but [serve]."""
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._config = folder / "pullthrough.toml"
        self._server: Server | None = None
        self._starts = 0
        folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(f'[serve]\nworkers = 2\nmax_size = "never"\nmin_free = "1MiB"\n{config}')

    def start(self) -> None:
        """Start and wait for the ready line. Tried again while the kernel still gives the port to the one before."""
        self._starts += 1
        folder = self.folder / f"start-{self._starts}"
        self._server = start_engine(folder, self._config, core=None, port=self.port, data=self.data)

    @property
    def server(self) -> Server:
        assert self._server is not None, "the engine was not started"
        return self._server

    @property
    def pid(self) -> int:
        return self.server.process.pid

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.process.running

    def workers(self) -> list[int]:
        return [pid for pid in descendants(self.pid) if pid != self.pid]

    def workers_with_fills(self) -> tuple[set[int], set[int]]:
        """Those that lead a fill (hold the lock on a partial file), and those that follow one; some do both."""
        leading, following = set(), set()
        for pid in self.workers():
            locks = set(_partial_locks(pid, self.data / "fills"))
            if True in locks:
                leading.add(pid)
            if False in locks:
                following.add(pid)
        return leading, following

    def kill_parent(self) -> None:
        """kill -9 of the parent. Raises Wrong where a worker survives it."""
        pids = descendants(self.pid)
        self.server.process.kill()
        deadline = time.monotonic() + ORPHAN_SECONDS
        while left := [pid for pid in pids if _alive(pid)]:
            if time.monotonic() > deadline:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                raise Wrong(f"{len(left)} of {len(pids) - 1} workers outlived their parent by {ORPHAN_SECONDS:.0f} s")
            time.sleep(0.005)

    def stop(self) -> None:
        """SIGTERM. Raises Wrong where that does not end it well and soon."""
        process = self.server.process
        os.kill(process.pid, signal.SIGTERM)
        code = process.wait(30)
        if code != 0:
            text = process.text()[-1500:]
            process.stop()
            raise Wrong(f"SIGTERM did not end the engine well (exit code {code}):\n{text}")

    def end(self) -> None:
        """Whatever its state."""
        if self._server is not None:
            self._server.process.stop()

    def published(self) -> set[str]:
        """The digests whose bodies stand in the store."""
        return {path.name for path in (self.data / "blobs").glob("*/*/*") if path.is_file()}

    def check(self, *, live: bool) -> None:
        """`pullthrough check`. Raises Wrong for any problem, but those that a crash may leave and a start mends.

        Beside a live engine there is none of those either: it has mended them.
        """
        command = [*HERE.program(), "check", "--json", "--config", str(self._config), "--data", str(self.data)]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        try:
            problems = json.loads(run.stdout)["problems"]
        except (ValueError, KeyError) as error:
            raise Wrong(f"`check` ended with {run.returncode}: {run.stdout[-500:]}{run.stderr[-1500:]}") from error
        allowed = set() if live else {"leftover", "blob_unrecorded"}
        bad = [problem for problem in problems if problem["kind"] not in allowed]
        if bad or run.returncode != 0:
            raise Wrong(f"`check` ended with {run.returncode} and found {bad[:5]}")

    def check_log(self) -> None:
        """Raises Wrong where the engine logged a traceback: something failed that its authors had not thought of."""
        text = self.server.process.text()
        if (at := text.find("Traceback (most recent call last)")) >= 0:
            raise Wrong(f"the engine failed and logged it:\n{text[max(0, at - 300) : at + 3000]}")

    def open_files(self) -> int:
        """File descriptors of all processes."""
        total = 0
        for pid in descendants(self.pid):
            with contextlib.suppress(OSError):
                total += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return total

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def log_end(self) -> str:
        return self._server.process.text()[-2000:] if self._server is not None else ""


def _partial_locks(pid: int, fills: Path) -> Iterator[bool]:
    """For each partial file that the process has open: whether it holds the lock."""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = str(descriptor.readlink())
            if target.startswith(f"{fills}/") and not target.endswith(" (deleted)"):
                yield "FLOCK" in Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text()
        except OSError:
            continue  # closed while we looked


def _alive(pid: int) -> bool:
    """Running; a zombie that nobody has waited for is not."""
    try:
        return re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE) is None
    except OSError:
        return False


# -- kills


@dataclass(frozen=True)
class _Shelf:
    """What clients may ask for: images under tags of one repository. Replaced whole, so that threads need no lock."""

    images: tuple[tuple[str, Image], ...]


_REPOSITORY = "library/soak"
_LAYER_BYTES = (0, 1_000, 70_000, 1_500_000, 6_000_000)


class _Clients:
    """Threads that pull at random until they are told to stop; the first broken promise is kept and raised by `stop`."""

    def __init__(self, engine: Engine, tally: Tally, seed: str, count: int) -> None:
        self.shelf = _Shelf(())
        self._engine = engine
        self._tally = tally
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(f"{seed}/client/{number}"),))
            for number in range(count)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.raise_error()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self, rng: random.Random) -> None:
        try:
            while not self._stop.is_set() and self._error is None:
                shelf = self.shelf
                if not shelf.images:
                    time.sleep(0.01)
                    continue
                # The newest most often: it is the one that is being filled.
                tag, image = shelf.images[-1] if rng.random() < 0.6 else rng.choice(shelf.images)
                self._pull(rng, tag, image)
        except BaseException as error:
            self._error = self._error or error

    def _pull(self, rng: random.Random, tag: str, image: Image) -> None:
        reference = tag if rng.random() < 0.5 else str(image.digest)
        prefix = f"/v2/docker-hub/{_REPOSITORY}"
        found = fetch(self._engine.port, f"{prefix}/manifests/{reference}")
        self._judge(found, found.body == image.manifest.body, f"manifest {reference}")
        for blob in rng.sample(image.blobs, len(image.blobs)):
            if self._stop.is_set():
                return
            self._pull_blob(rng, f"{prefix}/blobs/{blob.digest}", blob)

    def _pull_blob(self, rng: random.Random, path: str, blob: Blob) -> None:
        way = rng.random()
        if way < 0.15 and blob.size_bytes:
            fetch(self._engine.port, path, leave_after=rng.randrange(blob.size_bytes))
            self._tally.add("clients that left")
        elif way < 0.3 and blob.size_bytes:
            start = rng.randrange(blob.size_bytes)
            stop = rng.randrange(start, blob.size_bytes) + 1
            found = fetch(self._engine.port, path, headers={"Range": f"bytes={start}-{stop - 1}"})
            wanted = blob.read() if found.status == 200 else blob.read(start, stop)
            self._judge(found, found.body == wanted, f"bytes {start}-{stop - 1} of {blob.digest}")
        else:
            found = fetch(self._engine.port, path)
            self._judge(found, digest_matches(found.body, blob.digest), f"blob {blob.digest}")

    def _judge(self, found: Fetched, right: bool, what: str) -> None:
        """Only the engine's own death may come between a client and its answer."""
        if found.whole:
            if not right:
                raise Wrong(f"a wrong body ended as if it were right: {what}, {len(found.body)} bytes, {found.note}")
            self._tally.add("answers right")
        elif found.complete:
            raise Wrong(f"status {found.status} for {what}: {found.body[:300]!r}")
        else:
            self._tally.add("answers broken off" if found.status else "no answer")
            time.sleep(0.005)


def run_kills(folder: Path, *, kills: int, seed: str, clients: int = 6) -> Tally:
    """So many kills on one data folder under load. Raises Wrong for the first broken promise.

    After each kill `check` is clean, every body that was published is still there, and the engine comes back. At the end
    every image is pulled whole, then again with the upstream gone; SIGTERM ends the engine, and `check` is clean.
    """
    rng = random.Random(seed)
    tally = Tally()
    with ScriptedUpstream() as upstream, contextlib.ExitStack() as stack:
        engine = Engine(folder, f'[upstreams."registry-1.docker.io"]\nendpoint = "{upstream.url}"\n')
        stack.callback(engine.end)
        load = _Clients(engine, tally, seed, clients)
        images: list[tuple[str, Image]] = []
        engine.start()
        load.start()
        try:
            for number in range(kills):
                images.append(_new_image(upstream, rng, seed, number))
                load.shelf = _Shelf(tuple(images[-4:]))
                _kill_once(engine, upstream, rng, tally)
                load.raise_error()
                upstream.requests.clear()
        except Failed as error:
            raise Wrong(f"the engine did not come back: {error}") from error
        finally:
            load.stop()
        _pull_everything(engine, images, "after the kills")
        upstream.stop()
        _pull_everything(engine, images, "with the upstream gone")
        engine.check(live=True)
        engine.stop()
        engine.check(live=False)
        tally.add("images pulled whole", len(images))
    return tally


def _new_image(upstream: ScriptedUpstream, rng: random.Random, seed: str, number: int) -> tuple[str, Image]:
    sizes = tuple(max(0, size - rng.randrange(64)) for size in rng.sample(_LAYER_BYTES, 3))
    image = make_image(f"{seed}/{number}", layer_sizes=(*sizes, 4_000_000 + number))
    upstream.add(_REPOSITORY, image, f"t{number}")
    return f"t{number}", image


def _kill_once(engine: Engine, upstream: ScriptedUpstream, rng: random.Random, tally: Tally) -> None:
    """One kill at a random instant of the new image's fills, and what must be true after it."""
    kind = rng.choice([Kill.LEADER, Kill.LEADER, Kill.FOLLOWER, Kill.FOLLOWER, Kill.PARENT])
    valve, slow = Valve(), None
    if rng.random() < 0.8:
        # An upstream that trickles keeps fills open, so that kills meet them at all points.
        slow = upstream.script(Throttle(valve), kind="blob")
    feeding = threading.Event()
    feeder = threading.Thread(target=_feed, args=(valve, feeding, rng.randrange(50_000, 300_000)))
    feeder.start()
    try:
        _wait_for_fill(engine, 1.0)
        time.sleep(rng.uniform(0, 0.6))
        before = engine.published()
        victim, who = _find_victim(engine, kind, rng)
        tally.add(f"kills of {who}")
        if victim == engine.pid:
            engine.kill_parent()
            if rng.random() < 0.5:
                engine.check(live=False)
            engine.start()
        else:
            _kill_worker(engine, victim, tally)
        engine.check(live=True)
        engine.check_log()
        if lost := before - engine.published():
            raise Wrong(f"{len(lost)} published bodies are gone after the kill: {sorted(lost)[:3]}")
    finally:
        feeding.set()
        feeder.join()
        valve.let_all()
        if slow is not None:
            slow.remove()


def _wait_for_fill(engine: Engine, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not engine.workers_with_fills()[0]:
        time.sleep(0.002)


def _find_victim(engine: Engine, kind: Kill, rng: random.Random) -> tuple[int, str]:
    """A process of that kind, if there is one within a moment; else another one. And what to call it."""
    if kind == Kill.PARENT:
        return engine.pid, "the parent"
    deadline = time.monotonic() + 0.25
    while time.monotonic() < deadline:
        leading, following = engine.workers_with_fills()
        # Best of all one that only follows.
        if found := leading if kind == Kill.LEADER else (following - leading) or following:
            return rng.choice(sorted(found)), f"a {kind}"
        time.sleep(0.001)
    leading, _ = engine.workers_with_fills()
    if leading:
        return rng.choice(sorted(leading)), "a leader"
    # The fills are over; the kill meets warm traffic.
    return rng.choice(engine.workers() or [engine.pid]), "a worker without a fill"


def _kill_worker(engine: Engine, victim: int, tally: Tally) -> None:
    """The engine either puts another worker in its place, or ends as a whole; then it is started again."""
    count = len(engine.workers())
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while engine.running and (victim in engine.workers() or len(engine.workers()) < count):
        if time.monotonic() > deadline:
            raise Wrong("10 s after a worker was killed there is no new one, and the engine has not ended")
        time.sleep(0.005)
    if not engine.running:
        tally.add("engine ended with its worker")
        engine.start()


def _feed(valve: Valve, stop: threading.Event, size_bytes: int) -> None:
    while not stop.wait(0.01):
        valve.let(size_bytes)


def _pull_everything(engine: Engine, images: list[tuple[str, Image]], when: str) -> None:
    for tag, image in images:
        prefix = f"/v2/docker-hub/{_REPOSITORY}"
        found = fetch(engine.port, f"{prefix}/manifests/{tag}")
        if not found.whole or found.body != image.manifest.body:
            raise Wrong(f"{when}: manifest {tag}: {found.status} {found.note} {found.body[:200]!r}")
        for blob in image.blobs:
            found = fetch(engine.port, f"{prefix}/blobs/{blob.digest}")
            if not found.whole or not digest_matches(found.body, blob.digest):
                raise Wrong(f"{when}: blob {blob.digest}: {found.status} {found.note}, {len(found.body)} bytes")


# -- faults

#: How long one image may take to come through, breakers and pauses included (a breaker opens for 15 s, then 30, ...).
RECOVERY_SECONDS = 240.0
#: What the engine may answer while its upstream fails.
_EXCUSES = frozenset({429, 502, 503, 504})

Make = Callable[[random.Random, int, Gate], tuple[Action, ...]]


def _offset(rng: random.Random, size: int) -> int:
    return rng.randrange(size + 1)


#: By name: a fault for a blob of a size.
BLOB_FAULTS: dict[str, Make] = {
    "cut": lambda rng, size, gate: (Close(_offset(rng, size)),),
    "cut before the headers": lambda rng, size, gate: (Close(None),),
    "reset": lambda rng, size, gate: (Reset(_offset(rng, size)),),
    "reset before the headers": lambda rng, size, gate: (Reset(None),),
    "wrong byte": lambda rng, size, gate: (Corrupt(rng.randrange(max(1, size))),),
    "stall": lambda rng, size, gate: (Hang(gate, _offset(rng, size)),),
    "stall before the headers": lambda rng, size, gate: (Hang(gate, None),),
    "500": lambda rng, size, gate: (Status(500),),
    "503": lambda rng, size, gate: (Status(503),),
    "429": lambda rng, size, gate: (Status(429, retry_after=1),),
    "no Range, and cut": lambda rng, size, gate: (IgnoreRange(), Close(_offset(rng, size))),
    "another ETag, and cut": lambda rng, size, gate: (ChangedETag('"other"'), Close(_offset(rng, size))),
    "too long a Content-Length": lambda rng, size, gate: (ClaimLength(rng.randrange(1, 5000)),),
    "too short a Content-Length": lambda rng, size, gate: (
        (ClaimLength(-rng.randrange(1, max(2, size))),) if size else (Close(None),)
    ),
    "chunked, and cut": lambda rng, size, gate: (NoLength(chunked=True), Close(_offset(rng, size))),
    "HTML": lambda rng, size, gate: (Html(),),
    "gzip": lambda rng, size, gate: (Gzip(),),
    "header bomb": lambda rng, size, gate: (HugeHeaders(),),
    "redirect loop": lambda rng, size, gate: (RedirectLoop(),),
}
#: For manifests; `size` is the manifest's.
MANIFEST_FAULTS: dict[str, Make] = {
    name: BLOB_FAULTS[name]
    for name in (
        "cut",
        "cut before the headers",
        "reset",
        "reset before the headers",
        "wrong byte",
        "stall before the headers",
        "500",
        "503",
        "429",
        "HTML",
        "header bomb",
        "redirect loop",
    )
}
_FAULT_LAYER_BYTES = (0, 500, 66_000, 150_000, 400_000)


def run_faults(folder: Path, *, faults: int, seed: str, lanes: int = 16) -> Tally:
    """At least so many injected faults. Raises Wrong for the first broken promise.

    Each lane is a client with a rule and an upstream host of its own (a breaker or a pause of one must not hold up the
    others; all hosts are one scripted upstream). An image has up to four faults ahead of it; it must come through, whole
    and right, and be served again, by tag, while HEAD fails too.
    """
    tally = Tally()
    hosts = [f"lane-{lane}.test" for lane in range(lanes)]
    with ScriptedUpstream() as upstream, contextlib.ExitStack() as stack:
        config = "".join(
            f'[rules.lane-{lane}]\nupstream = "{host}"\nfreshness = "always"\nstale_while_revalidate = "never"\n'
            f'[upstreams."{host}"]\nendpoint = "{upstream.url}"\nconnect_timeout = "1s"\nfirst_byte_timeout = "500ms"\n'
            'stall_timeout = "500ms"\nqueue_timeout = "2s"\n'
            for lane, host in enumerate(hosts)
        )
        engine = Engine(folder, config)
        stack.callback(engine.end)
        engine.start()
        errors: list[BaseException] = []
        threads = [
            threading.Thread(
                target=_run_lane, args=(engine, upstream, lane, random.Random(f"{seed}/{lane}"), faults, tally, errors)
            )
            for lane in range(lanes)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        engine.check(live=True)
        engine.check_log()
        tally.raise_to("open files at the end", engine.open_files())
        tally.raise_to("resident bytes at the end", engine.resident_bytes())
        engine.stop()
        engine.check(live=False)
    return tally


def _run_lane(
    engine: Engine,
    upstream: ScriptedUpstream,
    lane: int,
    rng: random.Random,
    goal: int,
    tally: Tally,
    errors: list[BaseException],
) -> None:
    number = 0
    try:
        while tally["faults"] < goal and not errors:
            number += 1
            _pull_through_faults(engine, upstream, f"lane-{lane}", f"soak/lane-{lane}-{number}", rng, tally)
            if lane == 0:
                upstream.requests.clear()
    except BaseException as error:
        errors.append(error)


def _pull_through_faults(
    engine: Engine, upstream: ScriptedUpstream, rule: str, repository: str, rng: random.Random, tally: Tally
) -> None:
    sizes = tuple(size + rng.randrange(64) if size else 0 for size in rng.sample(_FAULT_LAYER_BYTES, 2))
    image = make_image(f"{repository}/{rng.random()}", layer_sizes=sizes)
    upstream.add(repository, image, "latest")
    gate = Gate()
    scripts: list[tuple[str, Script]] = []
    for _ in range(rng.randint(1, 4)):
        nth = tuple(range(1, rng.randint(1, 2) + 1))
        if rng.random() < 0.3:
            name, make = rng.choice(sorted(MANIFEST_FAULTS.items()))
            actions = make(rng, len(image.manifest.body), gate)
            script = upstream.script(*actions, kind="manifest", repository=repository, method="GET", nth=nth)
        else:
            name, make = rng.choice(sorted(BLOB_FAULTS.items()))
            blob = rng.choice(image.blobs)
            actions = make(rng, blob.size_bytes, gate)
            script = upstream.script(*actions, kind="blob", repository=repository, reference=blob.digest, nth=nth)
        scripts.append((name, script))
    try:
        prefix = f"/v2/{rule}/{repository}"
        _until_whole(engine, f"{prefix}/manifests/latest", image.digest, tally)
        for blob in image.blobs:
            _until_whole(engine, f"{prefix}/blobs/{blob.digest}", blob.digest, tally)
        name, make = rng.choice(sorted(MANIFEST_FAULTS.items()))
        actions = make(rng, len(image.manifest.body), gate)
        scripts.append((f"{name}, on HEAD", upstream.script(*actions, kind="manifest", repository=repository)))
        found = fetch(engine.port, f"{prefix}/manifests/latest")
        if not found.whole or not digest_matches(found.body, image.digest):
            raise Wrong(f"a cached tag was not served while its upstream failed ({name}): {found.status} {found.note}")
    finally:
        gate.open()
        for _, script in scripts:
            script.remove()
    for name, script in scripts:
        tally.add("faults", script.hits)
        tally.add(f"fault: {name}", script.hits)
    tally.add("images pulled whole")
    upstream.remove_repository(repository)


def _until_whole(engine: Engine, path: str, digest: str, tally: Tally) -> None:
    """Ask again until the right body comes; every answer on the way must be honest."""
    deadline = time.monotonic() + RECOVERY_SECONDS
    while True:
        found = fetch(engine.port, path)
        if found.whole:
            if not digest_matches(found.body, digest):
                raise Wrong(f"a wrong body ended as if it were right: {path}, {len(found.body)} bytes, {found.note}")
            tally.add("answers right")
            return
        if found.complete and found.status not in _EXCUSES:
            raise Wrong(f"status {found.status} for {path}: {found.body[:300]!r}")
        if not found.status and not engine.running:
            raise Wrong(f"the engine ended:\n{engine.log_end()}")
        tally.add(f"answers {found.status}" if found.complete else "answers broken off")
        if time.monotonic() > deadline:
            raise Wrong(
                f"{path} did not come through in {RECOVERY_SECONDS:.0f} s; last: {found.status} {found.body[:300]!r}"
            )
        time.sleep(min(max(found.retry_after_seconds, 0.02), 1.0))
