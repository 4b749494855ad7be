"""Bodies that are long in coming: their headers do not wait for them, and a body that comes to nothing ends in a break."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from pullthrough.demo.images import Blob, make_blob, make_image
from pullthrough.engine.pull.blobs.blobs import Patience
from tests.e2e.processes import free_port, wait_for
from tests.fakes.upstream import Action, Close, Corrupt, Gate, Hang, ScriptedUpstream, Status
from tests.integration.inside import Inside, serving
from tests.integration.sites import HELD_BACK, MIB, Broken, Download

SIZE = 300_000
NAME = "acme/app"
#: Of the engine under test. It is the upstream that says when things go on, so that this may be as short as can be.
PATIENCE = Patience(headers_seconds=0.05, unknown_seconds=0.5)


class At(NamedTuple):
    """An address of the engine."""

    url: str


@dataclass(frozen=True)
class Queue:
    """An engine with one connection to its upstream, and a mirror listener for that."""

    engine: Inside
    upstream: ScriptedUpstream
    mirror: At

    def blob(self, size_bytes: int = SIZE, *, known: bool = True) -> Blob:
        blob = make_blob("layer", size_bytes)
        image = make_image(f"of {size_bytes}", layers=(blob,))
        self.upstream.add(NAME, image)
        if known:
            with Download(self.engine, f"/v2/r/{NAME}/manifests/{image.digest}") as manifest:
                assert manifest.status == 200
        return blob

    def open(self, blob: Blob, *, version: str = "HTTP/1.1", **headers: str) -> Download:
        return Download(self.engine, f"/v2/r/{NAME}/blobs/{blob.digest}", headers=headers, version=version)

    def ways(self, path: str) -> list[Download]:
        """By the rule's prefix, by the upstream's name as containerd gives it, and by the upstream's own listener."""
        inner = f"/v2/{NAME}/{path}"
        return [
            Download(self.engine, f"/v2/r/{NAME}/{path}"),
            Download(self.engine, f"{inner}?ns=r.example"),
            Download(self.mirror, inner),
        ]

    def script(self, blob: Blob, *actions: Action, nth: int | None = None) -> None:
        self.upstream.script(*actions, kind="blob", method="GET", reference=blob.digest, nth=nth)

    def cost(self, blob: Blob) -> int:
        return self.upstream.requests.count(kind="blob", reference=blob.digest)

    @contextmanager
    def taken(self) -> Iterator[Gate]:
        """The only connection is in use until the gate opens, at the end of the block at the latest."""
        gate, hanging = Gate(), self.blob(1000)
        self.script(hanging, Hang(gate))
        with self.open(hanging):
            gate.wait_reached()
            try:
                yield gate
            finally:
                gate.open()


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    mirror = f"127.0.0.1:{free_port()}"
    with ScriptedUpstream() as upstream:
        lines = ["standard_rules = false", "[serve]", "prefetch = false", 'range_ahead = "1MiB"']
        lines += ["[serve.mirrors]", f'"{mirror}" = "r"', "[rules.r]", 'upstream = "r.example"']
        lines += ['[upstreams."r.example"]', f'endpoint = "{upstream.url}"', "connections = 1", "retries = 0"]
        lines += ['stall_timeout = "10m"']  # what hangs does so until its test lets it go on
        with serving(tmp_path, "\n".join(lines), PATIENCE) as engine:
            yield Queue(engine, upstream, At(f"http://{mirror}"))


def is_chunked(download: Download) -> bool:
    return download.headers.get("transfer-encoding") == "chunked" and "content-length" not in download.headers


def body_of(download: Download) -> bytes:
    with download:
        return download.rest()


# What a manifest names


def test_a_blob_that_a_manifest_names_has_its_headers_before_its_turn(queue: Queue) -> None:
    blob = queue.blob()
    with queue.taken() as gate, queue.open(blob) as download:
        assert (download.status, download.outcome) == (200, "miss")
        assert is_chunked(download), "so that a failure can be told"
        assert download.headers["docker-content-digest"] == blob.digest
        assert download.is_silent
        assert queue.cost(blob) == 0
        gate.open()
        assert download.rest() == blob.read()
    assert queue.cost(blob) == 1


def test_one_whose_upstream_takes_its_time_has_them_too(queue: Queue) -> None:
    """A cache before the registry sends nothing before it has all."""
    blob, gate = queue.blob(), Gate()
    queue.script(blob, Hang(gate))
    with queue.open(blob) as download, queue.open(blob) as joined:
        assert [download.status, joined.status] == [200, 200]
        assert is_chunked(download)
        gate.open()
        assert download.rest() == joined.rest() == blob.read()
    assert queue.cost(blob) == 1


def test_a_range_has_them_with_its_place(queue: Queue) -> None:
    blob = queue.blob()
    with queue.taken() as gate, queue.open(blob, Range="bytes=1000-199999") as download:
        assert download.status == 206
        assert is_chunked(download)
        assert download.headers["content-range"] == f"bytes 1000-199999/{SIZE}"
        gate.open()
        assert download.rest() == blob.read(1000, 200_000)
    assert queue.cost(blob) == 1


def test_a_range_far_ahead_has_them_too(queue: Queue) -> None:
    """To fetch it by itself it would need a connection as well."""
    blob = queue.blob(3 * MIB)
    with queue.taken() as gate, queue.open(blob, Range=f"bytes={2 * MIB}-{2 * MIB + 999}") as download:
        assert download.status == 206
        gate.open()
        assert download.rest() == blob.read(2 * MIB, 2 * MIB + 1000)
    assert queue.cost(blob) == 1


def test_a_client_of_http_1_0_is_told_the_length(queue: Queue) -> None:
    """There is no chunked encoding in it."""
    blob = queue.blob()
    with queue.taken() as gate, queue.open(blob, version="HTTP/1.0") as download:
        assert (download.status, download.headers["content-length"]) == (200, str(SIZE))
        gate.open()
        assert download.rest() == blob.read()


TROUBLES: dict[str, tuple[tuple[Action, ...], int]] = {
    "404": ((Status(404),), 0),
    "403": ((Status(403),), 0),
    "503": ((Status(503),), 0),
    "429": ((Status(429, retry_after=600),), 0),
    "closed": ((Close(),), 0),
    "corrupt": ((Corrupt(at=SIZE - 1),), SIZE - HELD_BACK),
    "broken-off": ((Close(after_bytes=2 * HELD_BACK), Status(404)), HELD_BACK),
}


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_body_that_fails_after_its_headers_is_broken_off(queue: Queue, trouble: str, version: str) -> None:
    actions, most_bytes = TROUBLES[trouble]
    blob = queue.blob()
    queue.script(blob, actions[-1])
    queue.script(blob, actions[0], nth=1)
    with queue.taken() as gate, queue.open(blob, version=version) as download:
        assert download.status == 200
        gate.open()
        with pytest.raises(Broken) as broken:
            download.rest()
    received: bytes = broken.value.args[0]
    assert received == blob.read(0, len(received))
    assert len(received) <= most_bytes
    assert queue.cost(blob) == len(actions)


def test_what_failed_after_its_headers_is_asked_for_again(queue: Queue) -> None:
    blob = queue.blob()
    queue.script(blob, Status(404), nth=1)
    with queue.taken() as gate, queue.open(blob) as download:
        assert download.status == 200
        gate.open()
        with pytest.raises(Broken):
            download.rest()
    with queue.open(blob) as again:
        assert again.rest() == blob.read()
    assert queue.cost(blob) == 2


def test_a_client_that_leaves_after_its_headers_leaves_the_blob_to_the_next(queue: Queue) -> None:
    blob = queue.blob()
    with queue.taken() as gate:
        with queue.open(blob) as download:
            assert download.status == 200
        gate.open()
        with queue.open(blob) as again:
            assert again.rest() == blob.read()
    assert queue.cost(blob) == 1


# What nobody has named


def test_a_blob_that_nobody_knows_is_told_to_come_again(queue: Queue) -> None:
    """A client that knows another way to the upstream is told to go it; 429 it would repeat here."""
    blob = queue.blob(known=False)
    with queue.taken() as gate:
        ways = queue.ways(f"blobs/{blob.digest}")
        assert [download.status for download in ways] == [429, 503, 503]
        for download, code in zip(ways, ("TOOMANYREQUESTS", "UNAVAILABLE", "UNAVAILABLE"), strict=True):
            (error,) = json.loads(download.rest())["errors"]
            assert error["code"] == code
            assert "waited 0.5 s for other transfers from r.example" in error["message"]
            assert download.headers["retry-after"] == "1"
            download.close()
        assert queue.cost(blob) == 0
        gate.open()
    wait_for(lambda: body_of(queue.open(blob)) == blob.read(), "its turn to have come")
    assert queue.cost(blob) == 1


def test_one_that_has_its_turn_is_waited_for(queue: Queue) -> None:
    blob, other, gate = queue.blob(known=False), queue.blob(SIZE + 1, known=False), Gate()
    queue.script(blob, Hang(gate))
    with queue.open(blob) as download:
        gate.wait_reached()
        # This one comes later, and has its time already behind it.
        with queue.open(other) as queued:
            assert queued.status == 429
        assert download.is_silent
        gate.open()
        assert (download.status, download.headers["content-length"]) == (200, str(SIZE))
        assert download.rest() == blob.read()
    assert queue.cost(blob) == 1


# Patience


@pytest.mark.parametrize("what", ["manifests", "blobs", "tags"])
def test_who_knows_another_way_is_sent_there_while_the_upstream_limits_the_rate(queue: Queue, what: str) -> None:
    blob = queue.blob(known=False)
    path = {"manifests": "manifests/1", "blobs": f"blobs/{blob.digest}", "tags": "tags/list"}[what]
    queue.upstream.script(Status(429, retry_after=600))
    ways = queue.ways(path)
    assert [download.status for download in ways] == [429, 503, 503]
    for download, code in zip(ways, ("TOOMANYREQUESTS", "UNAVAILABLE", "UNAVAILABLE"), strict=True):
        (error,) = json.loads(download.rest())["errors"]
        assert error["code"] == code
        assert 500 < int(download.headers["retry-after"]) <= 600
        download.close()
    assert queue.upstream.requests.count() == 1


def test_small_questions_that_hang_keep_no_other_waiting_longer_than_queue_timeout(tmp_path: Path) -> None:
    gate = Gate()
    with ExitStack() as stack:
        upstream = stack.enter_context(ScriptedUpstream())
        upstream.add(NAME, make_image("app"), "1", "2")
        config = (
            '[rules.r]\nupstream = "r.example"\n'
            f'[upstreams."r.example"]\nendpoint = "{upstream.url}"\nconnections = 1\nqueue_timeout = "100ms"\n'
        )
        engine = stack.enter_context(serving(tmp_path, config, PATIENCE))
        upstream.script(Hang(gate), reference="1")
        with Download(engine, f"/v2/r/{NAME}/manifests/1") as hanging:
            gate.wait_reached()
            for query, status in (("", 429), ("?ns=r.example", 503)):
                name = NAME if query else f"r/{NAME}"
                with Download(engine, f"/v2/{name}/manifests/2{query}") as other:
                    assert other.status == status
                    assert (
                        b"no connection for questions to r.example came free for this client in 0.1 s" in other.rest()
                    )
            gate.open()
            assert hanging.status == 200
        assert upstream.requests.count(reference="2") == 0
