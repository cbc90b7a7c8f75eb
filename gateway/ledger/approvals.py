"""Approvals: one or two persons' yes to exactly these bytes, never by the one who asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from gateway.ledger import audit
from gateway.ledger.database import UtcTime, metadata
from gateway.ledger.errors import Forbidden
from gateway.ledger.identifiers import now

table = sa.Table(
    "approvals",
    metadata,
    sa.Column("snapshot", sa.String, primary_key=True),
    sa.Column("approver", sa.String, primary_key=True),
    sa.Column("requested_by", sa.String, nullable=False),
    sa.Column("time", UtcTime, nullable=False),
    sa.Column("note", sa.String, nullable=False),
)


@dataclass(frozen=True)
class Approval:
    """An approver's yes to the snapshot of that hash."""

    snapshot: str
    approver: str
    requested_by: str
    time: datetime
    note: str


def give(
    connection: sa.Connection, snapshot: str, approver: str, requested_by: str, note: str, needed: int = 1
) -> Approval:
    """Record an approval; `Forbidden` when the approver is the requester.

    Once as many as `needed` have approved, the one who was last stands; the same person twice is one person.
    """
    if approver == requested_by:
        raise Forbidden(f"{approver} asked for this snapshot, so somebody else must approve it")
    given = of(connection, snapshot)
    known = next((approval for approval in given if approval.approver == approver), complete(given, needed))
    if known is not None:
        return known
    approval = Approval(snapshot, approver, requested_by, now(), note)
    connection.execute(sa.insert(table).values(**vars(approval)))
    after = {"approved": True}
    audit.record(
        connection, approver, "snapshot.approve", snapshot, after=after, reason=note, requested_by=requested_by
    )
    return approval


def of(connection: sa.Connection, snapshot: str) -> list[Approval]:
    """Return the approvals of a snapshot's full hash, oldest first."""
    query = sa.select(table).where(table.c.snapshot == snapshot).order_by(table.c.time, table.c.approver)
    return [Approval(**row._mapping) for row in connection.execute(query)]


def complete(given: Sequence[Approval], needed: int) -> Approval | None:
    """Return the approval that made them enough, or None while they are not."""
    return given[needed - 1] if len(given) >= needed else None


def every(connection: sa.Connection) -> dict[str, list[Approval]]:
    """Return all approvals by snapshot, oldest first."""
    found: dict[str, list[Approval]] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.time, table.c.approver)):
        found.setdefault(row.snapshot, []).append(Approval(**row._mapping))
    return found
