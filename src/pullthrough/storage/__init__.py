"""What the engine keeps: blobs as files, everything else in a SQL catalog, and what its processes share.

`interfaces` says what storage promises, whatever it is made of. `sql` is the database, `catalog` the content in it, and
what stands beside the content is a module a noun. What reads and writes the catalog is synchronous and safe to use from
many threads: the engine calls it in a bounded pool of them. Nothing here knows HTTP, rules or upstreams.
"""
