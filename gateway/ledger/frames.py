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
_SPACE = ord(" ")
_BLOCK = 1024 * 1024  # is read at once, or more where a frame is longer


class Unreadable(ValueError):
    """A payload that is whole and no record all the same."""


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


class Sealed(NamedTuple):
    """A frame that is whole by its checksum, its record still JSON within the payload (`record_of`).

    It reaches from one offset to another. A DAMAGED one has numbers 0 and no payload.
    """

    kind: Kind
    frame: int
    number: int
    payload: bytes
    begin: int
    end: int


def read_segment(path: Path, offset: int = 0) -> Iterator[Frame]:
    """Yield a segment's frames from an offset on, damaged stretches as DAMAGED frames.

    It stops at the last whole frame: what lies behind it is being written, or was torn off when the writer died.
    """
    for kind, frame, number, payload, begin, end in scan_segment(path, offset):
        try:
            if kind is not Kind.DAMAGED:
                yield Frame(kind, frame, number, record_of(payload), end)
                continue
        except Unreadable:
            pass  # one record that nobody can read must not hold up all that follow
        yield Frame(Kind.DAMAGED, 0, 0, {"bytes": end - begin, "at": begin}, end)


def scan_segment(path: Path, offset: int = 0) -> Iterator[Sealed]:
    """Yield what `read_segment` does without reading the records, which is most of its work."""
    size = _BLOCK
    with path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(size)
            position = 0
            while (frame := _sealed(data, position, offset)) is not None:
                yield frame
                position = frame.end - offset
            if position == 0 and len(data) == size:
                size *= 2  # before a frame is called damaged, all that could be the rest of it is read
                continue
            if position == 0:
                position = _next_frame(data, offset)
                if position < 0:
                    return
                yield Sealed(Kind.DAMAGED, 0, 0, b"", offset, offset + position)
            offset, size = offset + position, _BLOCK


def record_of(payload: bytes | memoryview) -> dict[str, Any]:
    """Return the record in a frame's payload. `Unreadable` where it is none, such as one nested too deep."""
    try:
        if payload[_NUMBERS.size] == _SPACE:
            record = json.loads(bytes(payload[_NUMBERS.size :]))
        else:
            record = orjson.loads(memoryview(payload)[_NUMBERS.size :])
    except (ValueError, IndexError, RecursionError) as error:
        raise Unreadable(str(error)) from error
    if not isinstance(record, dict):
        raise Unreadable("a record is an object")
    return record


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
    payload = payload_of(kind, frame, number, record)
    return _HEADER.pack(MAGIC, len(payload), google_crc32c.value(payload)) + payload


def payload_of(kind: Kind, frame: int, number: int, record: Mapping[str, Any]) -> bytes:
    """Return what a frame's checksum covers."""
    try:
        text = orjson.dumps(record)
    except TypeError:
        # JSON knows numbers beyond 64 bits and halves of surrogate pairs; the space says who can read them.
        text = b" " + json.dumps(record, default=_plain).encode()
    return _NUMBERS.pack(kind, frame, number) + text


def _plain(value: object) -> object:
    return json.loads(orjson.dumps(value)) if isinstance(value, orjson.Fragment) else str(value)


def _sealed(data: bytes, position: int, offset: int) -> Sealed | None:
    if position + _BOTH.size > len(data):
        return None
    magic, length, checksum, kind, frame, number = _BOTH.unpack_from(data, position)
    start = position + _HEADER.size
    payload = data[start : start + length]
    if magic != MAGIC or not _NUMBERS.size < length == len(payload) or google_crc32c.value(payload) != checksum:
        return None
    if kind > Kind.FINAL:
        return None
    return Sealed(_KINDS[kind], frame, number, payload, offset + position, offset + start + length)


def _next_frame(data: bytes, offset: int) -> int:
    position = 0
    while (position := data.find(MAGIC, position + 1)) >= 0:
        if _sealed(data, position, offset) is not None:
            return position
    return -1
