"""The few headers of a client that go on to the backend."""

from __future__ import annotations

import re

from gateway.protocol.exchange import Exchange

# W3C Trace Context, version 00 and later ones, which may append fields.
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[!-~]{1,64})?")
_VALUE = re.compile(rb"[ -~]{1,128}")


def traceparent(headers: dict[bytes, bytes]) -> str | None:
    """Return the caller's `traceparent` where it is a usable one."""
    value = headers.get(b"traceparent")
    return value.decode() if value is not None and _TRACEPARENT.fullmatch(value) else None


def passed_on(exchange: Exchange) -> dict[bytes, bytes]:
    """Return what the backend gets of the client's headers: the trace, and what the dialect passes on."""
    found: dict[bytes, bytes] = {}
    trace = traceparent(exchange.headers)
    if trace is not None:
        found[b"traceparent"] = trace.encode()
    for name in exchange.dialect.passed_on:
        value = exchange.headers.get(name)
        if value is not None and _VALUE.fullmatch(value):
            found[name] = value
    return found
