"""The course of one body on its way in: who fills it, what has arrived, what readers may have of it, how it ended.

Pure: it is told what was seen and what happened, and says what to do. Whoever drives it (fills.py) does the waiting, the
writing and the asking, so that the same course can be run with real files, simulated ones, or a store of another kind.

    nobody leads            -> LEAD: transfer it, from the beginning or from what is here
    another worker leads    -> FOLLOW: look again soon; what he tells is believed of an attempt that was seen under way
    he has published it     -> ENDED
    what is open was given up -> ANOTHER: open what others get now, if no reader has bytes of this one
"""

from __future__ import annotations

from enum import Enum, auto

from pullthrough.engine.pull.fills.told import pack_error, unpack_error
from pullthrough.errors import PullthroughError, UpstreamUnavailable
from pullthrough.oci.digests import Digest
from pullthrough.oci.owners import Owner
from pullthrough.oci.spans import Spans
from pullthrough.storage.bodies import Sight, State, Told

#: Not sent before the digest is known to match. A client that lacks these cannot take the body for a whole one.
HOLD_BACK_BYTES = 64 * 1024


class LookAgain(PullthroughError):
    """Things changed since the blob was looked up: it was published, or the fill that was joined may not go on here."""


class Next(Enum):
    """What to do about a body after a look at it."""

    LEAD = auto()
    FOLLOW = auto()
    ANOTHER = auto()
    ENDED = auto()


class Course:
    """Of the body `digest` that comes in for `owner` from `upstream`."""

    def __init__(self, digest: Digest, owner: Owner, upstream: str, size_bytes: int | None) -> None:
        self.digest = digest
        self._owner = owner
        self._upstream = upstream
        #: The size, as soon as the manifest or the upstream names it.
        self.size_bytes = size_bytes
        self.arrived = Spans()
        #: Whether size and digest match: then every byte may be sent.
        self.is_verified = False
        #: Whether another worker does the transfer.
        self.follows = False
        #: What ended it without a verified body.
        self.error: PullthroughError | None = None
        #: The leader's turn that is believed; empty until one was seen, or begun here.
        self.attempt = ""

    # --- for readers -------------------------------------------------------------------------------------------------

    def visible_end(self, offset: int) -> int:
        """Up to where the bytes from `offset` on may be sent; `offset` where there are none yet."""
        end = self.arrived.end_from(offset)
        return end if self.is_verified else max(offset, min(end, self.arrived.end - HOLD_BACK_BYTES))

    @property
    def is_over(self) -> bool:
        """Whether no more bytes will come that may be sent."""
        return self.is_verified or self.error is not None

    # --- who leads ---------------------------------------------------------------------------------------------------

    def seen(self, sight: Sight) -> Next:
        """Raises what the leader failed with; LookAgain where it was published before anything of it was seen."""
        if self._believe(sight):
            return Next.ENDED
        if not sight.leads:
            self.follows = True
            return Next.FOLLOW
        if sight.is_current:
            self.follows = False
            return Next.LEAD
        # Given up and removed. A new body may be begun only if no reader has bytes of the old one.
        if self.arrived.spans:
            raise UpstreamUnavailable(f"the fill of {self.digest} ended in another worker", upstream=self._upstream)
        return Next.ANOTHER

    def _believe(self, sight: Sight) -> bool:
        """Take over what the leader has told and done; whether it is published."""
        told, verified = sight.told, False
        # While we lead nobody else does: what was told is then the last word of an attempt that may have ended long ago.
        if told is not None and sight.leads and told.attempt != self.attempt:
            told = None
        if told is not None and told.state is State.FAILED:
            if told.attempt == self.attempt:
                raise unpack_error(told.error)
            told = None
        if told is not None and told.state is State.VERIFIED:
            verified = sight.arrived.size_bytes == told.total_bytes
            if not verified:  # told of another body that had the same place
                told = None
        if told is not None:
            self.attempt = told.attempt
            if told.total_bytes is not None:
                self.size_bytes = told.total_bytes
            if sight.arrived.size_bytes > self.arrived.size_bytes:
                self.arrived = sight.arrived
        if sight.is_published and not self.attempt:
            raise LookAgain(f"{self.digest} was published meanwhile")
        if sight.is_published or verified:
            self.verified(sight.arrived)
        return sight.is_published

    def may_continue(self, sight: Sight) -> bool:
        """Whether the leader goes on from what is here. False: it begins again, empty.

        Bytes that a power failure may have spoiled are not gone on from. Raises UpstreamUnavailable where readers have them.
        """
        if not sight.arrived.spans or (sight.is_sound and sight.told is not None and sight.told.owner == self._owner):
            return True
        if self.arrived.spans:
            raise UpstreamUnavailable(f"the fill of {self.digest} cannot go on", upstream=self._upstream)
        return False

    def lead(self, attempt: str) -> None:
        """A turn of this worker begins. No other one ever has the same name."""
        self.attempt = attempt

    # --- what happens ------------------------------------------------------------------------------------------------

    def wrote(self, start: int, stop: int) -> None:
        """In the thread that writes; readers see the old spans or the new ones."""
        self.arrived = self.arrived.add(start, stop)

    def verified(self, arrived: Spans) -> None:
        self.arrived = arrived
        self.size_bytes = arrived.end
        self.is_verified = True

    def failed(self, error: PullthroughError) -> None:
        """Whoever waits hears of it, unless it has all bytes already."""
        if not self.is_verified:
            self.error = error

    def tell(self, state: State, error: PullthroughError | None = None) -> Told:
        """What the leader tells of it."""
        return Told(
            owner=self._owner,
            attempt=self.attempt,
            state=state,
            total_bytes=self.size_bytes,
            error=pack_error(error) if error else None,
        )
