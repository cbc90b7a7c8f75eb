"""The frames of a spool segment: magic, length and CRC32C of the payload, all little-endian, then the payload.

The payload is kind, frame and number (1, 8 and 8 bytes), then the record as JSON: `frame` counts the frames and
`number` the records of a worker slot.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import google_crc32c
import orjson

MAGIC = b"SpF2"
_HEADER = struct.Struct("<4sII")
_NUMBERS = struct.Struct("<BQQ")


class Kind(IntEnum):
    """What a frame is: the head of a segment, a request under way, a finished one, or bytes that make no sense."""

    HEAD = 0
    START = 1
    FINAL = 2
    DAMAGED = 3


@dataclass(frozen=True)
class Frame:
    """One frame of a segment; `end` is the offset behind it.

    A HEAD's record is {format, opened, pid, time}: with `opened` a new writer took over, so every request that was
    under way is interrupted; its `number` is the last one given out. A DAMAGED frame has numbers 0 and {bytes, at}.
    """

    kind: Kind
    frame: int
    number: int
    record: dict[str, Any]
    end: int


def read_segment(path: Path, offset: int = 0) -> Iterator[Frame]:
    """Yield a segment's frames from an offset on, damaged stretches as DAMAGED frames.

    It stops at the last whole frame: what lies behind it is being written, or was torn off when the writer died.
    """
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    position = 0
    while position < len(data):
        frame = _decode(data, position, offset)
        if frame is None:
            start, position = position, _next_frame(data, position, offset)
            if position < 0:
                return
            yield Frame(Kind.DAMAGED, 0, 0, {"bytes": position - start, "at": offset + start}, offset + position)
            continue
        yield frame
        position = frame.end - offset


def encode(kind: Kind, frame: int, number: int, record: Mapping[str, Any]) -> bytes:
    """Return a frame's bytes. Values that are JSON already may stand in the record as `orjson.Fragment`s."""
    try:
        text = orjson.dumps(record)
    except TypeError:
        # JSON knows numbers beyond 64 bits and halves of surrogate pairs; the space says who can read them.
        text = b" " + json.dumps(record, default=_plain).encode()
    payload = _NUMBERS.pack(kind, frame, number) + text
    return _HEADER.pack(MAGIC, len(payload), google_crc32c.value(payload)) + payload


def _plain(value: object) -> object:
    return json.loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else str(value)


def _decode(data: bytes, position: int, offset: int) -> Frame | None:
    start = position + _HEADER.size
    if start > len(data):
        return None
    magic, length, checksum = _HEADER.unpack_from(data, position)
    payload = data[start : start + length]
    if magic != MAGIC or len(payload) < max(length, _NUMBERS.size) or google_crc32c.value(payload) != checksum:
        return None
    kind, frame, number = _NUMBERS.unpack_from(payload)
    text = payload[_NUMBERS.size :]
    try:
        record = json.loads(text) if text.startswith(b" ") else orjson.loads(text)
    except (ValueError, RecursionError):
        return None  # one record that nobody can read must not hold up all that follow
    return Frame(Kind(kind), frame, number, record, offset + start + length)


def _next_frame(data: bytes, position: int, offset: int) -> int:
    while (position := data.find(MAGIC, position + 1)) >= 0:
        if _decode(data, position, offset) is not None:
            return position
    return -1
