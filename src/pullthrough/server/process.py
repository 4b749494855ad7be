"""What a process of the engine may do and use: its files, its limits, its event loop, what it imports."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import sys
from collections.abc import Callable

from pullthrough.settings import Loop


def keep_private() -> None:
    """What this process writes, and those that it starts, is for its owner alone, whatever it was started with; and where
    it crashes, it leaves no core, which would hold keys and tokens."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def allow_open_files() -> None:
    """As many as the system lets us have: the usual soft limit of 1,024 is for programs that use select(2), and each
    client takes a socket, most of them a file as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections() -> int:
    """Of a worker, whatever listeners they come in by: half of the files it may open, for each client may want one beside
    its socket; but for an eighth of them, which fills, the catalog, logs and upstreams want."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return max(1, (limit - limit // 8) // 2)


def loop_factory(which: Loop) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop alone has no sendfile: it is used with aiofastnet's transports, which have, or not at all."""
    if which is Loop.ASYNCIO:
        return None
    try:
        import aiofastnet
        import uvloop
    except ImportError:
        return None
    fast = aiofastnet.loop_factory(uvloop.new_event_loop)

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = fast()
        # The one way to a transport that its factory leaves as uvloop has it.
        loop.connect_accepted_socket = functools.partial(aiofastnet.connect_accepted_socket, loop)  # type: ignore[method-assign]
        return loop

    return make


def import_aiohttp() -> None:
    """Without the system's certificates, which its client, that serves nobody here, reads as it is imported: 2 MB, 50 ms.

    https://docs.openssl.org/master/man3/SSL_CTX_set_default_verify_paths/
    """
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        import aiohttp  # noqa: F401
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
