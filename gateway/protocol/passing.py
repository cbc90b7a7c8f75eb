"""The few headers of a client that go on to the backend."""

from __future__ import annotations

import re

from gateway.protocol.dialects import Dialect
from gateway.protocol.head import Head

_VALUE = re.compile(rb"[ -~]{1,128}")


def passed_on(head: Head, dialect: Dialect) -> bytes:
    """Return the lines that the backend gets of the client's head: the trace, and what the dialect passes on."""
    lines = b"" if head.traceparent is None else b"traceparent: %b\r\n" % head.traceparent
    for name in dialect.passed_on:
        value = head.headers.get(name)
        if value is not None and _VALUE.fullmatch(value):
            lines += b"%b: %b\r\n" % (name, value)
    return lines
