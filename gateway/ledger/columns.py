"""Values as a column of the lake, a whole batch at a time, as long as each is of the type that the column wants.

That is what nearly every batch is; looking at values one by one costs three times as much. Where one is something
else, `plain` says so (None), and the caller looks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gateway.ledger.fingerprint import EMBEDDING_SIZE, MINHASH_SIZE

ARROW: dict[str, pa.DataType] = {
    "text": pa.string(),
    "json": pa.string(),
    "time": pa.timestamp("ms", "UTC"),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "texts": pa.list_(pa.string()),
    "minhash": pa.list_(pa.uint32()),
    "embedding": pa.binary(),
}
_TYPES: dict[str, frozenset[type]] = {
    "text": frozenset((str,)),
    "time": frozenset((str,)),
    "integer": frozenset((int,)),
    "number": frozenset((int, float)),
    "boolean": frozenset((bool,)),
    "texts": frozenset((list,)),
}


def plain(kind: str, values: Sequence[Any]) -> pa.Array | None:
    """Return the values (None: absent) as a column of that kind, or None where one of them needs a closer look."""
    types = set(map(type, values))
    types.discard(type(None))
    if not types:
        # A row without a time is given one.
        return None if kind == "time" and values else pa.nulls(len(values), ARROW[kind])
    if kind in _TYPES and not types <= _TYPES[kind]:
        return None
    make = _MAKERS.get(kind)
    try:
        return pa.array(values, ARROW[kind]) if make is None else make(values, types)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # Out of range, a lone surrogate, no such time.
        return None


def _times(values: Sequence[Any], _types: set[type]) -> pa.Array | None:
    return None if None in values else pa.array(values, pa.string()).cast(ARROW["time"])


def _json(values: Sequence[Any], _types: set[type]) -> pa.Array:
    dumps = orjson.dumps
    # What `dumps` returns was cut to size within a kilobyte: kept until all are there, it costs ten times its copy.
    return pa.array([None if value is None else dumps(value).decode() for value in values], pa.string())


def _texts(values: Sequence[Any], _types: set[type]) -> pa.Array | None:
    inner = set(map(type, chain.from_iterable(filter(None, values))))
    return pa.array(values, ARROW["texts"]) if inner <= {str} else None


def _minhashes(values: Sequence[Any], types: set[type]) -> pa.Array | None:
    numbers = _numbers(values, types, MINHASH_SIZE, np.dtype("<u4"))
    if numbers is None:
        return None
    absent, offsets = _places(values, MINHASH_SIZE)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(numbers, pa.uint32()), mask=absent)


def _embeddings(values: Sequence[Any], types: set[type]) -> pa.Array | None:
    numbers = _numbers(values, types, EMBEDDING_SIZE, np.dtype("i1"))
    if numbers is None:
        return None
    absent, offsets = _places(values, EMBEDDING_SIZE)
    validity = pc.invert(absent).buffers()[1]
    return pa.Array.from_buffers(pa.binary(), len(values), [validity, pa.py_buffer(offsets), pa.py_buffer(numbers)])


def _places(values: Sequence[Any], size: int) -> tuple[pa.Array, NDArray[np.int32]]:
    """Return which values are absent, and where each begins when those present have so many entries."""
    absent = np.fromiter((value is None for value in values), bool, len(values))
    return pa.array(absent), np.concatenate(([0], np.cumsum(~absent) * size)).astype(np.int32)


def _numbers(values: Sequence[Any], types: set[type], size: int, kind: np.dtype[Any]) -> NDArray[Any] | None:
    """Return the numbers of all rows one after the other, from lists of integers, from their bytes, or these in hex."""
    present = [value for value in values if value is not None]
    lengths: dict[type, int] = {str: 2 * size * kind.itemsize, bytes: size * kind.itemsize, list: size}
    found, *others = types
    if others or set(map(len, present)) != {lengths.get(found)}:
        return None
    if types == {list}:
        return _listed(present, kind)
    data = bytes.fromhex("".join(present)) if types == {str} else b"".join(present)
    # Spaces between digits are no digits, and would move what follows.
    return np.frombuffer(data, kind) if len(data) == len(present) * size * kind.itemsize else None


def _listed(values: Sequence[list[Any]], kind: np.dtype[Any]) -> NDArray[Any] | None:
    flat = list(chain.from_iterable(values))
    if set(map(type, flat)) != {int}:
        return None
    numbers = np.array(flat, np.int64)
    limits = np.iinfo(kind)
    inside = numbers.min() >= limits.min and numbers.max() <= limits.max
    return numbers.astype(kind) if inside else None


_MAKERS: dict[str, Callable[[Sequence[Any], set[type]], pa.Array | None]] = {
    "time": _times,
    "json": _json,
    "texts": _texts,
    "minhash": _minhashes,
    "embedding": _embeddings,
}
