"""What the measurements know about processes and the machine: pinning, CPU time, memory, names of things."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

#: The server under test has the first core to itself; clients, load generators and upstreams share the second.
SERVER_CORE = 0
CLIENT_CORE = 1


class Unavailable(Exception):
    """A peer or a tool that this machine lacks; the message says what and what to install. It is left out, not faked."""


def can_pin() -> bool:
    return {SERVER_CORE, CLIENT_CORE} <= os.sched_getaffinity(0) and shutil.which("taskset") is not None


def pinned(core: int, command: list[str]) -> list[str]:
    """The command bound to one core, or as it is where the machine has only one (the page then says so)."""
    return ["taskset", "-c", str(core), *command] if can_pin() else command


def descendants(pid: int) -> list[int]:
    """The process and all that it started, those still running."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue  # it ended while we looked
            parents.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    found, new = [pid], [pid]
    while new:
        new = [child for parent in new for child in parents.get(parent, ())]
        found += new
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, user and system, dead children included.

    Live processes are read from their CPU clocks (nanoseconds; /proc/<pid>/stat counts the same time in steps of 10 ms),
    children that ended and were waited for from /proc/<pid>/stat.
    """
    tick = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for process in descendants(pid):
        try:
            # The clock id of another process, as clock_getcpuclockid(3) makes it.
            total += time.clock_gettime((~process << 3) | 2)
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[13]) + int(fields[14])) / tick
    return total


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its children (VmRSS: shared pages are counted in each)."""
    total = 0
    for process in descendants(pid):
        try:
            text = Path(f"/proc/{process}/status").read_text()
        except OSError:
            continue
        found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now, for programs that can not say which one they were given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def drop_from_page_cache(path: Path) -> None:
    """Write back and forget the file's pages, so that the next read goes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def need(program: str, package: str) -> str:
    """The program's path. Raises Unavailable with the Debian package that has it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        raise Unavailable(f"{program} is not installed (Debian: apt-get install {package})")
    return found


@dataclass(frozen=True)
class Version:
    """Which program, and the words in which it says its version."""

    command: tuple[str, ...]
    pattern: str


_VERSIONS = {
    "nginx": Version(("/usr/sbin/nginx", "-v"), r"nginx/(\S+)"),
    "docker-registry": Version(("docker-registry", "--version"), r"(\d\S+)"),
    "wrk": Version(("wrk", "-v"), r"wrk (\S+)"),
    "containerd": Version(("containerd", "--version"), r"(\d+\.\d\S+)"),
}


def describe() -> dict[str, str]:
    """The facts about this machine that a reader needs to judge the figures."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    facts = {
        "cpu": f"{os.cpu_count()} x {cpu[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 1024**2:.0f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "pinned": "server on core 0, clients and upstream on core 1" if can_pin() else "not pinned: one core only",
    }
    for name, version in _VERSIONS.items():
        try:
            run = subprocess.run(version.command, capture_output=True, text=True, check=False)
        except OSError:
            continue
        if found := re.search(version.pattern, run.stdout + run.stderr):
            facts[name] = found[1]
    return facts
