"""The client over HTTP keeps the promises that the engine relies on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contracts.upstreams import Site, UpstreamSuite
from tests.fakes.upstream import ScriptedUpstream
from tests.integration.upstream.clients import Make, reached_at

HOST = "registry.example.com"
CONNECTIONS = 4


class TestHttpUpstream(UpstreamSuite):
    @pytest.fixture
    async def site(self, upstreams: Make) -> AsyncIterator[Site]:
        with ScriptedUpstream() as server:
            made = upstreams(settings={HOST: reached_at(server.url, connections=CONNECTIONS)})
            yield Site(made, HOST, CONNECTIONS, server.add, server.stop)
