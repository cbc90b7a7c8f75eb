"""What one request shows, read once from a row of the lake: sizes, shape, parameters, fingerprint, never who sent it.

A field that is missing is None or NaN here and stays so; what the detector can't see it says in `Assessment.unseen`.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gateway.ledger import content, fingerprint

COLUMNS = (
    "id", "time", "origin", "account", "user", "endpoint", "model", "model_role", "messages", "prompt", "turns",
    "tools", "parameters", "usage", "response", "status", "cost", "skeleton", "minhash", "embedding", "conversation",
)  # fmt: skip

# A system prompt of up to 40 characters ("You are a helpful assistant.") sets no task, one of 120 does.
GENERIC_SYSTEM_PROMPT, APPLICATION_SYSTEM_PROMPT = 40, 120
TINY_ANSWER = 16  # tokens
WORDING = 500  # characters at either end of a text in which wording is looked for
# Each pattern is tried, on lower-cased text, only where one of its stems occurs, which is seen far sooner.
_ELICITING_STEMS = ("step", "chain", "think", "show", "explain", "reason")
_ELICITS = re.compile(
    r"step[- ]by[- ]step|chain[- ]of[- ]thought|think (?:aloud|out loud|carefully|it through)|show (?:all )?"
    r"(?:your|the) (?:work|working|reasoning|steps)|explain (?:all )?your reasoning|"
    r"reason(?:ing)? (?:first|through)|<think"
)
_GRADING_STEMS = ("rubric", "grad", "scor", "rate the", "judge", "better", "criteria", "prefer")
_GRADES = re.compile(
    r"\brubric|\bgrade\b|\bgrading\b|\bscor(?:e|ing)\b|\brate the\b|\bjudge\b|better (?:answer|response)|"
    r"\bcriteria\b|prefer(?:red|ence)"
)
_CONSTRAINTS = (
    "response_format",
    "structured_outputs",
    "guided_choice",
    "guided_json",
    "guided_regex",
    "guided_grammar",
)


@dataclass(frozen=True, slots=True)
class Observation:
    """One request as the detector sees it. `time` is seconds since the epoch, `cost` nano-dollars; no text is kept."""

    id: str
    time: float
    account: str
    live: bool
    cell: str  # endpoint and model: whom the account is compared with
    teacher: bool  # did the teacher's knowledge answer?
    cost: int
    input: float  # tokens
    output: float
    turns: float  # messages of role user; NaN where not known
    answered_tools: bool
    user: str | None
    conversation: str | None
    skeleton: str | None
    application: float | None  # 1: own system prompt, tools or output format; 0: a bare question; None where not known
    choices: int
    sampled: bool  # temperature above 0.3, or left at the default
    seed: int | None
    top_logprobs: int  # 0: none asked for
    elicits: bool  # the question asks for the working behind the answer
    system_elicits: bool  # … or the system prompt does
    grades: bool
    minhash: npt.NDArray[np.uint32] | None
    embedding: npt.NDArray[np.float32] | None  # unit length
    has_text: bool


def observe(table: pa.Table) -> list[Observation]:
    """Read rows of the lake (`COLUMNS`) in event time: by time, then id."""
    return list(stream(table))


def stream(table: pa.Table) -> Iterator[Observation]:
    """Read rows as `observe` does, a few thousand in memory at a time."""
    present = table.select([name for name in COLUMNS if name in table.column_names])
    order = pc.sort_indices(present, sort_keys=[("time", "ascending"), ("id", "ascending")])
    return _rows(present.take(order))


def _rows(table: pa.Table) -> Iterator[Observation]:
    times = np.asarray(table.column("time").cast(pa.int64()).to_numpy()) / 1000.0
    for batch_start in range(0, table.num_rows, 4096):
        chunk = table.slice(batch_start, 4096)
        hashes, vectors = _hashes(chunk), _vectors(chunk)
        rows = chunk.drop_columns([name for name in ("minhash", "embedding", "time") if name in chunk.column_names])
        for offset, row in enumerate(rows.to_pylist()):
            yield _observation(row, float(times[batch_start + offset]), hashes[offset], vectors[offset])


def _hashes(chunk: pa.Table) -> list[npt.NDArray[np.uint32] | None]:
    if "minhash" not in chunk.column_names:
        return [None] * chunk.num_rows
    column = chunk.column("minhash").combine_chunks()
    rows = iter(column.flatten().to_numpy(zero_copy_only=False).reshape(-1, fingerprint.MINHASH_SIZE))
    return [next(rows) if valid else None for valid in column.is_valid().to_pylist()]


def _vectors(chunk: pa.Table) -> list[npt.NDArray[np.float32] | None]:
    if "embedding" not in chunk.column_names:
        return [None] * chunk.num_rows
    column = chunk.column("embedding").combine_chunks()
    known = b"".join(item for item in column.to_pylist() if item is not None)
    rows = np.frombuffer(known, np.int8).reshape(-1, fingerprint.EMBEDDING_SIZE).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units = iter(rows / np.maximum(lengths, np.float32(1e-9)))
    vectors = [next(units) if valid else None for valid in column.is_valid().to_pylist()]
    return [None if vector is None or not vector.any() else vector for vector in vectors]


def _observation(
    row: Mapping[str, Any], time: float, minhash: npt.NDArray[np.uint32] | None, vector: npt.NDArray[np.float32] | None
) -> Observation:
    parameters = _object(row.get("parameters"))
    messages = _messages(row.get("messages"))
    tokens_in, tokens_out = _tokens(row)
    system, text = _texts(messages, row)
    task, wording = _ends(system), _ends(text)
    choices = max(1, _count(parameters.get("n"), 1))
    return Observation(
        id=row["id"],
        time=time,
        account=row["account"],
        live=row.get("origin") == "live",
        cell=f"{row['endpoint']} {row.get('model') or ''}",
        teacher=row.get("model_role") != "student" and _answered(row.get("status"), tokens_out),
        cost=int(row.get("cost") or 0),
        input=tokens_in,
        output=tokens_out,
        turns=_number(row.get("turns")),
        answered_tools=any(message.get("role") == "tool" for message in messages),
        user=row.get("user"),
        conversation=row.get("conversation"),
        skeleton=row.get("skeleton"),
        application=_application(messages, row, parameters, system),
        choices=choices,
        sampled=choices > 1 or _float(parameters.get("temperature"), 1.0) > 0.3,
        seed=parameters["seed"] if isinstance(parameters.get("seed"), int) else None,
        top_logprobs=_logprobs(parameters),
        elicits=_has(wording, _ELICITING_STEMS, _ELICITS),
        system_elicits=_has(task, _ELICITING_STEMS, _ELICITS),
        grades=_has(task, _GRADING_STEMS, _GRADES) or _has(wording, _GRADING_STEMS, _GRADES),
        minhash=minhash,
        embedding=vector,
        has_text=bool(messages) or row.get("prompt") is not None,
    )


def _tokens(row: Mapping[str, Any]) -> tuple[float, float]:
    # An imported record may say nothing of usage; four characters of what it does say are then one token.
    usage = row.get("usage") or {}
    tokens_in, tokens_out = _number(usage.get("input_tokens")), _number(usage.get("output_tokens"))
    asked = row.get("messages") or row.get("prompt")
    if math.isnan(tokens_in) and asked is not None:
        tokens_in = len(asked) / 4
    if math.isnan(tokens_out) and row.get("response") is not None:
        tokens_out = len(content.content_text(_object(row["response"]).get("content"))) / 4
    return tokens_in, tokens_out


def _answered(status: int | None, output: float) -> bool:
    # A client that left (499) or a worker that died (0) may still have drawn tokens.
    return status is None or 200 <= status < 300 or output > 0


def _texts(messages: list[dict[str, Any]], row: Mapping[str, Any]) -> tuple[str, str]:
    system = " ".join(
        content.content_text(message.get("content"))
        for message in messages
        if message.get("role") in ("system", "developer")
    )
    return system, content.text_of({"messages": messages, "prompt": _json(row.get("prompt"))})


def _ends(text: str) -> str:
    # What is asked stands at the beginning or at the end; between them may be pages of context.
    return (text if len(text) <= 2 * WORDING else f"{text[:WORDING]} {text[-WORDING:]}").lower()


def _has(text: str, stems: tuple[str, ...], pattern: re.Pattern[str]) -> bool:
    return any(stem in text for stem in stems) and pattern.search(text) is not None


def _application(
    messages: list[dict[str, Any]], row: Mapping[str, Any], parameters: Mapping[str, Any], system: str
) -> float | None:
    if any(parameters.get(name) for name in _CONSTRAINTS) or row.get("tools"):
        return 1.0
    if messages:
        excess = (len(system) - GENERIC_SYSTEM_PROMPT) / (APPLICATION_SYSTEM_PROMPT - GENERIC_SYSTEM_PROMPT)
        return min(1.0, max(0.0, excess))
    if row["endpoint"] == "completions":
        return 0.0
    if row.get("skeleton") is None:
        return None
    # Without the text, the skeleton still tells a bare question from one with something of unknown weight around it.
    return 0.0 if row["skeleton"] == _bare_skeleton(row["endpoint"]) else 0.5


@functools.cache
def _bare_skeleton(endpoint: str) -> str:
    return fingerprint.task_skeleton(endpoint, {})


def _logprobs(parameters: Mapping[str, Any]) -> int:
    asked = parameters.get("logprobs")
    if asked is None or asked is False:
        return 0
    return max(1, _count(parameters.get("top_logprobs"), 0), 0 if asked is True else _count(asked, 0))


def _json(text: object) -> Any:
    return json.loads(text) if isinstance(text, str) else text


def _object(text: object) -> dict[str, Any]:
    value = _json(text)
    return value if isinstance(value, dict) else {}


def _messages(text: object) -> list[dict[str, Any]]:
    value = _json(text)
    return [message for message in value if isinstance(message, dict)] if isinstance(value, list) else []


def _number(value: object) -> float:
    return max(0.0, float(value)) if isinstance(value, (int, float)) else math.nan


def _float(value: object, default: float) -> float:
    return float(value) if isinstance(value, (int, float)) else default


def _count(value: object, default: int) -> int:
    return int(value) if isinstance(value, (int, float)) else default
