"""A hash of each row of the lake, kept in a column beside it, so that a damaged or edited row can be found.

It finds what changed a row without meaning to, and edits by hand; who rewrites rows on purpose can write new hashes as
well. What a student was trained on is held by the snapshot's own manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

ROW_HASH = "row_hash"
_SIZE = 16
_MOST_BYTES = 64 * 1024 * 1024  # of text that is hashed in one piece: memory stays flat whatever the rows are
_NULL = b"-"


def row_hashes(rows: pa.Table) -> pa.Array:
    """Return BLAKE2b-128 of each row as the lake stores it: of every column but the hash's own, in their order.

    A field is its length in bytes, a colon and its bytes; null is a dash. Numbers and times are decimal integers, a
    float the one that its 64 bits spell. Whoever rewrites rows must make their hashes anew.
    """
    if rows.num_rows == 0:
        return pa.array([], pa.binary())
    step = max(1, rows.num_rows * _MOST_BYTES // max(_MOST_BYTES, rows.nbytes))
    pieces = [_hashes(rows.slice(start, step)) for start in range(0, rows.num_rows, step)]
    offsets = pa.py_buffer(np.arange(rows.num_rows + 1, dtype=np.int32) * _SIZE)
    return pa.Array.from_buffers(pa.binary(), rows.num_rows, [None, offsets, pa.py_buffer(b"".join(pieces))])


def _hashes(rows: pa.Table) -> bytes:
    parts: list[pa.Array] = []
    for column in _flattened(rows):
        text = _text(column)
        parts += [pc.binary_length(text).cast(pa.string()).cast(pa.large_binary()), text]
    joined = pc.binary_join_element_wise(
        *parts, pa.scalar(b":", pa.large_binary()), null_handling="replace", null_replacement=_NULL
    )
    _validity, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, np.int64)[joined.offset : joined.offset + len(joined) + 1].tolist()
    view, blake2b = memoryview(data), hashlib.blake2b
    return b"".join([blake2b(view[start:end], digest_size=_SIZE).digest() for start, end in pairwise(ends)])


def _flattened(rows: pa.Table) -> Iterator[pa.Array]:
    for field in rows.schema:
        if field.name == ROW_HASH:
            continue
        column = rows.column(field.name).combine_chunks()
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        yield from _leaves(column)


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    if not pa.types.is_struct(column.type):
        yield column
        return
    # A struct without a value and one whose fields have none are two things.
    yield column.is_valid()
    for inner in column.flatten():
        yield from _leaves(inner)


def _text(column: pa.Array) -> pa.Array:
    kind = column.type
    if column.null_count == len(column):
        return pa.nulls(len(column), pa.large_binary())
    if pa.types.is_list(kind):
        values = [None if value is None else orjson.dumps(value) for value in column.to_pylist()]
        return pa.array(values, pa.large_binary())
    if pa.types.is_floating(kind):
        column = column.view(pa.int64())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    if not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        column = column.cast(pa.string())
    return column.cast(pa.large_binary())
