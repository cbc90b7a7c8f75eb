"""Which of a client's headers go on to a backend, and in which form."""

from __future__ import annotations

import pytest

from gateway.protocol.dialects import DIALECTS, Endpoint
from gateway.protocol.head import Head
from gateway.protocol.passing import passed_on

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def head(**headers: bytes) -> Head:
    """Return a head with these headers."""
    return Head(b"/v1/messages", [(name.replace("_", "-").encode(), value) for name, value in headers.items()])


def passed(endpoint: Endpoint, **headers: bytes) -> bytes:
    """Return what goes on to the backend."""
    return passed_on(head(**headers), DIALECTS[endpoint])


@pytest.mark.parametrize("value", [TRACE, b"01" + TRACE[2:] + b"-later", b"cc" + TRACE[2:]])
def test_a_trace_is_kept(value: bytes) -> None:
    """Version 00 of W3C's trace context, and what a later one may append."""
    assert head(traceparent=value).traceparent == value
    assert passed("completions", traceparent=value) == b"traceparent: " + value + b"\r\n"


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
    assert head(traceparent=value).traceparent is None
    assert passed("chat.completions", traceparent=value) == b""


def test_only_messages_pass_on_the_version() -> None:
    """The version of Anthropic's API means something to that endpoint alone, and only as a plain value."""
    assert passed("messages", anthropic_version=b"2023-06-01") == b"anthropic-version: 2023-06-01\r\n"
    assert passed("messages", anthropic_version=b"a\r\nb: c") == b""
    assert passed("responses", anthropic_version=b"2023-06-01") == b""
