"""Idempotency keys: taken while a request is under way, by account, and free again however it ends."""

from __future__ import annotations

import pytest

from gateway.errors import SameRequestInFlight
from gateway.protocol.idempotency import RequestsInFlight

HEADERS = {b"idempotency-key": b"k1"}


def test_a_key_is_taken_while_its_request_is_under_way() -> None:
    """The second of the same account is refused; another account's or another key's is not."""
    requests = RequestsInFlight()
    with requests.hold("acme", HEADERS):
        with pytest.raises(SameRequestInFlight), requests.hold("acme", HEADERS):
            pytest.fail("it was let in")
        with requests.hold("other", HEADERS), requests.hold("acme", {b"idempotency-key": b"k2"}):
            pass
        with pytest.raises(SameRequestInFlight), requests.hold("acme", HEADERS):
            pytest.fail("the refusal before let go of the key")


def test_a_key_is_free_again_however_its_request_ended() -> None:
    """Success and failure alike end the hold."""
    requests = RequestsInFlight()
    with pytest.raises(ValueError, match="broken"), requests.hold("acme", HEADERS):
        raise ValueError("broken")
    with requests.hold("acme", HEADERS):
        pass
    with requests.hold("acme", HEADERS):
        pass


def test_without_a_key_nothing_is_held() -> None:
    """Requests without a key never meet."""
    requests = RequestsInFlight()
    with requests.hold("acme", {}), requests.hold("acme", {}):
        pass
