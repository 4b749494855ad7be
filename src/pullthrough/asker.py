"""For whom a piece of work is done: the client's address, as far as queues share by it.

It travels with the task that serves the request, and with the tasks which that one begins. Work of the engine's own is
for nobody: the empty text.
"""

from __future__ import annotations

from contextvars import ContextVar

ASKER: ContextVar[str] = ContextVar("asker", default="")
