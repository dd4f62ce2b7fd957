"""Which hosts may call: addresses, networks and names, compared without asking a name server."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

__all__ = ["host_fault", "host_is_known", "host_names", "is_loopback"]

_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


def host_is_known(address: str, hosts: Collection[str], resolved: Mapping[str, Collection[str]]) -> bool:
    """Tell whether a peer's address is one of `hosts`: an IP address, a network, or a name.

    `resolved` has the addresses of each name, looked up beforehand; a name that is not in it matches nothing.
    """
    peers = _addresses(address)
    networks = [ip_network(host) for host in hosts if not _is_name(host)]
    named = {peer for host in hosts if _is_name(host) for name in resolved.get(host, ()) for peer in _addresses(name)}
    return bool(peers & named) or any(peer in network for peer in peers for network in networks)


def host_names(hosts: Collection[str]) -> tuple[str, ...]:
    """Pick the names among `hosts`: what the caller of `host_is_known` has to resolve."""
    return tuple(host for host in hosts if _is_name(host))


def is_loopback(host: str) -> bool:
    """Tell whether a listener on `host` can be reached from this machine only."""
    return host == "localhost" if _is_name(host) else ip_address(host).is_loopback


def host_fault(host: str) -> str | None:
    """Say what is wrong with a host as it is written in a configuration."""
    if not _is_name(host):
        return None
    if "/" in host:
        try:
            return f"the network {host!r} has host bits set, {ip_network(host, strict=False)} is meant"
        except ValueError:
            return f"{host!r} is no network"
    if re.fullmatch(r"[0-9.]+", host) or ":" in host or not _NAME.fullmatch(host) or len(host) > 253:
        return f"{host!r} is neither an address, nor a network, nor a host name"
    return None


def _is_name(host: str) -> bool:
    try:
        ip_network(host)
    except ValueError:
        return True
    return False


def _addresses(text: str) -> set[IPv4Address | IPv6Address]:
    """Read an address; one of IPv4 that a dual-stack socket shows as IPv6 is both."""
    address = ip_address(text.partition("%")[0])
    return {address, getattr(address, "ipv4_mapped", None) or address}
