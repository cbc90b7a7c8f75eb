"""Which of a client's headers go on to a backend, and in which form."""

from __future__ import annotations

import pytest

from gateway.protocol.dialects import Endpoint
from gateway.protocol.exchange import Exchange
from gateway.protocol.passing import passed_on, traceparent

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def exchange(endpoint: Endpoint, **headers: bytes) -> Exchange:
    sent = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    return Exchange(endpoint, sent, tuple(sent), "127.0.0.1")


@pytest.mark.parametrize("value", [TRACE, b"01" + TRACE[2:] + b"-later", b"cc" + TRACE[2:]])
def test_a_trace_is_kept(value: bytes) -> None:
    """Version 00 of W3C's trace context, and what a later one may append."""
    assert traceparent({b"traceparent": value}) == value.decode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        TRACE.upper(),
        TRACE + b"\r\nx: y",
        TRACE.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32),
        TRACE.replace(b"b7ad6b7169203331", b"0" * 16),
        b"00" + TRACE[2:-3],
    ],
)
def test_what_is_no_trace_is_dropped(value: bytes) -> None:
    """An invalid value starts no trace and reaches neither backend nor record."""
    assert traceparent({b"traceparent": value}) is None
    assert passed_on(exchange("chat.completions", traceparent=value)) == {}


def test_only_messages_pass_on_the_version() -> None:
    """The version of Anthropic's API means something to that endpoint alone, and only as a plain value."""
    assert passed_on(exchange("messages", anthropic_version=b"2023-06-01")) == {b"anthropic-version": b"2023-06-01"}
    assert passed_on(exchange("messages", anthropic_version=b"a\r\nb: c")) == {}
    assert passed_on(exchange("responses", anthropic_version=b"2023-06-01")) == {}
