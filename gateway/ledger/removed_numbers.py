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

_FILE = "removed.json"


def read(folder: Path) -> dict[str, NDArray[np.int64]]:
    """Return, by stream, the numbers of removed records, ascending."""
    try:
        ranges = json.loads((folder / _FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return {stream: _numbers(parts) for stream, parts in ranges.items()}


def note(folder: Path, rows: pa.Table) -> None:
    """Add the numbers of lake rows that are about to go; the caller holds the lake's lock."""
    numbered = rows.select(["spool_stream", "spool_number"]).drop_null()
    if numbered.num_rows == 0:
        return
    known = read(folder)
    for stream in numbered["spool_stream"].unique().to_pylist():
        mask = np.asarray(numbered["spool_stream"].to_pylist()) == stream
        fresh = numbered["spool_number"].to_numpy()[mask]
        known[stream] = np.union1d(known.get(stream, np.empty(0, np.int64)), fresh)
    _write(folder, known)


def _write(folder: Path, numbers: Mapping[str, NDArray[np.int64]]) -> None:
    ranges = {stream: _ranges(found) for stream, found in numbers.items()}
    durable.write(folder / _FILE, json.dumps(ranges).encode())


def _ranges(numbers: NDArray[np.int64]) -> list[list[int]]:
    parts = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return [[int(part[0]), int(part[-1])] for part in parts]


def _numbers(ranges: list[list[int]]) -> NDArray[np.int64]:
    return np.concatenate([np.arange(first, last + 1, dtype=np.int64) for first, last in ranges])
