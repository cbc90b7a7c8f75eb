"""A hash of each row of the lake, kept in a column beside it, so that a damaged or edited row can be found.

It finds what changed a row without meaning to, and edits by hand; who rewrites rows on purpose can write new hashes as
well. What a student was trained on is held by the snapshot's own manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

ROW_HASH = "row_hash"
_SIZE = 16
_MOST_BYTES = 64 * 1024 * 1024  # of text that is hashed in one piece: memory stays flat whatever the rows are


def row_hashes(rows: pa.Table) -> pa.Array:
    """Return BLAKE2b-128 of each row as the lake stores it: of every column but the hash's own, in their order.

    What is hashed is a number of 64 bits for each field, little-endian (a float's bits, microseconds, the length of a
    text in bytes; 0 for null), then a bit for each field that is not null, then the bytes of all texts. Of an object
    come whether there is one, and its fields. Whoever rewrites rows must make their hashes anew.
    """
    if rows.num_rows == 0:
        return pa.array([], pa.binary())
    step = max(1, rows.num_rows * _MOST_BYTES // max(_MOST_BYTES, rows.nbytes))
    pieces = [_hashes(rows.slice(start, step)) for start in range(0, rows.num_rows, step)]
    offsets = pa.py_buffer(np.arange(rows.num_rows + 1, dtype=np.int32) * _SIZE)
    return pa.Array.from_buffers(pa.binary(), rows.num_rows, [None, offsets, pa.py_buffer(b"".join(pieces))])


def _hashes(rows: pa.Table) -> bytes:
    leaves = list(_flattened(rows))
    texts = [_text(column) for column in leaves if not _is_number(column.type)]
    joined = pc.binary_join_element_wise(
        _head(leaves, iter(texts)),
        *(text for text in texts if text.null_count < len(text)),
        pa.scalar(b"", pa.large_binary()),
        null_handling="replace",
        null_replacement=b"",
    )
    _validity, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, np.int64)[joined.offset : joined.offset + len(joined) + 1].tolist()
    view, blake2b = memoryview(data), hashlib.blake2b
    return b"".join([blake2b(view[start:end], digest_size=_SIZE).digest() for start, end in pairwise(ends)])


def _head(leaves: Sequence[pa.Array], texts: Iterator[pa.Array]) -> pa.Array:
    """Return what is of one size in every row: the numbers and lengths, and which fields have a value."""
    numbers = np.zeros((len(leaves[0]), len(leaves)), "<i8")
    valid = np.ones(numbers.shape, bool)
    for position, column in enumerate(leaves):
        value = _number(column) if _is_number(column.type) else pc.binary_length(next(texts))
        if value.null_count:
            valid[:, position] = value.is_valid().to_numpy(zero_copy_only=False)
            value = value.fill_null(0)
        numbers[:, position] = value.to_numpy(zero_copy_only=False)
    head = np.concatenate((numbers.view(np.uint8), np.packbits(valid, axis=1)), axis=1)
    offsets = pa.py_buffer(np.arange(len(head) + 1, dtype=np.int64) * head.shape[1])
    return pa.Array.from_buffers(pa.large_binary(), len(head), [None, offsets, pa.py_buffer(head)])


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


def _is_number(kind: pa.DataType) -> bool:
    return not (pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind))


def _number(column: pa.Array) -> pa.Array:
    return column.view(pa.int64()) if pa.types.is_floating(column.type) else column.cast(pa.int64())


def _text(column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type) and column.null_count < len(column):
        values = [None if value is None else orjson.dumps(value) for value in column.to_pylist()]
        return pa.array(values, pa.large_binary())
    if pa.types.is_list(column.type):
        return pa.nulls(len(column), pa.large_binary())
    return column.cast(pa.large_binary())
