"""Which connections a worker holds, and which one goes when there is no place for another. Pure: no sockets, no clock.

    NEW     no request has come yet, or not the whole of its head: a TLS handshake, silence
    IDLE    between two requests
    BUSY    a request is being answered

A newcomer takes the place of a connection that is NEW, else of one that is IDLE: the oldest of the client that has most
of them. So clients that connect and say nothing push out one another only; and they are few at any time, for each may
have memory for a TLS handshake and a head.

Connections that are BUSY stay, and no client may have more than `SHARE` times as many of them as there are places without
one: what one client does, however much, leaves some for others. Only where there are none, because many clients together
have them, or all connections of one began to work at once, a BUSY one goes: the newest of a client that has more than
`SHARE` times what the newcomer's has.

This is no `fairness.queue`: there who wants waits until something is free, and what is held is safe; here nobody waits,
and who holds a place may lose it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: One client alone can have seven places in eight: behind a proxy, or a router, all clients are one.
SHARE = 7
#: Connections that are NEW. Others than hostile ones are for as long as the network takes.
MAX_NEW = 1024
#: Connections that were told to close and have not yet, beyond the limit.
_MAX_CLOSING = 32


class _Line:
    """Places in one phase: of each client in the order in which they came to it, and clients by how many they have."""

    def __init__(self) -> None:
        self.count = 0
        #: How many the client has that has most.
        self.most = 0
        self._places: dict[str, dict[Place, None]] = {}
        self._clients: list[dict[str, None]] = [{}]

    def count_of(self, client: str) -> int:
        return len(self._places.get(client, ()))

    def oldest_of(self, client: str) -> Place | None:
        return next(iter(self._places.get(client, ())), None)

    def oldest_of_most(self) -> Place | None:
        return self.oldest_of(next(iter(self._clients[self.most]))) if self.most else None

    def newest_of_most(self) -> Place | None:
        return next(reversed(self._places[next(iter(self._clients[self.most]))])) if self.most else None

    def add(self, place: Place) -> None:
        places = self._places.setdefault(place.client, {})
        places[place] = None
        self.count += 1
        self._recount(place.client, len(places) - 1, len(places))

    def remove(self, place: Place) -> None:
        places = self._places[place.client]
        del places[place]
        self.count -= 1
        self._recount(place.client, len(places) + 1, len(places))
        if not places:
            del self._places[place.client]

    def renew(self, place: Place) -> None:
        places = self._places[place.client]
        del places[place]
        places[place] = None

    def _recount(self, client: str, before: int, now: int) -> None:
        """The two differ by one, and so does `most`, if at all."""
        clients = self._clients
        if before:
            del clients[before][client]
        if now:
            if now == len(clients):
                clients.append({})
            clients[now][client] = None
        if now > self.most or not clients[self.most]:
            self.most = now


@dataclass(eq=False, slots=True)
class Place:
    """One connection's. `close` breaks it off at once; it is replaced as the connection turns into something else."""

    admission: Admission
    client: str
    close: Callable[[], None]
    #: None once it has given way, or left.
    line: _Line | None

    def work(self) -> None:
        """A request has come."""
        self._move(self.admission.busy)

    def rest(self) -> None:
        """All requests are answered."""
        self._move(self.admission.idle)

    def leave(self) -> None:
        """The connection is closed, and so is its descriptor, or in this very moment. May be said twice."""
        self._move(None)
        self.admission.forget(self)

    def give_way(self) -> None:
        self._move(None)
        self.close()

    def _move(self, line: _Line | None) -> None:
        if self.line is None:
            return
        if self.line is line:
            line.renew(self)
            return
        self.line.remove(self)
        self.line = line
        if line is not None:
            line.add(self)


class Admission:
    """The places of one worker, whatever listeners its connections come in by. Belongs to its event loop."""

    def __init__(self, limit: int, *, max_new: int = MAX_NEW) -> None:
        self.limit = limit
        self.max_new = max_new
        self.new, self.idle, self.busy = _Line(), _Line(), _Line()
        #: With those that gave way and are not closed yet.
        self._open: set[Place] = set()

    @property
    def count(self) -> int:
        """Places that are taken, at most `limit`."""
        return self.new.count + self.idle.count + self.busy.count

    @property
    def is_full(self) -> bool:
        """Whether another one has to give way for the next."""
        return self.count >= self.limit or self.new.count >= self.max_new

    @property
    def is_crowded(self) -> bool:
        """Whether so many that gave way are still closing that nobody should be let in before some have."""
        return len(self._open) >= self.limit + _MAX_CLOSING

    def admit(self, client: str, close: Callable[[], None]) -> Place | None:
        """A place for one more connection of `client`; None where it has to be closed. Closes another one where need be.

        Takes the same time however many connections there are.
        """
        leaving: Place | None = None
        free = self.limit - self.busy.count
        if self.busy.count_of(client) < SHARE * free:
            if self.is_full:
                leaving = self.new.oldest_of_most() or self.idle.oldest_of_most()
        else:
            leaving = self.new.oldest_of(client) or self.idle.oldest_of(client)
            if leaving is None and not free:
                leaving = self._in_excess(client)
            if leaving is None:
                return None
        if leaving is not None:
            leaving.give_way()
        place = Place(self, client, close, self.new)
        self.new.add(place)
        self._open.add(place)
        return place

    def _in_excess(self, client: str) -> Place | None:
        """A busy one of who has so many that this client gets none, or next to none: the one that has done least."""
        return self.busy.newest_of_most() if self.busy.most > max(1, SHARE * self.busy.count_of(client)) else None

    def forget(self, place: Place) -> None:
        self._open.discard(place)
