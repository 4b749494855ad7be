"""How upstreams are reached, by canonical host."""

from __future__ import annotations

from pullthrough.declaration import Rule
from pullthrough.oci.names import canonical_host
from pullthrough.settings.keys import dotted, nearest
from pullthrough.settings.sources import Sources
from pullthrough.settings.tables.rules import UpstreamSettings
from pullthrough.settings.values.network import is_upstream_host


def read_upstreams(sources: Sources, rules: tuple[Rule, ...]) -> dict[str, UpstreamSettings]:
    upstreams: dict[str, UpstreamSettings] = {}
    hosts = {rule.upstream for rule in rules}
    for host, table in sources.subtable("upstreams").items():
        path = ("upstreams", host)
        where = sources.header(*path)
        canonical = canonical_host(host)
        if not isinstance(table, dict):
            sources.problem(f'{sources.file}: {dotted(*path)} is not a table; write [upstreams."<host>"]')
        elif not is_upstream_host(host):
            sources.problem(
                f'{where} is not for a host such as "registry.example.com" or "127.0.0.1:5001", in quotes, without '
                "a scheme or a path"
            )
        elif canonical in upstreams:
            sources.problem(f"{where} is a second table for {canonical}")
        else:
            upstream = sources.table(UpstreamSettings, path, table) or UpstreamSettings()
            upstreams[canonical] = upstream
            sources.check_file(path, "ca_file", upstream.ca_file)
            sources.check_pair(path, "client_cert", upstream.client_cert, "client_key", upstream.client_key)
            # It may be for a rule that is made through the API, unless it looks like one of these: nvcr.io is no ghcr.io.
            if canonical not in hosts and (near := nearest(canonical, hosts, cutoff=0.8)):
                sources.warnings.append(
                    f"{where} is for an upstream that no rule of the settings has; is {near} meant?"
                )
    return upstreams
