"""The catalog: which repository has which manifests, tags and blobs, and what the upstreams last said.

Each noun is a class that takes the `Database`; a method is one transaction. Names and digests come in parsed; times are
seconds since the epoch.
"""
