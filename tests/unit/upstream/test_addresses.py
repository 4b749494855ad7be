from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullthrough.upstream.http.address_classes import AddressClass, classify, classify_name


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", AddressClass.PUBLIC),
        ("2606:4700::1111", AddressClass.PUBLIC),
        ("127.0.0.1", AddressClass.LOOPBACK),
        ("127.255.255.254", AddressClass.LOOPBACK),
        ("::1", AddressClass.LOOPBACK),
        ("10.1.2.3", AddressClass.PRIVATE),
        ("172.31.255.255", AddressClass.PRIVATE),
        ("172.32.0.1", AddressClass.PUBLIC),
        ("192.168.0.1", AddressClass.PRIVATE),
        ("fd12:3456::1", AddressClass.PRIVATE),
        ("fec0::1", AddressClass.PRIVATE),
        ("169.254.1.1", AddressClass.LINK_LOCAL),
        ("fe80::1", AddressClass.LINK_LOCAL),
        ("fe80::1%eth0", AddressClass.LINK_LOCAL),
        ("100.64.0.1", AddressClass.SHARED),
        ("100.128.0.1", AddressClass.PUBLIC),
        ("0.0.0.0", AddressClass.UNSPECIFIED),
        ("::", AddressClass.UNSPECIFIED),
        ("0.1.2.3", AddressClass.RESERVED),
        ("224.0.0.1", AddressClass.MULTICAST),
        ("ff02::1", AddressClass.MULTICAST),
        ("255.255.255.255", AddressClass.RESERVED),
        ("192.0.2.1", AddressClass.RESERVED),
        ("198.18.0.1", AddressClass.RESERVED),
        ("2001:db8::1", AddressClass.RESERVED),
        ("240.0.0.1", AddressClass.RESERVED),
    ],
)
def test_each_range_has_its_class(address: str, expected: AddressClass) -> None:
    assert classify(address) is expected


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "::169.254.169.254",
    ],
)
def test_metadata_addresses_are_found_in_every_form(address: str) -> None:
    assert classify(address) is AddressClass.METADATA


@pytest.mark.parametrize("form", ["::ffff:{}", "64:ff9b::{}", "::ffff:0:{}", "64:ff9b:1::{}"])
def test_an_ipv4_address_inside_an_ipv6_one_decides(form: str) -> None:
    assert classify(form.format("10.0.0.1")) is AddressClass.PRIVATE
    assert classify(form.format("127.0.0.1")) is AddressClass.LOOPBACK
    assert classify(form.format("8.8.8.8")) is AddressClass.PUBLIC


def test_6to4_and_teredo_are_unwrapped() -> None:
    assert classify("2002:0a00:0001::") is AddressClass.PRIVATE
    assert classify("2001:0:4136:e378:8000:63bf:f5ff:fffe") is AddressClass.PRIVATE


@given(st.ip_addresses())
def test_every_address_has_a_class(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    found = classify(str(address))
    if found is AddressClass.PUBLIC and isinstance(address, ipaddress.IPv4Address):
        assert address.is_global


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("registry.example.com", AddressClass.PUBLIC),
        ("localhost", AddressClass.LOOPBACK),
        ("LOCALHOST.", AddressClass.LOOPBACK),
        ("a.localhost", AddressClass.LOOPBACK),
        ("metadata.google.internal", AddressClass.METADATA),
        ("Metadata.Google.Internal.", AddressClass.METADATA),
        ("10.0.0.1", AddressClass.PRIVATE),
        ("127.1", AddressClass.LOOPBACK),
        ("2130706433", AddressClass.LOOPBACK),
        ("0x7f.0.0.1", AddressClass.LOOPBACK),
        ("0251.0376.0251.0376", AddressClass.METADATA),
        ("::1", AddressClass.LOOPBACK),
    ],
)
def test_names_and_odd_literals_are_judged_as_resolvers_read_them(name: str, expected: AddressClass) -> None:
    assert classify_name(name) is expected
