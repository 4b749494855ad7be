"""From a listening socket to connections: each is counted as it is accepted, before it is anything.

    accept -> Admission -> TLS handshake, where there is one -> protocol

The loop's own server counts nothing, and tries without end where no file descriptor is left.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from pullthrough.faces.http.admission import Admission, Place
from pullthrough.faces.http.notices import Notice
from pullthrough.fairness.asker import client_of

_log = logging.getLogger(__name__)

#: Connections that are accepted between two turns of the event loop.
_AT_ONCE = 16
_HANDSHAKE_SECONDS = 10.0
#: Until the next try, where there are no descriptors, or too many connections that are closing.
_PAUSE_SECONDS = 0.25
#: As asyncio and aiofastnet say it to the loop's exception handler.
_HANDSHAKE_FAILED = "SSL handshake failed"

#: From a place and the client's address to what serves the connection.
MakeProtocol = Callable[[Place, str], asyncio.Protocol]


class Notices:
    """What one worker's acceptors tell the log, each at most once a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._short = Notice(clock)
        self._failed = Notice(clock)
        self._broken = Notice(clock)

    def connections_are_short(self, admission: Admission, client: str) -> None:
        if count := self._short.count():
            _log.warning(
                "connections are short: of at most %d there are %d, of which %d have a request and %d (at most %d) had none "
                "yet; %d new ones took the place of another or were turned away, the last one from %s; "
                "a higher limit of open files allows more (LimitNOFILE, ulimit -n)",
                *(admission.limit, admission.count, admission.busy.count, admission.new.count, admission.max_new),
                *(count, client),
            )

    def accept_failed(self, error: OSError) -> None:
        if count := self._failed.count():
            _log.error(
                "connections could not be accepted, %d times: %s; it is tried again every %.2f s",
                *(count, error.strerror or error, _PAUSE_SECONDS),
            )

    def handshake_broke_off(self, client: str, error: BaseException) -> None:
        if count := self._broken.count():
            _log.warning(
                "%d TLS handshakes broke off; the last one, from %s: %s", count, client, str(error) or "it left"
            )


class Acceptor:
    """Accepts on one listening socket, from `start` to `stop`. `notices` and `admission` are all acceptors' of a worker."""

    def __init__(
        self,
        listening: socket.socket,
        make: MakeProtocol,
        admission: Admission,
        notices: Notices,
        *,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._listening = listening
        self._make = make
        self._admission = admission
        self._notices = notices
        self._loop = asyncio.get_running_loop()
        self._tls: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": _HANDSHAKE_SECONDS}
        #: Connections that have no protocol yet.
        self._beginning: dict[asyncio.Task[None], Place] = {}
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    async def stop(self) -> None:
        """Close the listening socket, and what is no connection yet."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening.fileno())
        self._listening.close()
        for place in self._beginning.values():
            place.close()
        await asyncio.gather(*self._beginning)

    def _accept(self) -> None:
        """Workers share the socket: one that comes too late finds nothing."""
        for _ in range(_AT_ONCE):
            if self._admission.is_crowded:
                self._pause_accepting()
                return
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._notices.accept_failed(error)
                self._pause_accepting()
                return
            # Of a unix socket there is no address.
            self._begin(accepted, address[0] if isinstance(address, tuple) else "")

    def _pause_accepting(self) -> None:
        self._loop.remove_reader(self._listening.fileno())
        self._pause = self._loop.call_later(_PAUSE_SECONDS, self.start)

    def _begin(self, accepted: socket.socket, address: str) -> None:
        was_full = self._admission.is_full
        place = self._admission.admit(client_of(address), partial(_cut, accepted))
        if place is None or was_full:
            self._notices.connections_are_short(self._admission, address)
        if place is None:
            accepted.close()
            return
        task = self._loop.create_task(self._connect(accepted, address, place))
        self._beginning[task] = place
        task.add_done_callback(self._beginning.pop)

    async def _connect(self, accepted: socket.socket, address: str, place: Place) -> None:
        try:
            await self._loop.connect_accepted_socket(partial(self._make, place, address), accepted, **self._tls)
        except Exception as error:
            self._notices.handshake_broke_off(address, error)
            accepted.close()  # the transport has done so, if there was one
            place.leave()


def _cut(accepted: socket.socket) -> None:
    """End a connection whose transport nobody knows yet: that sees it as if the client had gone."""
    try:
        accepted.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the client has gone


def without_handshakes(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler of the loop: a handshake that breaks off is told of by its acceptor, without a traceback."""
    if context.get("message") != _HANDSHAKE_FAILED:
        loop.default_exception_handler(context)
