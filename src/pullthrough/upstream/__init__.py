"""Other registries, asked by one blocking HTTP client: trust, authorization, budgets, retries in one place.

The engine knows `interfaces` only. `HttpUpstreams` owns everything and gives out one `HttpUpstream` a host. Small questions
are async and run in its threads; a blob's body is read by the thread of its fill, through `open_blob`. From the outside in:

    upstreams    the parts that are shared: threads, name look-ups, system certificates, credentials
    upstream     a question waits for its turn (`queues`), runs in a thread, and is asked again after a pause
    manifests    what a question is, a module a noun: manifests, blobs, listings
    endpoints    endpoints in turn, retries, a circuit breaker for each (`breaker`)
    login        one question to one endpoint: authorization, redirects, rate limits, what a status means
    http         one HTTP request and its answer over a kept connection; TCP, proxies, TLS, addresses

A registry is untrusted: everything parsed is bounded, credentials stay with their host, URLs inside manifests are
never fetched. Nothing here knows rules, storage or the web framework.
"""
