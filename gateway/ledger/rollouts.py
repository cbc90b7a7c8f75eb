"""The staged rollout of a candidate: shadow → 1 → 10 → 50 % of the requests that it is adequate for, then promotion.

A person starts each stage, and only once live pairs have proven the one before; back it goes by itself. The stage is in
the registry row (`rollout`), so that routing needs nothing else. The incumbent goes on until the promotion.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from gateway.ledger import audit, registry
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now, to_rfc3339
from gateway.ledger.registry import Student

# What share of its requests a candidate answers; in the shadow it is asked afterwards, and nobody gets its answers.
STAGES = {"shadow": 0.0, "1": 0.01, "10": 0.1, "50": 0.5}
_ORDER = (None, *STAGES)


def stage_of(student: Student) -> str | None:
    """Return a candidate's stage, or None where no rollout is under way."""
    return (student.rollout or {}).get("stage") if student.state == "candidate" else None


def share_of(student: Student) -> float:
    """Return what share of the requests that it is adequate for `auto` may give a student."""
    return 1.0 if student.state == "promoted" else STAGES.get(stage_of(student) or "", 0.0)


def advance(connection: sa.Connection, reference: str, operator: str, note: str = "") -> Student:
    """Begin a candidate's next stage; after 50 % promote it. `Forbidden` until live pairs have proven the stage."""
    student = registry.get(connection, reference)
    if student.state != "candidate":
        raise Forbidden(f"{student.reference} is {student.state}: only a candidate, proven by the gate, is rolled out")
    stage = stage_of(student)
    if stage is not None and (student.rollout or {}).get("outcome") != "passed":
        raise Forbidden(
            f"live pairs have not proven {student.reference} at the stage {stage} yet: `spiritsafe distill watch "
            f"{student.reference}` compares answers and says how many are missing"
        )
    if stage == _ORDER[-1]:
        return registry.promote(connection, student.reference, operator, note)
    following = _ORDER[_ORDER.index(stage) + 1]
    return _move(connection, student, operator, note, {"stage": following, "since": to_rfc3339(now()), "looks": 0})


def stop(connection: sa.Connection, reference: str, actor: str, reason: str) -> Student:
    """End a rollout: the candidate answers nothing of `auto` any more. `Forbidden` where none is under way."""
    student = registry.get(connection, reference)
    if stage_of(student) is None:
        raise Forbidden(f"no rollout of {student.reference} is under way")
    return _move(connection, student, actor, reason, {"stage": None, "stopped": reason, "time": to_rfc3339(now())})


def back(connection: sa.Connection, reference: str, operator: str, note: str = "") -> Student:
    """Take a student out of `auto`, promoted or being rolled out; it is a candidate and its process goes on."""
    under_way = stage_of(registry.get(connection, reference)) is not None
    return (stop if under_way else registry.rollback)(connection, reference, operator, note)


def record_look(connection: sa.Connection, reference: str, look: dict[str, Any]) -> Student:
    """Keep what the live pairs of the stage said last: outcome, pairs, agreement and bounds; a look is spent."""
    student = registry.get(connection, reference)
    return registry.set_rollout(connection, student, {**(student.rollout or {}), **look})


def _move(connection: sa.Connection, student: Student, actor: str, note: str, rollout: dict[str, Any]) -> Student:
    before, after = {"stage": stage_of(student)}, {"stage": rollout["stage"]}
    action = "student.stage" if rollout["stage"] else "student.stop_rollout"
    audit.record(connection, actor, action, student.reference, before=before, after=after, reason=note)
    return registry.set_rollout(connection, student, rollout)
