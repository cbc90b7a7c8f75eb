"""Rows of the lake as arrays, one a field: what a request shows, read for many requests at once.

A field that is missing is NaN, an empty hash (0) or False in its `…_known` mask; no text is kept.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger import fingerprint

COLUMNS = (
    "id", "time", "origin", "account", "user", "endpoint", "model", "model_role", "messages", "prompt", "turns",
    "tools", "parameters", "usage", "response", "status", "finish_reason", "cost", "client", "skeleton", "minhash",
    "embedding", "conversation",
)  # fmt: skip

WORDING = 600  # bytes at the end of the messages in which wording is looked for
_ELICITS = (
    r"step[- ]by[- ]step|chain[- ]of[- ]thought|think (?:aloud|out loud|carefully|it through)|show (?:all )?"
    r"(?:your|the) (?:work|working|reasoning|steps)|explain (?:all )?your reasoning|every intermediate|<think"
)
_GRADES = (
    r"\brubric|\bgrade\b|\bgrading\b|\bscor(?:e|ing)\b|\brate the\b|\bjudge\b|better (?:answer|response)|"
    r"\bcriteria\b"
)
_FORMATS = ("response_format", "structured_outputs", "guided_choice", "guided_json", "guided_regex", "guided_grammar")
_MIX = np.uint64(0x9E3779B97F4A7C15)
_PARAMETERS = (
    "temperature", "choices", "logprobs", "seed", "structured", "steered", "max_tokens", "stream",
)  # fmt: skip

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Columns:
    """Requests in event time, arrays of shape (requests,) but where said; `time` in seconds, lengths in tokens."""

    id: npt.NDArray[np.object_]
    account: npt.NDArray[np.int64]  # place in `names`
    names: tuple[str, ...]
    time: npt.NDArray[np.float64]
    live: Bools
    answered: Bools  # by the teacher
    embeds: Bools  # an embeddings request
    model: Hashes  # who answered
    cost: npt.NDArray[np.float64]  # nano-dollars
    input: Floats
    output: Floats
    reasoning: Floats
    cached: Floats
    turns: Floats
    failed: Bools
    limited: Bools  # 429
    cut: Bools  # ended by its length
    tools: Bools  # declared
    has_text: Bools
    tool_results: Bools
    system: Floats  # characters before the first user message, NaN without text
    elicits: Bools
    grades: Bools
    temperature: Floats
    choices: Floats
    logprobs: Floats  # 0: none asked for
    seed: Hashes
    structured: Bools
    steered: Bools  # logit_bias or stop
    max_tokens: Floats
    stream: Bools
    user: Hashes
    conversation: Hashes
    skeleton: Hashes
    network: Hashes
    client: Hashes  # client software and its fingerprint
    minhash: npt.NDArray[np.uint32]  # (requests, 64)
    minhash_known: Bools
    embedding: npt.NDArray[np.int8]  # (requests, 128)
    embedding_known: Bools

    def __len__(self) -> int:
        return len(self.time)

    def take(self, rows: npt.NDArray[Any]) -> Columns:
        """Return the requests at these places, or where a mask is true."""
        taken = {f.name: getattr(self, f.name) for f in fields(self)}
        return Columns(**{name: value if name == "names" else value[rows] for name, value in taken.items()})


def read(table: pa.Table) -> Columns:
    """Read rows of the lake (any of `COLUMNS`) in event time: by time, then id."""
    order = pc.sort_indices(table, sort_keys=[("time", "ascending"), ("id", "ascending")])
    rows = _Rows(table.take(order))
    names = rows.column("account", pa.string()).dictionary_encode()
    usage = {name: rows.field("usage", f"{name}_tokens") for name in ("input", "output", "reasoning", "cached")}
    status = _floats(rows.column("status", pa.int64()))
    asked = _parameters(rows)
    endpoint = rows.column("endpoint", pa.string())
    minhash, minhash_known = _minhashes(rows.column("minhash", pa.list_(pa.uint32())))
    embedding, embedding_known = _embeddings(rows.column("embedding", pa.binary()))
    output = _lengths(usage["output"], rows.column("response", pa.string()))
    answered = np.isnan(status) | ((status >= 200) & (status < 300)) | (np.nan_to_num(output) > 0)
    return Columns(
        id=rows.column("id", pa.string()).to_numpy(zero_copy_only=False),
        account=names.indices.to_numpy(zero_copy_only=False).astype(np.int64),
        names=tuple(names.dictionary.to_pylist()),
        time=rows.column("time", pa.timestamp("ms", "UTC")).cast(pa.int64()).to_numpy() / 1000.0,
        live=_equal(rows.column("origin", pa.string()), "live"),
        answered=answered & ~_equal(rows.column("model_role", pa.string()), "student"),
        embeds=_equal(endpoint, "embeddings"),
        model=hashes(rows.column("model", pa.string())),
        cost=np.nan_to_num(_floats(rows.column("cost", pa.int64())).astype(np.float64)),
        input=_lengths(usage["input"], rows.text()),
        output=output,
        reasoning=_floats(usage["reasoning"]),
        cached=_floats(usage["cached"]),
        turns=_floats(rows.column("turns", pa.int64())),
        failed=(status >= 400) | (status == 0),
        limited=status == 429,
        cut=_equal(rows.column("finish_reason", pa.string()), "length"),
        tools=_floats(pc.list_value_length(rows.column("tools", pa.list_(pa.string())))) > 0,
        **_wording(rows),
        **asked,
        user=hashes(rows.column("user", pa.string())),
        conversation=hashes(rows.column("conversation", pa.string())),
        skeleton=hashes(rows.column("skeleton", pa.string())),
        network=hashes(rows.field("client", "network", pa.string())),
        client=hashes(rows.field("client", "user_agent", pa.string()))
        ^ (hashes(rows.field("client", "fingerprint", pa.string())) << np.uint64(1)),
        minhash=minhash,
        minhash_known=minhash_known,
        embedding=embedding,
        embedding_known=embedding_known,
    )


class _Rows:
    """A table's columns as single arrays; nulls where a column is not there."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def column(self, name: str, kind: pa.DataType) -> pa.Array:
        if name not in self._table.column_names:
            return pa.nulls(self._table.num_rows, kind)
        return _whole(self._table.column(name))

    def field(self, name: str, inner: str, kind: pa.DataType | None = None) -> pa.Array:
        kind = kind or pa.int64()
        if name not in self._table.column_names or self._table.schema.field(name).type.get_field_index(inner) < 0:
            return pa.nulls(self._table.num_rows, kind)
        return pc.struct_field(_whole(self._table.column(name)), inner)

    def text(self) -> pa.Array:
        return pc.coalesce(self.column("messages", pa.string()), self.column("prompt", pa.string()))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float32)


def _equal(column: pa.Array, value: str) -> Bools:
    return np.asarray(pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False), dtype=bool)


def _lengths(tokens: pa.Array, text: pa.Array) -> Floats:
    # An imported record may say nothing of usage; four characters of what it does say are then one token.
    known = _floats(tokens)
    return np.maximum(np.where(np.isnan(known), _floats(pc.binary_length(text)) / 4, known), 0).astype(np.float32)


def _wording(rows: _Rows) -> dict[str, npt.NDArray[Any]]:
    messages, text = rows.column("messages", pa.string()), rows.text()
    end = pc.binary_slice(text.cast(pa.binary()), -WORDING, 2**31 - 1)
    begin = pc.binary_slice(text.cast(pa.binary()), 0, WORDING)

    def says(part: pa.Array, pattern: str) -> Bools:
        found = pc.match_substring_regex(part, pattern, ignore_case=True)
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)

    results = pc.fill_null(pc.match_substring(messages, '"role":"tool"'), False)
    first = _floats(pc.find_substring(messages, '"role":"user"'))
    return {
        "has_text": np.asarray(text.is_valid().to_numpy(zero_copy_only=False), dtype=bool),
        "tool_results": np.asarray(results.to_numpy(zero_copy_only=False), dtype=bool),
        "system": np.where(np.isnan(first), first, np.maximum(first - 2, 0)).astype(np.float32),
        "elicits": says(end, _ELICITS) | says(begin, _ELICITS),
        "grades": says(end, _GRADES) | says(begin, _GRADES),
    }


def _parameters(rows: _Rows) -> dict[str, npt.NDArray[Any]]:
    # Few accounts vary them, so each text is read once.
    encoded = rows.column("parameters", pa.string()).dictionary_encode()
    table = np.array([_asked(text) for text in encoded.dictionary.to_pylist()] + [_asked("{}")], dtype=np.float64)
    places = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    seeds = np.array([_seed(text) for text in encoded.dictionary.to_pylist()] + [0], dtype=np.uint64)
    found: dict[str, npt.NDArray[Any]] = {}
    for place, name in enumerate(_PARAMETERS):
        column = table[places, place]
        found[name] = column > 0 if name in ("structured", "steered", "stream") else column.astype(np.float32)
    found["seed"] = seeds[places]
    return found


@functools.lru_cache(maxsize=4096)
def _asked(text: str | None) -> tuple[float, ...]:
    asked = _object(text)
    top = asked.get("logprobs")
    numbers = 0.0 if top is None or top is False else max(1.0, _number(asked.get("top_logprobs"), 0.0))
    if top is not True and numbers:
        numbers = max(numbers, _number(top, 0.0))
    return (
        _number(asked.get("temperature"), np.nan),
        max(1.0, _number(asked.get("n"), 1.0)),
        numbers,
        0.0,
        float(any(asked.get(name) for name in _FORMATS)),
        float(bool(asked.get("logit_bias") or asked.get("stop"))),
        _number(asked.get("max_tokens") or asked.get("max_completion_tokens"), np.nan),
        float(bool(asked.get("stream"))),
    )


def _seed(text: str | None) -> int:
    seed = _object(text).get("seed") if text and '"seed"' in text else None
    return (hash(seed) & (2**63 - 1)) | 1 if isinstance(seed, int) else 0


def _object(text: str | None) -> Mapping[str, Any]:
    value = json.loads(text) if text else None
    return value if isinstance(value, dict) else {}


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def hashes(column: pa.Array) -> Hashes:
    """Return a 64-bit hash of each string, the same in every process; 0 where there is none or it is empty."""
    text = column.cast(pa.large_string())
    _validity, offsets, data = text.buffers()
    size = len(text)
    if size == 0 or data is None:
        return np.zeros(size, np.uint64)
    ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + size + 1]
    letters = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    lengths = np.diff(ends)
    inside = np.arange(len(letters)) - np.repeat(ends[:-1] - ends[0], lengths)
    letters = (letters + np.uint64(1)) * _powers(int(lengths.max(initial=0)))[inside]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(letters)])
    found = mixed(sums[ends[1:] - ends[0]] - sums[ends[:-1] - ends[0]])
    known = (lengths > 0) & text.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, found | np.uint64(1), np.uint64(0))


def mixed(values: Hashes) -> Hashes:
    """Mix bits, so that every bit of the result depends on all of the value's (Steele et al. 2014, splitmix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@functools.lru_cache(maxsize=8)
def _powers(count: int) -> Hashes:
    return np.asarray(np.cumprod(np.full(count, _MIX | np.uint64(1), np.uint64)), np.uint64)


def _minhashes(column: pa.Array) -> tuple[npt.NDArray[np.uint32], Bools]:
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    found = np.zeros((len(column), fingerprint.MINHASH_SIZE), np.uint32)
    if known.any():
        found[known] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, fingerprint.MINHASH_SIZE)
    return found, known & (found != np.uint32(2**32 - 1)).any(axis=1)


def _embeddings(column: pa.Array) -> tuple[npt.NDArray[np.int8], Bools]:
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), dtype=bool)
    found = np.zeros((len(column), fingerprint.EMBEDDING_SIZE), np.int8)
    if known.any():
        joined = b"".join(column.drop_null().to_pylist())
        found[known] = np.frombuffer(joined, np.int8).reshape(-1, fingerprint.EMBEDDING_SIZE)
    return found, known & found.any(axis=1)
