"""What the engine keeps: blobs as files, everything else in a SQL catalog, and what its processes share.

`folder` is the data folder and its lock, `locks` and `generation` are what worker processes share, `blobs` are the
files, `catalog` and `inventory` are the rows. Every method here is synchronous and thread-safe; the engine calls them
through a bounded pool of threads. Nothing here knows HTTP, rules or upstreams.
"""
