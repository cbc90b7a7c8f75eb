"""Which numbered records of a worker slot were removed on purpose, so that `traffic verify` does not miss them.

They are noted before the rows go; ranges, because retention removes whole ones. Nothing says whose they were.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gateway.ledger import durable

Numbers = dict[str, NDArray[np.int64]]

_FILE = "removed.json"


def read(folder: Path) -> Numbers:
    """Return, by stream, the numbers of removed records, ascending."""
    try:
        return decode((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return {}


def note(folder: Path, rows: pa.Table) -> None:
    """Add the numbers of lake rows that are about to go; the caller holds the lake's lock."""
    fresh = numbers_of(rows)
    if fresh:
        durable.write(folder / _FILE, encode(union(read(folder), fresh)))


def numbers_of(rows: pa.Table) -> Numbers:
    """Return the numbers that lake rows have, by stream, ascending; imported ones have none."""
    numbered = rows.select(["spool_stream", "spool_number"]).drop_null()
    streams = np.asarray(numbered["spool_stream"].to_pylist())
    numbers = numbered["spool_number"].to_numpy()
    return {str(stream): np.unique(numbers[streams == stream]) for stream in np.unique(streams)}


def union(one: Mapping[str, NDArray[np.int64]], other: Mapping[str, NDArray[np.int64]]) -> Numbers:
    """Return the numbers that either has."""
    nothing = np.empty(0, np.int64)
    return {name: np.union1d(one.get(name, nothing), other.get(name, nothing)) for name in one.keys() | other.keys()}


def encode(numbers: Mapping[str, NDArray[np.int64]]) -> bytes:
    """Return them as JSON: by stream, pairs of the first and the last number of each range."""
    return json.dumps({stream: _ranges(found) for stream, found in sorted(numbers.items())}).encode()


def decode(data: bytes) -> Numbers:
    """Return what `encode` was given."""
    return {stream: _numbers(parts) for stream, parts in json.loads(data).items()}


def _ranges(numbers: NDArray[np.int64]) -> list[list[int]]:
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts]


def _numbers(ranges: list[list[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(first, last + 1, dtype=np.int64) for first, last in ranges])
