"""Warm plain blobs go by sendfile: the fallback would be right, silent, and cost five times the CPU."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.processes import wait_for
from tests.fakes.upstream import Throttle, Valve
from tests.integration.sites import MIB, Site, open_site
from tests.programs import missing, needs


def traced(site: Site, folder: Path, work: object) -> dict[str, int]:
    """System call -> bytes that it moved to sockets, from now over `work` to the engine's end.

    To its end, for a client has the last bytes before the call that sent them has returned and is recorded.
    """
    strace = needs("strace")
    output = folder / "strace"
    tracer = subprocess.Popen(
        [strace, "-f", "-qq", "-e", "trace=sendfile,sendto,sendmsg,write,writev", "-o", str(output)]
        + [part for pid in site.pids for part in ("-p", str(pid))],
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(lambda: tracer.poll() is not None or all(_is_traced(pid) for pid in site.pids), "strace to attach")
        if tracer.poll() is not None:
            missing(f"processes cannot be traced here: {(tracer.stderr.read() if tracer.stderr else b'').decode()}")
        assert callable(work)
        work()
        site.engine.stop()
        tracer.wait(30)
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(30)
        if tracer.stderr:
            tracer.stderr.close()
    moved: dict[str, int] = {}
    # Of a call that another thread's interrupted there are two lines; the second one has the result.
    for name, count in re.findall(r"(\w+)(?:\(| resumed>)[^\n]*\) += (\d+)\n", output.read_text()):
        moved[name] = moved.get(name, 0) + int(count)
    return moved


def _is_traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
@pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])
def test_a_warm_plain_blob_is_sent_by_sendfile(tmp_path: Path, workers: int, loop: str) -> None:
    with open_site(tmp_path, workers, serve=f'prefetch = false\nloop = "{loop}"', corners=1) as site:
        corner = site.corner()
        blob = corner.blob(16 * MIB)
        corner.get(blob)
        corner.wait_published(blob)
        bodies: list[bytes] = []

        def pull() -> None:
            bodies.append(corner.get(blob).body)
            bodies.append(corner.get(blob, headers={"Range": f"bytes={MIB}-"}).body)

        moved = traced(site, tmp_path, pull)
        assert bodies == [blob.read(), blob.read(MIB)]
        assert moved.get("sendfile", 0) == 31 * MIB
        assert sum(count for name, count in moved.items() if name != "sendfile") < 64 * 1024


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_a_growing_blob_is_sent_by_sendfile_as_well(tmp_path: Path, loop: str) -> None:
    with open_site(tmp_path, 1, serve=f'prefetch = false\nloop = "{loop}"', corners=1) as site:
        corner, valve = site.corner(), Valve(MIB)
        blob = corner.blob(4 * MIB)
        corner.script(Throttle(valve))
        with corner.open(blob) as download:
            download.read(1)

            def pull() -> None:
                valve.let_all()
                assert download.rest() == blob.read(1)

            moved = traced(site, tmp_path, pull)
        assert moved.get("sendfile", 0) >= 3 * MIB
