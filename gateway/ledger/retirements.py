"""Students that learnt from rows which were withdrawn or erased since: until when they may answer, and their end.

Such a student can't be made again: rows of its snapshot are gone. Policy (`[distiller] withdrawn_days`) says how
long it may go on while a successor is made; then it retires by itself, and `auto` goes to the teacher.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from gateway.ledger import marks, registry
from gateway.ledger.erasures import Erasure
from gateway.ledger.identifiers import now
from gateway.ledger.registry import Student


def retire_by(erasure: Erasure, days: int) -> datetime:
    """Return until when students may answer that learnt from what a request took away."""
    return erasure.begun + timedelta(days=days)


def deadline(connection: sa.Connection, student: Student, days: int) -> datetime | None:
    """Return until when a student may answer, or None where nothing was taken away that it learnt from."""
    found = marks.of(connection, "student", student.reference)
    return min((retire_by(erasure, days) for _, erasure in found), default=None)


def retire_due(connection: sa.Connection, days: int, actor: str, moment: datetime | None = None) -> list[str]:
    """Retire every student whose deadline is over; returns their references."""
    retired = []
    for student in registry.in_state(connection, *registry.SERVED):
        until = deadline(connection, student, days)
        if until is not None and until <= (moment or now()):
            reason = f"it learnt from rows that were withdrawn or erased; its time ended {until:%Y-%m-%d}"
            registry.retire(connection, student.reference, actor, reason)
            retired.append(student.reference)
    return retired
