"""Where a request comes from."""

import pytest

from gateway.protocol.origin import ClientOrigin, header_fingerprint
from gateway.settings import SettingsError

PROXIES = ("10.0.0.0/8", "192.0.2.1", "2001:db8:1::/64")


@pytest.mark.parametrize(
    ("peer", "forwarded", "network"),
    [
        ("198.51.100.77", "", "198.51.100.0/24"),
        ("2001:db8:2:3::4", "", "2001:db8:2::/48"),
        ("::ffff:198.51.100.77", "", "198.51.100.0/24"),
        ("198.51.100.77", "203.0.113.5", "198.51.100.0/24"),
        ("10.1.2.3", "203.0.113.5", "203.0.113.0/24"),
        ("10.1.2.3", "6.6.6.6, 203.0.113.5, 10.9.9.9", "203.0.113.0/24"),
        ("2001:db8:1::5", "203.0.113.5", "203.0.113.0/24"),
        ("10.1.2.3", "10.5.5.5", "10.5.5.0/24"),
        ("10.1.2.3", "nonsense", None),
        ("", "", None),
    ],
)
def test_the_client_is_found_behind_trusted_proxies_only(peer: str, forwarded: str, network: str | None) -> None:
    """X-Forwarded-For counts from the right, as far as proxies of ours wrote it; nobody else can claim an address."""
    headers = {b"x-forwarded-for": forwarded.encode()} if forwarded else {}
    assert ClientOrigin(PROXIES).network(peer, headers) == network


def test_header_order_tells_libraries_apart() -> None:
    """The same names in another order are another fingerprint."""
    assert header_fingerprint((b"host", b"accept")) != header_fingerprint((b"accept", b"host"))


def test_a_proxy_that_is_no_network_names_its_setting() -> None:
    """A misspelt proxy stops the start, with the setting and an example."""
    with pytest.raises(SettingsError, match=r"gateway\.trusted_proxies: 'proxy'.*10\.0\.0\.0/8"):
        ClientOrigin(["proxy"])
