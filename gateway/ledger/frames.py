"""The frames of a spool segment: magic, length and CRC32C of the payload (little-endian), then msgpack.

The payload is [kind, frame, number, record]: `frame` counts the frames and `number` the records of a worker slot.
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
import msgpack

MAGIC = b"SpF1"
_HEADER = struct.Struct("<4sII")
_packer = msgpack.Packer(unicode_errors="surrogatepass")  # making one costs as much as a record; the GIL guards it


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
    """Return a frame's bytes."""
    try:
        payload: bytes = _packer.pack((int(kind), frame, number, record))
    except (OverflowError, TypeError, ValueError):
        # JSON knows numbers beyond 64 bits and deeper nesting than msgpack: such a record travels as JSON text.
        text = json.dumps(record, default=str)
        payload = _packer.pack((int(kind), frame, number, text))
    return _HEADER.pack(MAGIC, len(payload), google_crc32c.value(payload)) + payload


def _decode(data: bytes, position: int, offset: int) -> Frame | None:
    start = position + _HEADER.size
    if start > len(data):
        return None
    magic, length, checksum = _HEADER.unpack_from(data, position)
    payload = data[start : start + length]
    if magic != MAGIC or len(payload) < length or google_crc32c.value(payload) != checksum:
        return None
    kind, frame, number, record = msgpack.unpackb(payload, unicode_errors="surrogatepass", strict_map_key=False)
    if isinstance(record, str):
        record = json.loads(record)
    return Frame(Kind(kind), frame, number, record, offset + start + length)


def _next_frame(data: bytes, position: int, offset: int) -> int:
    while (position := data.find(MAGIC, position + 1)) >= 0:
        if _decode(data, position, offset) is not None:
            return position
    return -1
