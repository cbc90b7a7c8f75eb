"""The registry of students: what was trained, from what, how it was proven, where it is served.

States: `trained` → (gate) → `candidate` or `refused`; `candidate` → (a person) → `promoted`; `promoted` → `retired`.
Whichever of these is served also retires when rows that it learnt from were withdrawn and its time is over.
A state never changes the process that serves a student: `up` serves all but `refused` and `retired`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import Json, UtcTime, metadata
from gateway.ledger.errors import AlreadyExists, Forbidden, NotFound

State = Literal["trained", "candidate", "refused", "promoted", "retired"]
SERVED: tuple[State, ...] = ("trained", "candidate", "promoted")

table = sa.Table(
    "registry",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("task", sa.String, nullable=False),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("skeleton", sa.String, nullable=False),
    sa.Column("snapshot", sa.String, nullable=False),
    sa.Column("teacher", sa.String, nullable=False),
    sa.Column("path", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False, index=True),
    sa.Column("created", UtcTime, nullable=False),
    sa.Column("parameters", sa.BigInteger, nullable=False),
    sa.Column("context_length", sa.Integer, nullable=False),
    sa.Column("licence", sa.String, nullable=False),
    sa.Column("training", Json, nullable=False),
    sa.Column("url", sa.String),
    sa.Column("adequacy", sa.String),
    sa.Column("gate", Json),
    sa.Column("input_price", sa.BigInteger),
    sa.Column("output_price", sa.BigInteger),
    sa.Column("price_basis", sa.String),
    sa.Column("promoted_by", sa.String),
    sa.Column("rollout", Json),
)


@dataclass(frozen=True)
class Student:
    """A student model.

    `path`: its folder of weights. `adequacy`: file of the fitted distance and its threshold. `url`: where `up` serves
    it, None while it is not served. `gate`: the gate's report. Prices are nano-dollars per token, set by the gate's
    evaluation with `price_basis` saying how. `training`: settings, seed, and `trained` (false for an untrained one).
    `rollout`: a candidate's stage (`gateway.ledger.rollouts`).
    """

    name: str
    version: int
    task: str
    endpoint: str
    skeleton: str
    snapshot: str
    teacher: str
    path: str
    state: State
    created: datetime
    parameters: int
    context_length: int
    licence: str
    training: dict[str, Any]
    url: str | None = None
    adequacy: str | None = None
    gate: dict[str, Any] | None = None
    input_price: int | None = None
    output_price: int | None = None
    price_basis: str | None = None
    promoted_by: str | None = None
    rollout: dict[str, Any] | None = None

    @property
    def reference(self) -> str:
        """`NAME@VERSION`, the name under which the student is served and recorded."""
        return f"{self.name}@{self.version}"


def add(connection: sa.Connection, student: Student, actor: str) -> Student:
    """Insert a student; `AlreadyExists` when that name and version is taken."""
    if find(connection, student.reference) is not None:
        raise AlreadyExists(f"{student.reference} exists already: a new training gets the next version")
    connection.execute(sa.insert(table).values(**vars(student)))
    after = {"state": student.state, "snapshot": student.snapshot}
    audit.record(connection, actor, "student.register", student.reference, after=after)
    return student


def next_version(connection: sa.Connection, name: str) -> int:
    """Return the first version that a student of this name has not used."""
    newest = connection.execute(sa.select(sa.func.max(table.c.version)).where(table.c.name == name)).scalar()
    return (newest or 0) + 1


def find(connection: sa.Connection, reference: str) -> Student | None:
    """Return a student by `NAME@VERSION`, or by `NAME` its promoted version (else its newest); None when unknown."""
    name, _, version = reference.partition("@")
    query = sa.select(table).where(table.c.name == name)
    if version:
        query = query.where(table.c.version == (int(version) if version.isdecimal() else -1))
    students = [Student(**row._mapping) for row in connection.execute(query.order_by(table.c.version.desc()))]
    promoted = [student for student in students if student.state == "promoted"]
    return next(iter(promoted or students), None)


def get(connection: sa.Connection, reference: str) -> Student:
    """Return a student; `NotFound` with the remedy when there is none."""
    student = find(connection, reference)
    if student is None:
        raise NotFound(f"no student is called {reference!r}: `spiritsafe models list` shows those there are")
    return student


def every(connection: sa.Connection) -> list[Student]:
    """Return all students, newest first."""
    return [Student(**row._mapping) for row in connection.execute(sa.select(table).order_by(table.c.created.desc()))]


def in_state(connection: sa.Connection, *states: State) -> list[Student]:
    """Return the students in any of the states."""
    return [student for student in every(connection) if student.state in states]


def set_url(connection: sa.Connection, reference: str, url: str | None) -> None:
    """Write where a student is served (None: not served); done by `up`."""
    _update(connection, get(connection, reference), url=url)


def record_gate(
    connection: sa.Connection,
    reference: str,
    passed: bool,
    gate: dict[str, Any],
    prices: tuple[int, int],
    price_basis: str,
    actor: str,
) -> Student:
    """Write the gate's report: a `trained` student becomes `candidate` or `refused`; `Forbidden` from other states."""
    student = get(connection, reference)
    if student.state != "trained":
        raise Forbidden(f"{reference} is {student.state}: the gate decides once, train a new version instead")
    state: State = "candidate" if passed else "refused"
    after = {"state": state, "prices": list(prices)}
    audit.record(
        connection,
        actor,
        f"student.{state}",
        student.reference,
        before={"state": student.state},
        after=after,
        verdict=gate.get("verdict"),
    )
    return _update(
        connection,
        student,
        state=state,
        gate=gate,
        input_price=prices[0],
        output_price=prices[1],
        price_basis=price_basis,
    )


def record_undecided(connection: sa.Connection, reference: str, gate: dict[str, Any], actor: str) -> Student:
    """Write the report of a test that ended without a verdict: the student stays `trained`, the test is spent."""
    student = get(connection, reference)
    if student.state != "trained":
        raise Forbidden(f"{reference} is {student.state}: the gate decides once, train a new version instead")
    audit.record(connection, actor, "student.undecided", student.reference, verdict=gate.get("verdict"))
    return _update(connection, student, gate=gate)


def promote(connection: sa.Connection, reference: str, operator: str, note: str = "") -> Student:
    """Let `auto` use a candidate; the task's promoted student, if any, retires. `Forbidden` for any other state."""
    student = get(connection, reference)
    if student.state != "candidate":
        raise Forbidden(f"{reference} is {student.state}: only a candidate, proven by the gate, can be promoted")
    for other in in_state(connection, "promoted"):
        if other.task == student.task:
            _update(connection, other, state="retired")
            _record_move(connection, operator, "student.retire", other, "retired", replaced_by=student.reference)
    _record_move(connection, operator, "student.promote", student, "promoted", note)
    return _update(connection, student, state="promoted", promoted_by=operator, rollout=None)


def rollback(connection: sa.Connection, reference: str, operator: str, note: str = "") -> Student:
    """Take a promoted student out of `auto`; it is a candidate again, its process goes on."""
    student = get(connection, reference)
    if student.state != "promoted":
        raise Forbidden(f"{reference} is {student.state}: only a promoted student can be rolled back")
    _record_move(connection, operator, "student.rollback", student, "candidate", note)
    return _update(connection, student, state="candidate", promoted_by=None)


def retire(connection: sa.Connection, reference: str, actor: str, reason: str) -> Student:
    """End a student: nobody serves it any more. `Forbidden` where it has ended already."""
    student = get(connection, reference)
    if student.state not in SERVED:
        raise Forbidden(f"{reference} is {student.state} already")
    _record_move(connection, actor, "student.retire", student, "retired", reason)
    return _update(connection, student, state="retired", promoted_by=None)


def set_rollout(connection: sa.Connection, student: Student, rollout: dict[str, Any]) -> Student:
    """Write a candidate's stage; done by `gateway.ledger.rollouts`, which keeps its rules."""
    return _update(connection, student, rollout=rollout)


def _record_move(
    connection: sa.Connection, operator: str, action: str, student: Student, state: State, note: str = "", **detail: str
) -> None:
    before, after = {"state": student.state}, {"state": state}
    audit.record(connection, operator, action, student.reference, before=before, after=after, reason=note, **detail)


def _update(connection: sa.Connection, student: Student, **values: Any) -> Student:
    where = sa.and_(table.c.name == student.name, table.c.version == student.version)
    connection.execute(sa.update(table).where(where).values(**values))
    return replace(student, **values)
