"""Server-sent events (WHATWG HTML § 9.2), as far as an OpenAI stream needs them: bytes in, whole events out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from gateway.errors import UpstreamProtocol

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
LONGEST_EVENT = 16 * 1024 * 1024  # bytes; a backend that sends more without an end is broken

_SEPARATOR = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_USAGE = b',"usage":{'


class EventSplitter:
    """Cuts a byte stream into events, wherever its reads end."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []  # pieces of an event without an end, joined once when it comes
        self._size = 0
        self._tail = b""  # the last bytes of the pieces: an end may lie across two of them

    def feed(self, block: bytes) -> list[bytes]:
        """Take one read; return the events that it completes, without the empty line between them."""
        if self._rest:
            if _SEPARATOR.search(self._tail + block) is None:
                self._keep(block)
                return []
            block = b"".join((*self._rest, block))
            self._rest, self._size = [], 0
        events = _SEPARATOR.split(block) if b"\r" in block else block.split(b"\n\n")
        rest = events.pop()
        if rest:
            self._tail = b""
            self._keep(rest)
        return events if b"" not in events else [event for event in events if event]

    def _keep(self, piece: bytes) -> None:
        self._rest.append(piece)
        self._size += len(piece)
        self._tail = (self._tail + piece)[-3:]
        if self._size > LONGEST_EVENT:
            raise UpstreamProtocol("The model's server sent an event without an end.")


def payload_of(event: bytes) -> bytes:
    """Return the event's data; empty for a comment."""
    if event.startswith(b"data: ") and b"\n" not in event:
        return event[6:]
    name, found, data = event.partition(b"\ndata: ")
    if found and name.startswith(b"event: ") and b"\n" not in data and b"\n" not in name and b"\r" not in event:
        return data
    return b"\n".join(_data_lines(event))


def _data_lines(event: bytes) -> Iterator[bytes]:
    for line in event.splitlines():
        if line.startswith(b"data:"):
            yield line[5:].removeprefix(b" ")


def error_event(body: bytes) -> bytes:
    """Return the event that tells a client of a failed stream."""
    return b"data: " + body + b"\n\n"


def named_event(name: str, body: bytes) -> bytes:
    """Return an event whose name stands before its data, as Anthropic's and the Responses API send them."""
    return b"event: " + name.encode() + b"\ndata: " + body + b"\n\n"


def comment(text: str) -> bytes:
    """Return a line that clients skip."""
    return b": " + text.encode() + b"\n\n"


def without_usage(payload: bytes, chunk: dict[str, Any]) -> bytes:
    """Return the chunk's payload without its top-level `usage`, otherwise byte for byte where that is possible.

    vLLM writes it last. Inside a JSON string the quotes would be escaped, so the marker is found in the structure only;
    the check that nothing but the closing brace follows makes it the top-level one.
    """
    start = payload.rfind(_USAGE)
    if start >= 0:
        end = _end_of_object(payload, start + len(_USAGE) - 1)
        if payload[end:].strip() == b"}":
            return payload[:start] + b"}"
    return json.dumps({name: value for name, value in chunk.items() if name != "usage"}, separators=(",", ":")).encode()


def _end_of_object(payload: bytes, start: int) -> int:
    # A usage object holds numbers and objects of numbers, no strings: braces can be counted.
    end = payload.find(b"}", start) + 1
    if end and payload.find(b"{", start + 1, end) < 0:
        return end
    depth = 0
    for position in range(start, len(payload)):
        depth += (payload[position] == 0x7B) - (payload[position] == 0x7D)
        if depth == 0:
            return position + 1
    return len(payload)
