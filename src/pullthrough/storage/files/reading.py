"""Reading files of bodies without holding up the event loop."""

from __future__ import annotations

import os

from pullthrough.threads import Runner, wait_out


class OpenFile:
    """A body that lies in a file, open for reading. It takes the descriptor over."""

    def __init__(self, descriptor: int, run: Runner) -> None:
        self._descriptor = descriptor
        self._run = run

    def fileno(self) -> int:
        return self._descriptor

    async def read(self, start: int, count: int) -> bytearray:
        """On the loop where it is in memory; else in a thread."""
        buffer = bytearray(count)
        try:
            got = os.preadv(self._descriptor, [buffer], start, os.RWF_NOWAIT)
        except OSError:  # not in memory, or a file system that cannot tell
            got = 0
        if got < count:
            got = await wait_out(self._run(_fill, self._descriptor, buffer, start))
            del buffer[got:]
        return buffer

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class StoredFile(OpenFile):
    """A published body."""

    def __init__(self, descriptor: int, run: Runner) -> None:
        super().__init__(descriptor, run)
        self.size_bytes = os.fstat(descriptor).st_size


def _fill(descriptor: int, buffer: bytearray, start: int) -> int:
    view, filled = memoryview(buffer), 0
    with view:
        while filled < len(buffer) and (count := os.preadv(descriptor, [view[filled:]], start + filled)):
            filled += count
    return filled
