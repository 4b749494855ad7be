"""A connected socket as a raw stream with two limits: how long one read may stall, and when all must be over."""

from __future__ import annotations

import io
import math
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Wire(io.RawIOBase):
    """Plain TCP. Raises TimeoutError past a limit, OSError for what the network does.

    Closing it leaves the socket open: the connection owns that.
    """

    def __init__(self, sock: socket.socket, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._monotonic = monotonic
        self._stall_seconds = math.inf
        self._deadline = math.inf
        self._timeout: float | None = None
        self._ended = False
        self._probing = False

    def limit(self, *, stall_seconds: float, total_seconds: float = math.inf) -> None:
        """From now on. `total_seconds` bounds what is sent drop by drop."""
        self._stall_seconds = stall_seconds
        self.end_within(total_seconds)

    def end_within(self, total_seconds: float) -> None:
        self._deadline = self._monotonic() + total_seconds

    def readable(self) -> bool:
        return True

    def is_quiet(self, reader: io.BufferedReader) -> bool:
        """Whether the other side neither closed the connection nor sent anything that `reader`, which reads from this,
        has not given out: after an answer was read, more is a lie about its length."""
        self._probing = True
        try:
            return not reader.peek(1) and not self._ended
        except OSError:
            return False
        finally:
            self._probing = False

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """None, as in a non-blocking stream, only while `is_quiet` looks."""
        self._set_timeout(0 if self._probing else self._left())
        try:
            got = self._sock.recv_into(buffer)
        except BlockingIOError:
            return None
        self._ended = not got
        return got

    def send(self, data: bytes) -> None:
        self._set_timeout(self._left())
        self._sock.sendall(data)

    def _left(self) -> float:
        if self._deadline == math.inf:
            return self._stall_seconds
        left = self._deadline - self._monotonic()
        if left <= 0:
            raise TimeoutError("the time limit has passed")
        return min(left, self._stall_seconds)

    def _set_timeout(self, seconds: float) -> None:
        if seconds != self._timeout:
            self._timeout = seconds
            self._sock.settimeout(seconds)


class TlsWire(Wire):
    """TLS gives 16 KiB at most a read. This one goes on while more is there, so that whoever asked for a megabyte does
    not write, hash and signal 64 times for it."""

    def __init__(self, sock: ssl.SSLSocket, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sock, monotonic)
        self._tls = sock

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        view = memoryview(buffer).cast("B")
        self._set_timeout(0)
        got = 0
        while got < len(view):
            try:
                arrived = self._tls.recv_into(view[got:])
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                if got:
                    break
                if self._probing:
                    return None
                self._wait(select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT)
                continue
            except OSError:
                if got:
                    break  # what came is good; the next read meets the error again
                raise
            if not arrived:
                self._ended = True
                break
            got += arrived
        return got

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._tls, event)
        if not poll.poll(self._left() * 1000):
            raise TimeoutError("nothing arrived")
