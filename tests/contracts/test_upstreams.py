"""The upstreams in memory keep the promises of real ones. Those over HTTP: tests/integration/upstream/test_contract.py."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from pullthrough.errors import UpstreamUnavailable
from tests.contracts.upstreams import Site, UpstreamSuite
from tests.fakes.upstreams import CONNECTIONS, MemoryUpstream, MemoryUpstreams


class TestMemoryUpstream(UpstreamSuite):
    @pytest.fixture
    async def site(self) -> AsyncIterator[Site]:
        upstream = MemoryUpstream()
        upstreams = MemoryUpstreams(upstream)

        def fail() -> None:
            upstream.fault = UpstreamUnavailable("it is down", upstream=upstream.host)

        yield Site(upstreams, upstream.host, CONNECTIONS, upstream.add, fail)
        await upstreams.close()
