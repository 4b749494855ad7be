"""What happens between a listening socket and a connection, where it goes wrong."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from pullthrough.faces.http.acceptor import Acceptor, Notices, without_handshakes
from pullthrough.faces.http.admission import Admission
from tests.unit.faces.http.wires import on_a_clock, pass_by, settle


class Listening:
    """A listening socket that always has something, by a pipe that is never read."""

    def __init__(self, accept: Callable[[], Any]) -> None:
        self._reading, self._writing = os.pipe()
        os.write(self._writing, b"x")
        self._accept = accept
        self.tries = 0

    def fileno(self) -> int:
        return self._reading

    def accept(self) -> Any:
        self.tries += 1
        return self._accept()

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


def acceptor_on(listening: Listening, admission: Admission) -> Acceptor:
    notices = Notices(asyncio.get_running_loop().time)
    return Acceptor(cast("socket.socket", listening), _never, admission, notices, tls=None)


def _never(*_: Any) -> asyncio.Protocol:
    raise AssertionError("no connection was accepted")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EPERM])
@on_a_clock
async def test_it_waits_where_nothing_can_be_accepted_and_says_so_once(number: int, caplog: Any) -> None:
    def accept() -> Any:
        raise OSError(number, os.strerror(number))

    listening = Listening(accept)
    acceptor = acceptor_on(listening, Admission(10))
    acceptor.start()
    for tries in range(1, 6):
        await settle()
        assert listening.tries == tries
        await pass_by(0.3)
    assert len(caplog.records) == 1
    assert os.strerror(number) in caplog.text
    await acceptor.stop()


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ECONNABORTED])
@on_a_clock
async def test_a_connection_that_another_worker_took_or_that_has_gone_is_nothing(number: int, caplog: Any) -> None:
    def accept() -> Any:
        raise OSError(number, os.strerror(number))

    listening = Listening(accept)
    acceptor = acceptor_on(listening, Admission(10))
    acceptor.start()
    await settle()
    await acceptor.stop()
    assert listening.tries > 1
    assert not caplog.records


@on_a_clock
async def test_it_waits_while_too_many_connections_are_closing() -> None:
    def accept() -> Any:
        raise BlockingIOError

    listening, admission = Listening(accept), Admission(1)
    places = []
    while not admission.is_crowded:
        places.append(admission.admit("a", lambda: None))
    acceptor = acceptor_on(listening, admission)
    acceptor.start()
    await pass_by(1)
    assert listening.tries == 0
    for place in places:
        assert place
        place.leave()
    await pass_by(1)
    assert listening.tries > 0
    await acceptor.stop()


@on_a_clock
async def test_a_handshake_that_breaks_off_is_no_traceback(caplog: Any) -> None:
    loop = asyncio.get_running_loop()
    # As aiofastnet says it: the class, where others have an error.
    without_handshakes(loop, {"message": "SSL handshake failed", "exception": ConnectionResetError})
    assert not caplog.records
    without_handshakes(loop, {"message": "something else"})
    assert "something else" in caplog.text


@on_a_clock
async def test_what_is_told_has_a_count_and_the_last_address(caplog: Any) -> None:
    notices = Notices(asyncio.get_running_loop().time)
    for number in range(1000):
        notices.handshake_broke_off(f"192.0.2.{number % 250}", ConnectionResetError())
        notices.connections_are_short(Admission(10), "192.0.2.1")
    assert len(caplog.records) == 2
    await pass_by(61)
    notices.handshake_broke_off("192.0.2.9", OSError("http request"))
    assert "1000 TLS handshakes broke off; the last one, from 192.0.2.9: http request" in caplog.text
