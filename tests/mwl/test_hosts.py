import pytest
from hypothesis import given
from hypothesis import strategies as st

from mwl.hosts import host_fault, host_is_known, host_names, is_loopback

HOSTS = ("127.0.0.1", "10.0.0.0/8", "2001:db8::/32", "ct1.example.org")


@pytest.mark.parametrize(
    ("address", "known"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("10.255.0.1", True),
        ("11.0.0.1", False),
        ("::ffff:10.0.0.1", True),  # IPv4 on a dual-stack socket
        ("2001:db8::1", True),
        ("2001:db9::1", False),
        ("192.168.1.7", True),
        ("192.168.1.8", False),
    ],
)
def test_a_host_is_known_by_address_network_or_name(address: str, known: bool) -> None:
    assert host_is_known(address, HOSTS, {"ct1.example.org": ("192.168.1.7",)}) is known


def test_a_name_that_could_not_be_resolved_lets_nobody_in() -> None:
    assert not host_is_known("192.168.1.7", HOSTS, {})


def test_the_scope_of_a_link_local_address_does_not_matter() -> None:
    assert host_is_known("fe80::1%eth0", ["fe80::/10"], {})


def test_names_are_told_from_addresses() -> None:
    assert host_names(HOSTS) == ("ct1.example.org",)


@pytest.mark.parametrize("host", ["", "a b", "10.0.0.256", "10.0.0", "1:2:3", "-a.org", "a..b", "10.0.0.0/33"])
def test_what_is_no_host_is_refused(host: str) -> None:
    assert host_fault(host)


def test_a_network_with_host_bits_is_refused_and_the_right_one_named() -> None:
    assert "10.1.0.0/16 is meant" in str(host_fault("10.1.2.3/16"))


@pytest.mark.parametrize("host", [*HOSTS, "localhost", "ct-1", "CT_1.local", "::1", "0.0.0.0"])
def test_a_host_may_be_an_address_a_network_or_a_name(host: str) -> None:
    assert host_fault(host) is None


@given(st.ip_addresses())
def test_every_address_is_in_its_own_rule(address: object) -> None:
    assert host_is_known(str(address), [str(address)], {})


def test_loopback_is_told_from_the_rest() -> None:
    assert [host for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org") if is_loopback(host)] == [
        "127.0.0.1",
        "::1",
        "localhost",
    ]
