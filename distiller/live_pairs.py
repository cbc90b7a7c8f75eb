"""A rollout's live pairs: requests of real traffic that both models answered, compared, and what follows from it.

In the shadow the candidate is asked afterwards what the teacher was asked; from 1 % on, the teacher what the candidate
was. So the request path does nothing for it, and nobody waits. Nobody knows the right answers here: what is compared is
how often both say the same, with how often they did before the gate. Each look spends a part of α, 1 ÷ k(k + 1) of it
for the k-th, because nobody knows how many there will be. Texts are not kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from distiller.evaluation import Served, ask_one, normalised
from distiller.fixed_rules import rule_of
from distiller.proportions import wilson
from distiller.rows import Row
from distiller.selection import COLUMNS, to_row
from distiller.slices import slices_of, staying
from gateway.ledger import registry, rollouts
from gateway.ledger.database import Database
from gateway.ledger.distance import Distance
from gateway.ledger.errors import Forbidden, InvalidValue
from gateway.ledger.identifiers import from_rfc3339
from gateway.ledger.lake import Lake, millisecond
from gateway.ledger.registry import Student
from gateway.ledger.traffic import from_row
from gateway.settings import Settings

LEAST_PAIRS = 100
MOST_AT_ONCE = 200
ALPHA = 0.05
ACTOR = "rollout"

Outcome = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Look:
    """What the live pairs of a stage say: `agreed` of `pairs`, the bounds of that share, and what it has to reach."""

    outcome: Outcome
    stage: str
    pairs: int
    agreed: int
    low: float
    high: float
    least: float
    looks: int


@dataclass(frozen=True)
class Watch:
    """What watching needs: settings, control plane, and how many requests it may ask about at once."""

    settings: Settings
    database: Database
    most: int = MOST_AT_ONCE


def look(watch: Watch, reference: str) -> Look:
    """Compare new live pairs of a candidate's stage and take the next look; a failed one ends the rollout by itself.

    Raises `Forbidden` where no rollout is under way, `InvalidValue` where the gate's report lacks the agreement.
    """
    with watch.database.read() as connection:
        student = registry.get(connection, reference)
    stage = rollouts.stage_of(student)
    if stage is None:
        raise Forbidden(f"no rollout of {student.reference} is under way: `spiritsafe models advance` begins one")
    notes = watch.settings.data_dir / "rollouts" / f"{student.reference}.jsonl"
    noted = (entry for entry in _read(notes) if entry["stage"] == stage and entry["since"] == _since(student))
    known = {entry["id"]: entry for entry in noted}  # two may have watched at once
    fresh = _unseen(watch, student, set(known))
    pairs = [*known.values(), *_compare(watch, student, fresh, notes)]
    taken = _decide(student, stage, [entry["agreed"] for entry in pairs], new=len(fresh))
    with watch.database.write() as connection:
        rollouts.record_look(connection, student.reference, vars(taken))
        if taken.outcome == "failed":
            rollouts.stop(connection, student.reference, ACTOR, _words(taken))
    return taken


def decide(agreed: Sequence[bool], expected: float, margin: float, looks: int) -> tuple[Outcome, float, float]:
    """Return the outcome of the `looks`-th look and the bounds of the agreement, each one-sided at what it spends.

    It fails when the agreement is surely below what was expected less the margin, and passes when it is surely above.
    """
    low, high = wilson(sum(agreed), len(agreed), ALPHA / (looks * (looks + 1)))
    if len(agreed) < LEAST_PAIRS:
        return "undecided", low, high
    if high < expected - margin:
        return "failed", low, high
    return ("passed" if low > expected - margin else "undecided"), low, high


def _decide(student: Student, stage: str, agreed: Sequence[bool], new: int) -> Look:
    gate, rollout = student.gate or {}, student.rollout or {}
    if "agreement" not in gate:
        raise InvalidValue(
            f"the gate's report of {student.reference} lacks the agreement: train and evaluate a new version"
        )
    expected, margin = float(gate["agreement"]), rule_of(student).margin
    spent = int(rollout.get("looks", 0))
    # Without new pairs there is nothing to look at, and nothing to spend.
    looks = spent + 1 if new and len(agreed) >= LEAST_PAIRS else max(1, spent)
    outcome, low, high = decide(agreed, expected, margin, looks)
    looks = looks if len(agreed) >= LEAST_PAIRS else spent
    return Look(outcome, stage, len(agreed), sum(agreed), low, high, expected - margin, looks)


def _words(taken: Look) -> str:
    return (
        f"at the stage {taken.stage} both said the same in {taken.agreed} of {taken.pairs} live pairs, surely less "
        f"than {taken.high:.1%}, where {taken.least:.1%} are the least"
    )


def _since(student: Student) -> str:
    return str((student.rollout or {}).get("since"))


def _unseen(watch: Watch, student: Student, seen: set[str]) -> list[Row]:
    """Return the newest requests of the stage that are still to be compared, of those that are near enough."""
    begun = from_rfc3339(_since(student))
    role = "teacher" if rollouts.stage_of(student) == "shadow" else "student"
    model = student.teacher if role == "teacher" else student.reference
    wanted = (pc.field("skeleton") == student.skeleton) & (pc.field("endpoint") == student.endpoint)
    wanted = wanted & (pc.field("model") == model) & (pc.field("time") >= millisecond(begun))
    wanted = wanted & (pc.field("status") == 200)
    table = Lake.of(watch.settings).read([*COLUMNS, "route"], wanted)
    protected = staying(student.gate or {})
    distance = Distance.load(Path(str(student.adequacy)))
    found: list[Row] = []
    for stored in table.sort_by([("time", "descending")]).to_pylist():
        record = from_row(stored)
        if len(found) == watch.most or record["id"] in seen or not _is_comparable(record):
            continue
        if slices_of(record.get("metadata"), protected):
            continue  # the teacher's, whatever comes of the rollout
        row = to_row(record)
        if role == "student" or distance.distance(row.text) <= distance.threshold:
            found.append(row)
    return found


def _is_comparable(record: dict[str, Any]) -> bool:
    content = (record.get("response") or {}).get("content")
    automatic = (record.get("route") or {}).get("reason") != "pinned"
    return bool(record.get("messages")) and isinstance(content, str) and not record.get("tools") and automatic


def _compare(watch: Watch, student: Student, rows: Sequence[Row], notes: Path) -> list[dict[str, Any]]:
    """Ask the other model each request, and note by id whether both said the same."""
    if not rows:
        return []
    stage = rollouts.stage_of(student)
    other = _served(watch.settings, student, teacher=stage != "shadow")
    answers = asyncio.run(ask_one(rows, other))
    made = [
        {"id": row.id, "stage": stage, "since": _since(student), "agreed": normalised(row.answer) == normalised(answer)}
        for row, answer in zip(rows, answers, strict=True)
    ]
    notes.parent.mkdir(parents=True, exist_ok=True)
    torn = notes.exists() and notes.read_bytes()[-1:] not in (b"", b"\n")
    with notes.open("a", encoding="utf-8") as file:
        file.write("\n" * torn + "".join(json.dumps(entry) + "\n" for entry in made))
    return made


def _served(settings: Settings, student: Student, *, teacher: bool) -> Served:
    if not teacher:
        if student.url is None:
            raise InvalidValue(f"{student.reference} is not served: start `spiritsafe up`")
        return Served(student.url, student.reference)
    model = settings.model(student.teacher)
    if model is None:
        raise InvalidValue(f"the teacher {student.teacher!r} is not in the settings: declare it as [[models]] again")
    return Served(model.urls[0], model.name)


def _read(notes: Path) -> Iterator[dict[str, Any]]:
    """Yield what was noted; half a line, of a watch that was killed, is a pair that is asked again."""
    if notes.exists():
        for line in notes.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(json.JSONDecodeError):
                yield json.loads(line)
