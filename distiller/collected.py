"""What a suspect has collected, and what others asked: rows for a security probe, by rules of its own.

Consent, `store` and end users' opt-outs are rules of training. A probe trains nobody's model, so they don't bind the
suspect's rows (docs/decisions/0041-the-probe.md); what is left is whether the teacher said it and its text is here.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from distiller.deduplication import keep_first
from distiller.rows import Row
from distiller.selection import COLUMNS, RULES, Record, Rights, to_row
from gateway.ledger.content import content_text
from gateway.ledger.errors import InvalidValue, NotFound
from gateway.ledger.lake import Lake
from gateway.ledger.traffic import from_row
from gateway.settings import ModelSettings, Settings

# Rules of training that are about the row and not about a right to learn from it.
_SUSPECTS = ("not_the_teacher", "failed", "no_text", "other_shape", "empty")
_OTHERS = (*_SUSPECTS, "opted_out")
MOST_ROWS = 20_000  # of the suspect's that are looked at
MOST_ACCOUNTS = 100  # that ordinary traffic is taken from
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Collected:
    """A row; `ended` says that its answer ended by itself and was not cut short."""

    row: Row
    ended: bool

    @property
    def request(self) -> Mapping[str, Any]:
        """The body that was asked, by which rows are told apart."""
        return self.row.request

    def document(self) -> dict[str, Any]:
        """Return what a probe learns of it: plain messages, the answer, and whether that ended."""
        messages = [_plain(message) for message in self.row.request["messages"]]
        return {"messages": messages, "answer": self.row.answer, "ended": self.ended}


@dataclass(frozen=True)
class Taken:
    """The rows of a side without repeated prompts; `left_out` counts the others by reason."""

    rows: tuple[Collected, ...]
    left_out: dict[str, int]


def teacher_of(lake: Lake, settings: Settings, accounts: Sequence[str]) -> ModelSettings:
    """Return the teacher that answered these accounts most; `InvalidValue` where none did, `NotFound` if unknown."""
    answered = pc.field("account").isin(accounts) & (pc.field("model_role") == "teacher") & (pc.field("status") == 200)
    models: Counter[str] = Counter()
    for batch in lake.batches(["model"], answered):
        models.update(batch["model"].to_pylist())
    if not models:
        raise InvalidValue(
            f"the lake holds no answer of a teacher to {', '.join(accounts)}: there is nothing that was taken"
        )
    name = models.most_common(1)[0][0]
    teacher = settings.model(name)
    if teacher is None:
        raise NotFound(f"{name!r}, who answered them, is not in the settings: declare it as [[models]] again")
    return teacher


def suspects_rows(lake: Lake, accounts: Sequence[str], teacher: ModelSettings) -> Taken:
    """Return what the teacher answered to these accounts; of very many rows those with the lowest hashes."""
    wanted = pc.field("account").isin(accounts)
    ids = _drawn(lake, wanted, {}, MOST_ROWS)
    return _taken(_records(lake, ids), Rights({}, frozenset(), teacher), _SUSPECTS)


def others_rows(
    lake: Lake, without: Set[str], teacher: ModelSettings, opted_out: frozenset[tuple[str, str]], most: int
) -> Taken:
    """Return about `most` of the teacher's answers to other accounts, of each as nearly the same number as there are.

    Of very many accounts, those whose names' hashes are lowest.
    """
    wanted = (
        (pc.field("model") == teacher.name)
        & (pc.field("model_role") == "teacher")
        & (pc.field("status") == 200)
        & pc.field("messages").is_valid()
        & ~pc.field("account").isin(sorted(without))
    )
    counts: Counter[str] = Counter()
    for batch in lake.batches(["account"], wanted):
        counts.update(batch["account"].to_pylist())
    names = sorted(counts, key=_hash)[:MOST_ACCOUNTS]
    each = evenly({name: counts[name] for name in names}, most)
    ids = _drawn(lake, wanted & pc.field("account").isin(names), dict.fromkeys(names, each), 0)
    return _taken(_records(lake, ids), Rights({}, frozenset(), teacher, opted_out), _OTHERS)


def evenly(counts: Mapping[str, int], most: int) -> int:
    """Return how many of each there may be at most, so that all together are `most` or just above, where there are."""
    low, high = 1, max(1, max(counts.values(), default=1))
    while low < high:
        middle = (low + high) // 2
        if sum(min(count, middle) for count in counts.values()) >= most:
            high = middle
        else:
            low = middle + 1
    return low


def _taken(records: Sequence[Record], rights: Rights, reasons: Sequence[str]) -> Taken:
    rules: list[tuple[str, Callable[[Record, Rights], bool]]] = [
        (rule.reason, rule.applies) for rule in RULES if rule.reason in reasons
    ]
    left_out: Counter[str] = Counter()
    found = []
    for record in records:
        reason = next((name for name, applies in rules if applies(record, rights)), None)
        if reason is None:
            found.append(Collected(to_row(record), record.get("finish_reason") == "stop"))
        else:
            left_out[reason] += 1
    found.sort(key=lambda one: (one.row.time, one.row.id))
    rows, left_out["duplicate"] = keep_first(found)
    return Taken(tuple(rows), {reason: count for reason, count in left_out.items() if count})


def _drawn(lake: Lake, wanted: pc.Expression, each: Mapping[str, int], most: int) -> list[str]:
    """Return the ids of the rows with the lowest hashes: of each account that many, or `most` of all of them."""
    kept: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for batch in lake.batches(["id", "account"], wanted):
        for row_id, account in zip(batch["id"].to_pylist(), batch["account"].to_pylist(), strict=True):
            heap, size = kept[account if each else ""], each.get(account, most)
            item = (-_hash(row_id), row_id)
            if len(heap) < size:
                heapq.heappush(heap, item)
            elif item > heap[0]:
                heapq.heapreplace(heap, item)
    return [row_id for heap in kept.values() for _, row_id in heap]


def _records(lake: Lake, ids: Sequence[str]) -> list[dict[str, Any]]:
    rows = lake.read(columns=[*COLUMNS, "prompt"], filter=pc.field("id").isin(ids)).to_pylist() if ids else []
    return [_in_messages(from_row(row)) for row in rows]


def _in_messages(record: dict[str, Any]) -> dict[str, Any]:
    """A completion's prompt is what its user said."""
    if record.get("messages") or not isinstance(record.get("prompt"), str):
        return record
    return record | {"messages": [{"role": "user", "content": record["prompt"]}]}


def _plain(message: Mapping[str, Any]) -> dict[str, str]:
    """Templates of chats know three roles, and text: a tool's result is something that the model was told."""
    role = message.get("role")
    known = "system" if role == "developer" else role if role in _ROLES else "user"
    return {"role": str(known), "content": content_text(message.get("content"))}


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8])
