"""HTTP/1.1 on sockets, blocking: all connections to other registries are opened here. Whatever a peer decides is bounded."""
