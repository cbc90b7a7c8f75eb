"""The traffic record: one plain dict per request in the documented JSON form, one row of `SCHEMA` in the lake.

Fields that readers filter on are columns of their own; the rest (messages, prompt, response, parameters, metadata,
extra) is JSON text. Fields that the form does not know are kept under `extra`, those inside an object as
`extra["object.field"]`, and so are values that their column can't hold: bad input never loses data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, repeat
from typing import Any

import numpy as np
import pyarrow as pa

from gateway.ledger.columns import ARROW, plain
from gateway.ledger.fingerprint import EMBEDDING_SIZE, MINHASH_SIZE
from gateway.ledger.identifiers import from_rfc3339, now, to_rfc3339
from gateway.ledger.validation import validate as validate

_INT64 = 2**63
_COMPACT = json.JSONEncoder(separators=(",", ":"), default=str)

_STRINGS = ("origin", "account", "key", "user", "endpoint", "model_requested", "model", "model_role")
_ROUTE = {"reason": "text", "task": "text", "adequacy": "number", "certificate": "text", "escalated": "boolean"}
_USAGE = {
    "input_tokens": "integer",
    "output_tokens": "integer",
    "reasoning_tokens": "integer",
    "cached_tokens": "integer",
    "source": "text",
}
_CLIENT = {"user_agent": "text", "network": "text", "asn": "integer", "fingerprint": "text"}
# Every field of the record that is a column under its own name, in the order of the columns, and how it is stored.
_FIELDS: dict[str, str | dict[str, str]] = {
    "id": "text",
    "time": "time",
    **dict.fromkeys(_STRINGS, "text"),
    "route": _ROUTE,
    "messages": "json",
    "prompt": "json",
    "response": "json",
    "tools": "texts",
    "parameters": "json",
    "turns": "integer",
    "usage": _USAGE,
    "status": "integer",
    "error": "text",
    "finish_reason": "text",
    "latency_ms": "number",
    "time_to_first_token_ms": "number",
    "queue_ms": "number",
    "overhead_ms": "number",
    "cost": "integer",
    "counterfactual_cost": "integer",
    "client": _CLIENT,
    "store": "boolean",
    "metadata": "json",
    "tags": "texts",
}
# The parts of a fingerprint are columns of their own.
_FINGERPRINT = {"skeleton": "text", "minhash": "minhash", "embedding": "embedding", "conversation": "text"}
_KNOWN = (*_FIELDS, "fingerprint", "extra")


def _arrow_type(kind: str | dict[str, str]) -> pa.DataType:
    if isinstance(kind, dict):
        return pa.struct([(name, ARROW[inner]) for name, inner in kind.items()])
    return ARROW[kind]


# `day` is the day of ingestion in UTC, the lake's partition; `embedding` is 128 signed bytes.
SCHEMA: pa.Schema = pa.schema(
    [(name, _arrow_type(kind)) for name, kind in _FIELDS.items()]
    + [
        ("extra", pa.string()),
        *((name, ARROW[kind]) for name, kind in _FINGERPRINT.items()),
        ("day", pa.string()),
    ]
)


def today() -> str:
    """Return the day of ingestion, `YYYY-MM-DD` in UTC."""
    return now().date().isoformat()


def to_table(records: Sequence[dict[str, Any]], day: str | None = None) -> pa.Table:
    """Turn records into rows of `SCHEMA`, dated by the day of ingestion (today, where it is not given)."""
    extras = _Extras(records)
    values = _split("", records, _KNOWN, extras)
    columns = {name: _column(kind, name, values[name], extras) for name, kind in _FIELDS.items()}
    prints = _objects("fingerprint", values["fingerprint"], _FINGERPRINT, extras)
    for name, kind in _FINGERPRINT.items():
        columns[name] = _column(kind, f"fingerprint.{name}", prints[name], extras)
    columns["extra"] = _column("json", "extra", extras.found, extras)
    columns["day"] = pa.array([day or today()] * len(records), pa.string())
    return pa.Table.from_arrays([columns[field.name] for field in SCHEMA], schema=SCHEMA)


def from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a row (of any of `SCHEMA`'s columns) back into the documented form, absent fields left out."""
    record: dict[str, Any] = {}
    for name, kind in _FIELDS.items():
        value = row.get(name)
        if value is not None:
            record[name] = _from_column(kind, value)
    if row.get("extra") is not None:
        record["extra"] = json.loads(row["extra"])
    fingerprint = _fingerprint_from_row(row)
    if fingerprint:
        record["fingerprint"] = fingerprint
    return record


class _Extras:
    """What each record has beyond its columns: its own `extra`, fields of other systems, values that don't fit."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        own = [record.get("extra") for record in records]
        self.found: list[dict[str, Any] | None] = [dict(extra) if isinstance(extra, dict) else None for extra in own]
        for position, extra in enumerate(own):
            if extra is not None and not isinstance(extra, dict):
                self.keep(position, "extra", extra)

    def keep(self, position: int, name: str, value: Any) -> None:
        """Keep a value that its column, if there is one, can't hold."""
        extra = self.found[position]
        if extra is None:
            extra = self.found[position] = {}
        extra[name] = value


def _split(
    prefix: str, objects: Sequence[dict[str, Any]], names: Sequence[str], extras: _Extras
) -> dict[str, Sequence[Any]]:
    """Return the objects' fields of those names, a column each; fields that they should not have are extras."""
    found = set(chain.from_iterable(objects))
    unknown = found.difference(names)
    for position, value in enumerate(objects) if unknown else ():
        for key in value:
            if key in unknown:
                extras.keep(position, prefix + key, value[key])
    absent = [None] * len(objects)
    return {name: list(map(dict.get, objects, repeat(name))) if name in found else absent for name in names}


def _objects(name: str, values: Sequence[Any], fields: Mapping[str, str], extras: _Extras) -> dict[str, Sequence[Any]]:
    """Return the fields of the values that are objects, a column each; what else there is, is extra."""
    if not set(map(type, values)) <= {dict, type(None)}:
        for position, value in enumerate(values):
            if value is not None and not isinstance(value, dict):
                extras.keep(position, name, value)
        values = [value if isinstance(value, dict) else None for value in values]
    return _split(f"{name}.", [value or {} for value in values], tuple(fields), extras)


def _column(kind: str | dict[str, str], name: str, values: Sequence[Any], extras: _Extras) -> pa.Array:
    if isinstance(kind, dict):
        columns = _objects(name, values, kind, extras)
        fields = [_column(inner, f"{name}.{key}", columns[key], extras) for key, inner in kind.items()]
        absent = pa.array([not isinstance(value, dict) for value in values], pa.bool_())
        return pa.StructArray.from_arrays(fields, fields=list(_arrow_type(kind)), mask=absent)
    made = plain(kind, values)
    return _looked_at(kind, name, values, extras) if made is None else made


def _looked_at(kind: str, name: str, values: Sequence[Any], extras: _Extras) -> pa.Array:
    """Convert one value after the other; what the column can't hold is kept with the extras."""
    converted: list[Any] = []
    for position, value in enumerate(values):
        found = None if value is None else _CONVERT[kind](value)
        if found is None and value is not None:
            extras.keep(position, name, value)
        converted.append(now() if found is None and kind == "time" else found)
    return pa.array(converted, ARROW[kind])


def _fingerprint_from_row(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: row[name] for name in _FINGERPRINT if row.get(name) is not None}
    if "embedding" in found:
        found["embedding"] = np.frombuffer(found["embedding"], np.int8).tolist()
    return found


def _from_column(kind: str | dict[str, str], value: Any) -> Any:
    if isinstance(kind, dict):
        return {name: item for name, item in value.items() if item is not None}
    if kind == "json":
        return json.loads(value)
    return to_rfc3339(value) if kind == "time" else value


def _text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    # A lone surrogate, which JSON can spell, has no UTF-8 and would fail the whole batch.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _json(value: Any) -> str | None:
    return _COMPACT.encode(value)


def _integer(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and -_INT64 <= value < _INT64 else None


def _number(value: Any) -> float | None:
    if type(value) is int and abs(value) >= _INT64:
        return None
    return float(value) if type(value) in (int, float) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _texts(value: Any) -> list[str | None] | None:
    return [_text(item) for item in value] if isinstance(value, list) and all(map(_is_text, value)) else None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _time(value: Any) -> datetime | None:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    try:
        return from_rfc3339(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _bytes(value: Any) -> Any:
    """Return the bytes that a text spells in hexadecimal, and anything else as it is."""
    try:
        return bytes.fromhex(value) if isinstance(value, str) else value
    except ValueError:
        return None


def _minhash(value: Any) -> np.ndarray | None:
    value = _bytes(value)
    if isinstance(value, bytes):
        return np.frombuffer(value, "<u4") if len(value) == 4 * MINHASH_SIZE else None
    numbers = _integers(value, MINHASH_SIZE)
    inside = numbers is not None and numbers.min() >= 0 and numbers.max() < 2**32
    return numbers.astype(np.uint32) if numbers is not None and inside else None


def _embedding(value: Any) -> bytes | None:
    value = _bytes(value)
    if isinstance(value, bytes):
        return value if len(value) == EMBEDDING_SIZE else None
    numbers = _integers(value, EMBEDDING_SIZE)
    inside = numbers is not None and numbers.min() >= -128 and numbers.max() < 128
    return numbers.astype(np.int8).tobytes() if numbers is not None and inside else None


def _integers(value: Any, size: int) -> np.ndarray | None:
    if not isinstance(value, (list, np.ndarray)) or len(value) != size:
        return None
    try:
        numbers = np.asarray(value)
    except ValueError:  # A ragged list.
        return None
    return numbers if numbers.dtype.kind in "iu" and numbers.ndim == 1 else None


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "json": _json,
    "time": _time,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "texts": _texts,
    "minhash": _minhash,
    "embedding": _embedding,
}
