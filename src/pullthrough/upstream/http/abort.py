"""Ending a blocked thread from outside: the one way a blocking client can obey cancellation and time limits."""

from __future__ import annotations

import socket
import threading

from pullthrough.errors import UpstreamUnavailable


class Aborted(UpstreamUnavailable):
    """The caller gave up. `expired` tells its time limit from its leaving: only the first is the upstream's doing."""

    def __init__(self, *, upstream: str, expired: bool) -> None:
        reason = "did not answer within the time given" if expired else "is no longer wanted: the request was cancelled"
        super().__init__(f"{upstream} {reason}", upstream=upstream)
        self.expired = expired


class AbortHandle:
    """Any thread may abort; the thread that works with the handle then ends with UpstreamUnavailable.

    Covers whatever the working thread blocks in: a look-up, a connect, a read, a pause. Once aborted it stays so.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sock: socket.socket | None = None
        self._expired = False

    def __repr__(self) -> str:
        return f"AbortHandle(aborted={self.aborted})"

    @property
    def aborted(self) -> bool:
        return self._ended.is_set()

    def abort(self) -> None:
        """The answer is not wanted any more."""
        self._end(expired=False)

    def expire(self) -> None:
        """The answer took longer than the caller could wait; the upstream's breaker counts that."""
        self._end(expired=True)

    def check(self, upstream: str) -> None:
        """Raises Aborted where this was aborted."""
        if self._ended.is_set():
            raise Aborted(upstream=upstream, expired=self._expired)

    def pause(self, seconds: float) -> bool:
        """Sleep; ends early, with True, when aborted."""
        return self._ended.wait(seconds)

    def attach(self, sock: socket.socket, upstream: str) -> None:
        """From now on `abort` shuts this socket down. Raises Aborted where it is too late."""
        with self._lock:
            if not self._ended.is_set():
                self._sock = sock
                return
        self.check(upstream)

    def detach(self) -> None:
        """The socket goes back to its pool: nothing may touch it any more."""
        with self._lock:
            self._sock = None

    def _end(self, *, expired: bool) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._expired = expired
            self._ended.set()
            if self._sock is not None:
                try:
                    # Not SSLSocket's own: that one takes the TLS state from under the thread that is reading.
                    socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
                except OSError:
                    pass  # it was not connected any more; its thread sees that by itself
