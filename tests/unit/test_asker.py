"""Which client is which, as far as an address tells."""

from __future__ import annotations

import pytest

from pullthrough.fairness.asker import client_of


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("fe80::1%eth0", "fe80::"),
        ("unix", "unix"),
        ("no:address", "no:address"),
        ("", ""),
        (None, ""),
    ],
)
def test_an_ipv6_client_has_a_whole_network(address: str | None, client: str) -> None:
    assert client_of(address) == client
