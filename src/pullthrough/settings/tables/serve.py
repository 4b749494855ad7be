"""How the engine runs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from pullthrough.declaration import DAY_SECONDS
from pullthrough.settings.fields import setting, table
from pullthrough.settings.values.network import (
    Listen,
    ListenAddress,
    Mirrors,
    parse_listen,
)
from pullthrough.settings.values.quantities import (
    Duration,
    Flag,
    Limit,
    Number,
    Size,
    SizeLimit,
)
from pullthrough.settings.values.texts import (
    Choice,
    FilePath,
    FolderPath,
)

MIB = 1024 * 1024


class AccessLog(StrEnum):
    ALL = "all"
    #: Only what was not answered from what is cached and fresh.
    MISSES = "misses"
    OFF = "off"


class Loop(StrEnum):
    #: uvloop with aiofastnet where both can be imported, else asyncio's own.
    AUTO = "auto"
    ASYNCIO = "asyncio"


@table
class ServeSettings:
    """How the engine runs."""

    listen: str = setting(Listen(), default="127.0.0.1:5000")
    """Where clients connect. Port 0 lets the system choose one. The default is this machine only, whose pulls need no
    login; on any other address clients log in, unless `anonymous_pull = true`."""
    data: Path = setting(FolderPath())
    """The folder of everything the engine keeps. Default: `$STATE_DIRECTORY` (systemd sets it), else
    `$XDG_DATA_HOME/pullthrough`, else `~/.local/share/pullthrough`. It should be on a local disk."""
    anonymous_pull: bool = setting(Flag(), default=False)
    """Whether everybody who can reach the address may pull without login, what needs the configured accounts included,
    where the address is not loopback."""
    pull_auth: bool = setting(Flag(), default=False)
    """Whether pulls need a login on loopback too. Clients that log in only when they are asked to at first, such as
    docker and crane, need it to push."""
    max_size: SizeLimit = setting(Limit(), default=SizeLimit(percent=80.0))
    """The most that stored bodies and the catalog may take, the catalog half of it. Least recently pulled images go first.
    `never`: no limit of its own."""
    min_free: SizeLimit = setting(Limit(), default=SizeLimit(percent=15.0))
    """What stays free on the file system, whoever fills it. Whichever of the two binds first counts. `never`: no such
    limit. 15% is where a kubelet on the same disk begins to remove images."""
    workers: int = setting(Number(1, 256), default=1)
    """Processes that serve, sharing one data folder and each transfer. More than one helps with TLS and with many small
    requests, up to the number of cores."""
    mirrors: Mapping[str, str] = setting(Mirrors(), default_factory=dict)
    """Further listeners, each bound to one rule, for clients that send neither a prefix nor `ns`: dockerd's
    `registry-mirrors`. Subject to `anonymous_pull` and `pull_auth` as `listen` is."""
    tls_cert: Path | None = setting(FilePath(), default=None)
    """The certificate chain in PEM form, for all listeners. Read again on SIGHUP. None: plain HTTP."""
    tls_key: Path | None = setting(FilePath(), default=None)
    """The certificate's private key in PEM form, without a pass phrase."""
    access_log: AccessLog = setting(Choice(AccessLog), default=AccessLog.ALL)
    """Which answers get a log line: all of them, only those that were not answered from fresh content, or none."""
    prefetch: bool = setting(Flag(), default=True)
    """Whether the first layer that a client asks for starts the transfer of the image's other blobs. Reading manifests
    or configs alone never does."""
    prefetch_per_upstream: int = setting(Number(1, 64), default=3)
    """Prefetched blobs in transfer at once from one upstream; docker and containerd ask for three layers at once."""
    max_fills: int = setting(Number(1, 1024), default=32)
    """Blobs in transfer at once in all, each with a thread of its own; further ones wait their turn. An upstream that has
    none in transfer does not wait: however slow others are, each has one at least."""
    range_ahead_bytes: int = setting(Size(MIB, 1024 * 1024 * MIB), default=16 * MIB, key="range_ahead")
    """How far beyond what has arrived a Range may begin and still wait for the running transfer. Farther ones are asked
    of the upstream by themselves: lazy pullers read the end of a blob first."""
    loop: Loop = setting(Choice(Loop), default=Loop.AUTO)
    """`auto` is uvloop with aiofastnet where both are installed, else asyncio's own loop; `asyncio` always the
    latter."""
    pull_time_flush_seconds: float = setting(Duration(0.1, 3600), default=10.0, key="pull_time_flush")
    """How often pull times are written to the catalog. A crash loses at most this much of them, which only eviction
    notices."""
    evict_interval_seconds: float = setting(Duration(1, DAY_SECONDS), default=30.0, key="evict_interval")
    """How often the disk is held against `max_size` and `min_free`."""
    stale_check_timeout_seconds: float = setting(Duration(0.1, 60), default=2.0, key="stale_check_timeout")
    """How long a client waits for the check of a tag that is past its freshness and past `stale_while_revalidate`,
    before the cached answer goes out. Well under the deadline at which containerd gives a mirror up."""

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """All listeners, the mirrors' included."""
        return tuple(parse_listen(text) for text in (self.listen, *self.mirrors))

    @property
    def control_socket(self) -> Path:
        return self.data / "control.sock"
