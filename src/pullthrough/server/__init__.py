"""Composition of the engine: settings in, a running server out.

workers = 1     one process: this one
workers = N     this process binds the sockets, holds the folder's lock and looks after N forked workers, which
                share the sockets and the folder; they die with it, and one that dies alone is replaced
"""

from pullthrough.server.command import serve
from pullthrough.server.offline import offline
from pullthrough.server.worker import running

__all__ = ["offline", "running", "serve"]
