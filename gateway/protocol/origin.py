"""Where a request comes from: the client's network, through proxies we trust, and the order of its headers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.settings import SettingsError


class ClientOrigin:
    """Finds the client behind trusted proxies; `X-Forwarded-For` of anybody else is ignored."""

    def __init__(self, trusted_proxies: Iterable[str]) -> None:
        self._trusted = [_parse_network(proxy) for proxy in trusted_proxies]
        # The same few addresses come again and again; parsing one costs more than looking it up.
        self._is_trusted = lru_cache(maxsize=4096)(self._check_trusted)

    def network(self, peer: str, headers: dict[bytes, bytes]) -> str | None:
        """Return the client's /24 (IPv4) or /48 (IPv6), or None where there is no address."""
        return _network(self._client(peer, headers.get(b"x-forwarded-for", b"")))

    def _client(self, peer: str, forwarded: bytes) -> str:
        if not forwarded or not self._is_trusted(peer):
            return peer
        # Each proxy appends who spoke to it: from the right, the first that is no proxy of ours is the client.
        chain = [part.strip() for part in forwarded.decode("latin-1").split(",")]
        for address in reversed(chain):
            if not self._is_trusted(address):
                return address
        return chain[0]

    def _check_trusted(self, address: str) -> bool:
        parsed = _parse(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        message = f"gateway.trusted_proxies: {text!r} is no address or network: write for example 10.0.0.0/8"
        raise SettingsError(message) from None


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return mapped or parsed


@lru_cache(maxsize=4096)
def _network(address: str) -> str | None:
    parsed = _parse(address)
    if parsed is None:
        return None
    return str(ip_network((parsed, 24 if parsed.version == 4 else 48), strict=False))


@lru_cache(maxsize=4096)
def header_fingerprint(names: tuple[bytes, ...]) -> str:
    """Return a hash of the order of a client's headers, in which libraries differ (16 hexadecimal digits)."""
    return hashlib.blake2b(b"\n".join(names), digest_size=8).hexdigest()
