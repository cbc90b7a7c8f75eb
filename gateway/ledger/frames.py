"""The frames of a spool segment: magic, length and CRC32C of the payload, all little-endian, then the payload.

The payload is kind, frame and number (1, 8 and 8 bytes), then the record as JSON: `frame` counts the frames and
`number` the records of a worker slot.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import orjson

MAGIC = b"SpF2"
_HEADER = struct.Struct("<4sII")
_NUMBERS = struct.Struct("<BQQ")
_BOTH = struct.Struct("<4sIIBQQ")
_BLOCK = 8 * 1024 * 1024  # is read at once, or more where a frame is longer


class Kind(IntEnum):
    """What a frame is: the head of a segment, a request under way, a finished one, or bytes that make no sense."""

    HEAD = 0
    START = 1
    FINAL = 2
    DAMAGED = 3


_KINDS = tuple(Kind)


class Frame(NamedTuple):
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
    size = _BLOCK
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(size)
            position = 0
            while (frame := _decode(data, position, offset)) is not None:
                yield frame
                position = frame.end - offset
            if position == 0 and len(data) == size:
                size *= 2  # before a frame is called damaged, all that could be the rest of it is read
                continue
            if position == 0:
                position = _next_frame(data, offset)
                if position < 0:
                    return
                yield Frame(Kind.DAMAGED, 0, 0, {"bytes": position, "at": offset}, offset + position)
            offset, size = offset + position, _BLOCK


def count_frames(path: Path, offset: int, most: int) -> int:
    """Return how many frames a segment seems to have from an offset on: their lengths are believed, nothing is read."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    count = position = 0
    while count < most and position + _HEADER.size <= len(data):
        magic, length, _checksum = _HEADER.unpack_from(data, position)
        if magic != MAGIC:
            break
        position += _HEADER.size + length
        count += position <= len(data)
    return count


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
    start, text = position + _HEADER.size, position + _BOTH.size
    if text > len(data):
        return None
    magic, length, checksum, kind, frame, number = _BOTH.unpack_from(data, position)
    end = start + length
    if magic != MAGIC or not text <= end <= len(data) or google_crc32c.value(data[start:end]) != checksum:
        return None
    try:
        record = json.loads(data[text:end]) if data[text : text + 1] == b" " else orjson.loads(data[text:end])
        return Frame(_KINDS[kind], frame, number, record, offset + end)
    except (ValueError, IndexError, RecursionError):
        return None  # one record that nobody can read must not hold up all that follow


def _next_frame(data: bytes, offset: int) -> int:
    position = 0
    while (position := data.find(MAGIC, position + 1)) >= 0:
        if _decode(data, position, offset) is not None:
            return position
    return -1
