"""Other registries, asked by one blocking HTTP client: trust, authorization, budgets, retries in one place.

`Upstreams` owns everything and gives out one `Upstream` a host. Small questions are async and run in its threads; a
blob's body is read by the thread of its fill, through `Upstream.open_blob`. From the outside in:

    upstreams    the parts that are shared: threads, name look-ups, system certificates, credentials
    upstream     the questions a cache asks: manifests, blobs, tags, referrers; retries and endpoints
    exchanges    one question to one endpoint: authorization, redirects, what a status means
    transport    one HTTP request and its answer over a kept connection
    connections  TCP, proxies, TLS, and which addresses may be connected to

A registry is untrusted: everything parsed is bounded, credentials stay with their host, URLs inside manifests are
never fetched. Knows nothing of rules, storage or the web framework.
"""
